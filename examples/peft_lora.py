"""LoRA adapters: TRL's own `peft_config`. With a KL term the reference is the model with its adapter switched off.

python examples/peft_lora.py [STEPS]
"""

import sys

from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig

from apportion import CreditGRPOTrainer, chain, embedded

if __name__ == "__main__":
    task = chain(n_train=64, n_eval=8)
    policy = embedded(task, pretrain={"steps": 50})
    trainer = CreditGRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=task.reward_funcs,
        train_dataset=Dataset.from_list(task.train),
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"),
        args=GRPOConfig(
            "runs/peft_lora",
            per_device_train_batch_size=32,
            num_generations=8,
            max_completion_length=48,
            max_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 20,
            learning_rate=1e-3,
            beta=0.02,
            logging_steps=1,
            bf16=False,
            save_strategy="no",
            report_to="none",
        ),
        credit="rloo",
    )
    trainer.train()
    trainer.save_model("runs/peft_lora/model")  # the adapter alone
