"""Records for the viewer, by one line: which token got which credit.

python examples/viewer_records.py [STEPS]
python -m compare.view runs/viewer_records        # writes credit.html there; `apportion view` does the same
"""

import sys

from datasets import Dataset
from trl import GRPOConfig

from apportion import CreditGRPOTrainer, CreditRecords, chain, embedded

if __name__ == "__main__":
    task = chain(n_train=64, n_eval=8)
    policy = embedded(task, pretrain={"steps": 50})
    trainer = CreditGRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=task.reward_funcs,
        train_dataset=Dataset.from_list(task.train),
        args=GRPOConfig(
            "runs/viewer_records",
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
        credit="seq_norm",
    )
    trainer.add_callback(CreditRecords("runs/viewer_records"))
    trainer.train()
