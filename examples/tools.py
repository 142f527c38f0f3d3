"""Tools: functions with type hints and a docstring, which TRL calls for the model. What a tool answers is no token of the
policy's: it gets neither credit nor weight.

python examples/tools.py [MODEL] [STEPS]      # a chat model whose tool calls TRL can read; pip install "apportion[tools]"
"""

import sys

import torch
from datasets import Dataset
from trl import GRPOConfig

from apportion import CreditGRPOTrainer


def multiply(a: int, b: int) -> int:
    """Multiplies two integers.

    Args:
        a: The first.
        b: The second.

    Returns:
        The product.
    """
    return a * b


def right(completions, answer, **columns):
    """1 where the last message has the answer in it."""
    return [float(str(want) in str(turns[-1]["content"])) for turns, want in zip(completions, answer, strict=True)]


if __name__ == "__main__":
    pairs = [(a, b) for a in range(11, 19) for b in range(21, 29)]
    rows = [
        {"prompt": [{"role": "user", "content": f"What is {a} times {b}? Use the tool."}], "answer": a * b}
        for a, b in pairs
    ]
    trainer = CreditGRPOTrainer(
        model=sys.argv[1] if len(sys.argv) > 1 else "Qwen/Qwen3-0.6B",
        reward_funcs=right,
        tools=[multiply],
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            "runs/tools",
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=256,
            max_steps=int(sys.argv[2]) if len(sys.argv) > 2 else 20,
            learning_rate=1e-6,
            logging_steps=1,
            bf16=torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
        ),
        credit="dr_grpo",
    )
    trainer.train()
