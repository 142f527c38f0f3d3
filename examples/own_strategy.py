"""A strategy of one's own: a function whose parameter names say what it needs.

python examples/own_strategy.py [STEPS]
python train_grpo.py credit=examples/own_strategy.py:late credit.spread.power=2      # the same, from the command line
"""

import sys

from datasets import Dataset
from trl import GRPOConfig

from apportion import CreditGRPOTrainer, Strategy, baseline, chain, declares, embedded, weight


@declares(unbiased=False, weight_class="future", row_constant=False, source="ours")
def late(advantages_B, mask_BT, power=1.0):
    """Later tokens get more of their completion's advantage."""
    progress_BT = mask_BT.cumsum(1) / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return advantages_B[:, None] * progress_BT**power


if __name__ == "__main__":
    task = chain(n_train=64, n_eval=8)
    policy = embedded(task, pretrain={"steps": 50})
    trainer = CreditGRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=task.reward_funcs,
        train_dataset=Dataset.from_list(task.train),
        args=GRPOConfig(
            "runs/own_strategy",
            per_device_train_batch_size=32,
            num_generations=8,
            max_completion_length=48,
            max_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 20,
            learning_rate=3e-4,
            logging_steps=1,
            bf16=False,
            save_strategy="no",
            report_to="none",
        ),
        credit=Strategy(baseline=baseline.leave_one_out, spread=late, weight=weight.constant, name="late"),
    )
    trainer.train()
