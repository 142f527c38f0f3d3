"""Memory and speed of GRPO on one GPU, on random weights of a recipe's shape: the formula of `--dry-run` against what the
allocator counts, and tokens a second over stock TRL, with transformers' generate and its continuous batching.

    python benchmarks/cost/memory.py [--models 0.5B 1.5B] [--adapter] [--rows 8] [--length 512] [--steps 4] [--out memory.json]

Every run takes turns in processes of its own, so that nothing of one is left in the next; each makes `--steps` steps on
the same prompts from the same weights, the first of which is not counted for time. `--models tiny` tries the script on
a CPU, where memory is not measured. Completions have the full length (no end of text), so all make the same tokens.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

GB = 1e9
PROMPT = 64
KINDS = [(who, how) for who in ("trl", "apportion") for how in ("generate", "continuous batching")]


def measured(given: argparse.Namespace, model_name: str, who: str, how: str) -> dict[str, Any]:
    """One run: peak bytes, the formula's, seconds and tokens a second."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from trainers.grpo import CreditGRPOTrainer
    from trainers.model.embedded import byte_tokenizer
    from trainers.model.pretrained import adapter_config
    from trainers.plan.forecast import MAKES_TILES
    from trainers.plan.memory import Load, memory_of
    from trainers.plan.shape import shape_of

    on_gpu = torch.cuda.is_available()
    torch.manual_seed(0)
    config = configuration(model_name)
    dtype = torch.bfloat16 if given.adapter else torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    tokenizer = byte_tokenizer()
    accumulated = max(1, 64 // given.rows)
    paged = (
        "use_transformers_continuous_batching" if hasattr(GRPOConfig, "use_transformers_continuous_batching") else ""
    )
    paged = paged or "use_transformers_paged"
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=given.rows,
            gradient_accumulation_steps=accumulated,
            num_generations=8,
            max_completion_length=given.length,
            max_steps=given.steps,
            generation_kwargs={"min_new_tokens": given.length},
            loss_type="dr_grpo",
            scale_rewards="none",
            bf16=on_gpu,
            use_cpu=not on_gpu,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            **({paged: True} if how == "continuous batching" else {}),
        )
        kinds: dict[str, Any] = {"apportion": (CreditGRPOTrainer, {"credit": "dr_grpo"}), "trl": (GRPOTrainer, {})}
        make, extra = kinds[who]
        trainer = make(
            model=model,
            reward_funcs=_vowels,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [chr(97 + i % 26) * PROMPT for i in range(512)]}),
            processing_class=tokenizer,
            peft_config=adapter_config("lora") if given.adapter else None,
            **extra,
        )
        trainer.remove_callback(PrinterCallback)
        times: list[float] = []
        trainer.add_callback(_Clock(times))
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    shape = shape_of(config, dtype, adapter_config("lora") if given.adapter else None)
    load = Load(given.rows, PROMPT, given.length, generated=given.rows * accumulated, makes_tiles=MAKES_TILES)
    seconds = (times[-1] - times[0]) / max(1, len(times) - 1)
    return {
        "model": model_name,
        "trainer": who,
        "generation": how,
        "seconds_per_step": seconds,
        "tokens_per_second": given.rows * accumulated * given.length / seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / GB if on_gpu else None,
        "reserved_gb": torch.cuda.max_memory_reserved() / GB if on_gpu else None,
        "formula_gb": memory_of(shape, load).peak / GB,
    }


def configuration(name: str) -> Any:
    from transformers import Qwen2Config

    from trainers.plan.forecast import config_of_known

    if name == "tiny":
        return Qwen2Config(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=300,
        )
    return config_of_known(f"Qwen/Qwen2.5-{name}-Instruct")


def _vowels(completions: list[str], **_: Any) -> list[float]:
    return [sum(letter in "aeiou" for letter in text) / max(1, len(text)) for text in completions]


def _Clock(times: list[float]) -> Any:
    """A callback that notes when each step ends."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            times.append(time.perf_counter())

    return Clock()


def _child(queue: Any, *given: Any) -> None:
    try:
        queue.put(measured(*given))
    except Exception as error:  # one kind that a release lacks is no reason to lose the others
        queue.put({"model": given[1], "trainer": given[2], "generation": given[3], "failed": f"{error}"[:300]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["0.5B", "1.5B"], choices=["tiny", "0.5B", "1.5B", "7B"])
    parser.add_argument("--adapter", action="store_true")
    for name, default in (("rows", 8), ("length", 512), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", default=None)
    given = parser.parse_args()
    context, found = multiprocessing.get_context("spawn"), []
    for model_name in given.models:
        for who, how in KINDS:
            queue = context.Queue()
            process = context.Process(target=_child, args=(queue, given, model_name, who, how))
            process.start()
            found.append(queue.get())
            process.join()
            print(json.dumps(found[-1]), flush=True)
    if given.out:
        versions = {name: version(name) for name in ("torch", "transformers", "trl", "accelerate")}
        facts = {"command": f"python benchmarks/cost/memory.py {' '.join(sys.argv[1:])}", "versions": versions}
        Path(given.out).write_text(
            json.dumps({**facts, "card": _card(), "runs": found}, indent=1) + "\n", encoding="utf-8"
        )


def _card() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
