"""A policy that calls, an environment that pays, and one that goes wrong in every way; under torchrun (test_environments.py): on
this many ranks."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
    os.environ["ACCELERATE_USE_CPU"] = "true"
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import pytest
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from PIL import Image
from trl import GRPOConfig

from rewards.guard.verdict import RewardStop
from support.resumed import EVERY_STEP, goes_on_from_everywhere
from support.tiny import tiny_model
from tasks.environments.dialogue import Dialogue
from tasks.environments.notes import notes_of
from tasks.errands import Errands
from trainers.grpo import CreditGRPOTrainer
from trainers.model.embedded import closed_tokenizer

DIALOGUE = Dialogue("answer", "digit", (0, 1))
COUNT = 3
WRONG: dict[str, Any] = {
    "returns None": lambda: None,
    "returns a megabyte": lambda: "x" * 2**20,
    "returns an image": lambda: Image.new("RGB", (4, 4)),
    "returns an image for a processor": lambda: [{"type": "image", "image": Image.new("RGB", (4, 4))}],
    "returns half a character": lambda: "a\ud800",
    "returns bytes": lambda: b"1",
    "returns too long a number": lambda: 10**5000,
    "raises": lambda: {}["nothing"],
    "exits": lambda: sys.exit(1),
    "hangs": lambda: time.sleep(60),
}
KINDS = [*WRONG, "has no reset", "leaks"]
KINDS = [kind for pair in zip(KINDS, ["well"] * len(KINDS), strict=True) for kind in pair]


def conversation_tokenizer():
    words = ["start", "over", *(f"{kind}{digit}" for kind in ("do", "idle") for digit in (0, 1))]
    return closed_tokenizer([*DIALOGUE.vocabulary, *words], DIALOGUE)


def player(seed: int = 0):
    tokenizer = conversation_tokenizer()
    model = tiny_model(seed, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=0, initializer_range=0.4)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<eos>", *DIALOGUE.calls])
    return model


class Paid(Errands):
    """Errands that pay by themselves, as TRL's environments do."""

    def __init__(self):
        super().__init__(COUNT, 2, 0.0)

    def get_reward(self) -> float | None:
        return sum(self.rewards) + 0.5  # half a point for nothing in particular


class Hostile(Paid):
    """Goes wrong in every other conversation. In which way follows from the number of the instance and of the conversation."""

    made = 0

    def __init__(self):
        super().__init__()
        self.number, self.begun = Hostile.made, 0
        Hostile.made += 1

    def reset(self, seed: int = 0, **row):
        self.begun += 1
        self.kind, self.left = KINDS[(self.number + self.begun) % len(KINDS)], self.rewards
        torch.manual_seed(self.begun)  # what the policy samples from, which is put back
        if self.kind == "has no reset":
            raise RuntimeError("no reset today")
        return super().reset(seed)

    def answer(self, digit: int):
        """Answers.

        Args:
            digit: the digit.
        """
        shown = super().answer(digit)
        return WRONG[self.kind]() if self.kind in WRONG else shown

    def get_reward(self) -> float | None:
        if self.kind == "leaks":  # of the conversation before
            self.rewards = [*self.left, *[0.25] * 9, *self.rewards]
        return super().get_reward()


class Abstaining(Hostile):
    """Holds the same conversations without ever going wrong, and says itself that it cannot score them."""

    def reset(self, seed: int = 0, **row):
        self.begun += 1
        self.kind = KINDS[(self.number + self.begun) % len(KINDS)]
        self.failed = self.kind == "has no reset"
        shown = Paid.reset(self, seed)
        return None if self.failed else shown

    def answer(self, digit: int):
        """Answers.

        Args:
            digit: the digit.
        """
        if self.failed:
            raise ValueError("the environment does not answer")
        shown = Paid.answer(self, digit)
        if self.kind in WRONG:
            self.rewards.pop()
            self.failed = True
            raise ValueError("answer failed")
        return shown

    def get_reward(self) -> float | None:
        return None if self.failed or self.kind == "leaks" else Paid.get_reward(self)


class Broken(Paid):
    def reset(self, **row):
        raise RuntimeError("server is down")


def trainer(folder, make: Any = lambda: Errands(COUNT, 2, 0.0), credit="turns", rows=8, funcs=(), **options):
    """Groups of four, a conversation of `COUNT` errands, four threads' worth of seconds for nothing: calls have one second."""
    settings = EVERY_STEP | dict(
        per_device_train_batch_size=8, num_generations=4, max_completion_length=24, max_tool_calling_iterations=COUNT
    )
    seconds = options.pop("environment_timeout", 1.0)
    prompt = [{"role": "user", "content": "start"}]
    return CreditGRPOTrainer(
        model=player(),
        reward_funcs=list(funcs),
        args=GRPOConfig(str(folder), **(settings | options)),
        train_dataset=Dataset.from_list([{"prompt": prompt, "seed": seed} for seed in range(rows)]),
        processing_class=conversation_tokenizer(),
        environment_factory=make,
        credit=credit,
        environment_timeout=seconds,
    )


def costs_its_rows_and_nothing_else(folder: Path, rows: int, **options) -> None:
    """Three steps with the hostile environment end with the bits of three in which its rows abstained, and it is counted.

    Args:
        rows: conversations of a step on this rank.
    """
    weights, talks, faults = {}, {}, set()
    for kind in (Hostile, Abstaining):
        Hostile.made = rows * int(os.environ.get("RANK", 0))
        made = trainer(
            folder / kind.__name__,
            kind,
            rows=16,
            max_steps=3,
            save_strategy="no",
            per_device_train_batch_size=rows,
            environment_timeout=0.2,
            **options,
        )
        made._fault_limit.share = 1.0
        said, shares = talks.setdefault(kind, []), []

        def note(trainer, scoring, said=said, shares=shares):
            said += scoring.completions
            spoilt = [env.kind if notes_of(env).fault else None for env in trainer.environments]
            faults.update(filter(None, spoilt))
            everywhere = gather_object(spoilt)
            shares.append(sum(kind is not None for kind in everywhere) / len(everywhere))

        made.scoring_observers.append(note)
        made.train()
        weights[kind] = {name: value.clone() for name, value in made.model.named_parameters()}
        failed = [row["environments/failed"] for row in made.state.log_history if "environments/failed" in row]
        assert failed == pytest.approx(shares, abs=1e-4) and len(failed) == 3, (failed, shares)
        assert all(0 < share < 0.8 if kind is Hostile else share == 0 for share in failed), failed
    assert talks[Hostile] == talks[Abstaining] and len(talks[Hostile]) == 3 * rows
    seen = set(gather_object(sorted(faults)))
    assert seen == {*KINDS} - {"well"}, {*KINDS} - seen
    start = dict(player().named_parameters())
    for name, value in weights[Hostile].items():
        assert torch.equal(value, weights[Abstaining][name]), name
    assert any((value - start[name]).abs().max() > 1e-4 for name, value in weights[Hostile].items())


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    costs_its_rows_and_nothing_else(folder / "hostile", 12, ddp_find_unused_parameters=False)
    half = dict(per_device_train_batch_size=4, ddp_find_unused_parameters=False)
    goes_on_from_everywhere(lambda at: trainer(at, Paid, **half), folder / "resume", 8, cuts=[3])
    rank = torch.distributed.get_rank()
    broken = trainer(folder / "broken", Broken if rank else Paid, save_strategy="no", **half)
    broken._fault_limit.share = 0.4
    try:
        broken.train()
    except RewardStop as error:  # on both, though one's environments are well
        assert "server is down" in str(error)
    else:
        raise AssertionError(f"rank {rank} went on")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
