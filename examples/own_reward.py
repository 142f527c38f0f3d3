"""A reward of one's own beside a task's, on a model that needs no hub.

python examples/own_reward.py [STEPS]
"""

import sys

from datasets import Dataset
from trl import GRPOConfig

from apportion import CreditGRPOTrainer, chain, embedded, guarded


def brief(completions, **columns):
    """Shorter is better; one number a completion, or None where there is nothing to say."""
    return [-len(text) / 100 for text in completions]


if __name__ == "__main__":
    task = chain(n_train=64, n_eval=8)
    policy = embedded(task, pretrain={"steps": 50})  # of your own: hf(task, name="Qwen/Qwen2.5-0.5B-Instruct")
    trainer = CreditGRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=[*task.reward_funcs, guarded(brief)],  # guarded: an exception or a hang costs its row, not the run
        train_dataset=Dataset.from_list(task.train),
        args=GRPOConfig(
            "runs/own_reward",
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
        credit="dr_grpo",
    )
    trainer.train()
