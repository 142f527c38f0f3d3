"""Step time of conversations with tools, over stock TRL with the same environment, side by side in one run.

    python benchmarks/cost/turns.py [--steps 6] [--rounds 5] [--out docs/results/agents/step_time.json]

All sides hold the same conversations (an environment that pays for each call; a model of the size of
`experiment=agents`) with the same seed at a learning rate of 0, so they write the same tokens and make the same calls,
which is checked; the order turns from round to round, and the ratio to TRL is taken in each round.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parent.parent.parent),
    str(Path(__file__).resolve().parent.parent.parent / "tests"),
]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from tiny_grpo import options
from transformers import PrinterCallback
from trl import GRPOTrainer

from support.ranks.environments import DIALOGUE, Paid, conversation_tokenizer
from support.tiny import tiny_model
from trainers.grpo import CreditGRPOTrainer

ARMS = {"TRL": None, "credit=dr_grpo": "dr_grpo", "credit=turns": "turns"}


class Played(Paid):
    state_key = None  # TRL takes every public method for a tool


def step_seconds(arm: str, given: argparse.Namespace) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean seconds of a step by the clock and of this process's CPU time, and the tokens and calls a row that were made."""
    tokenizer = conversation_tokenizer()
    size = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    model = tiny_model(0, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=0, initializer_range=0.1, **size)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<eos>", *DIALOGUE.calls])
    cls, extra = (GRPOTrainer, {}) if ARMS[arm] is None else (CreditGRPOTrainer, {"credit": ARMS[arm]})
    prompt = [{"role": "user", "content": "start"}]
    with tempfile.TemporaryDirectory() as folder:
        more = dict(loss_type="dr_grpo", scale_rewards="none", bf16=False, learning_rate=0.0)
        trainer = cls(
            model=model,
            reward_funcs=[],
            args=options(folder, given.batch, 32, given.steps, max_tool_calling_iterations=3, **more),
            train_dataset=Dataset.from_list([{"prompt": prompt, "seed": seed} for seed in range(256)]),
            processing_class=tokenizer,
            environment_factory=Played,
            **extra,
        )
        trainer.remove_callback(PrinterCallback)
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        seconds = (time.perf_counter() - wall) / given.steps, (time.process_time() - cpu) / given.steps
    tokens = max(row.get("num_tokens", 0.0) for row in trainer.state.log_history)
    calls = statistics.fmean(row["tools/call_frequency"] for row in trainer.state.log_history if "loss" in row)
    gc.collect()
    return seconds, (tokens, calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("steps", 6), ("rounds", 5), ("batch", 32), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=None, help="a JSON of what was measured")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    step_seconds("credit=turns", argparse.Namespace(**{**vars(given), "steps": 2}))  # warm caches
    names, rounds, work = list(ARMS), [], set()
    for number in range(given.rounds):
        turned = names[number % len(names) :] + names[: number % len(names)]
        seconds = {}
        for arm in turned:
            seconds[arm], wrote = step_seconds(arm, given)
            work.add(wrote)
        rounds.append({arm: {"clock": seconds[arm][0], "cpu": seconds[arm][1]} for arm in names})
        print(number + 1, *(f"{arm} {seconds[arm][0]:.3f} s ({seconds[arm][1]:.3f} CPU)" for arm in names), flush=True)
    if len(work) != 1:
        raise SystemExit(f"the sides did not do the same work: (tokens, calls a row) {sorted(work)}")
    ((tokens, calls),) = work
    found = {"steps": given.steps, "batch": given.batch, "tokens": tokens, "calls_a_row": calls, "rounds": rounds}
    found["over_trl"] = {
        arm: {kind: _spread([one[arm][kind] / one["TRL"][kind] for one in rounds]) for kind in ("clock", "cpu")}
        for arm in names[1:]
    }
    for arm, ratios in found["over_trl"].items():
        print(
            arm,
            *(f"{kind}: {one['median']:.3f} ({one['least']:.3f} to {one['most']:.3f})" for kind, one in ratios.items()),
        )
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
