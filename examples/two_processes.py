"""Two processes on the CPU. Denominators of a strategy are those of the whole batch, so two processes with half the rows
each make the update of one with all of them.

ACCELERATE_USE_CPU=true accelerate launch --config_file configs/accelerate/cpu_2.yaml examples/two_processes.py [STEPS]
"""

import sys

from datasets import Dataset
from trl import GRPOConfig

from apportion import CreditGRPOTrainer, chain, embedded

if __name__ == "__main__":
    task = chain(n_train=64, n_eval=8)
    policy = embedded(task, pretrain={"steps": 50})  # built by one process; the other waits
    trainer = CreditGRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=task.reward_funcs,
        train_dataset=Dataset.from_list(task.train),
        args=GRPOConfig(
            "runs/two_processes",
            per_device_train_batch_size=16,  # of each process
            num_generations=8,
            max_completion_length=48,
            max_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 20,
            learning_rate=3e-4,
            logging_steps=1,
            bf16=False,
            save_strategy="no",
            report_to="none",
            ddp_backend="gloo",
        ),
        credit="dr_grpo",
    )
    trainer.train()
    trainer.accelerator.print(f"{trainer.accelerator.num_processes} processes, {trainer.state.global_step} steps")
