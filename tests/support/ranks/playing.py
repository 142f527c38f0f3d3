"""Conversations played by an evaluation, of games that draw from every global source of numbers; under torchrun
(test_playing.py): on this many ranks."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
    os.environ["ACCELERATE_USE_CPU"] = "true"
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import numpy as np
import torch
from trl import GRPOConfig

from support.ranks.environments import COUNT, conversation_tokenizer, player
from tasks.base import Task
from tasks.environments.earned import EnvironmentReward
from tasks.errands import Errands
from trainers.evaluation.completions import Completion, Judges
from trainers.evaluation.trainer import EvaluationTrainer

ROWS = [{"prompt": [{"role": "user", "content": "start"}], "seed": seed} for seed in (3, 5, 8)]
PLACES = [(prompt, sample) for prompt in range(len(ROWS)) for sample in range(3)]


class Drawing(Errands):
    """Errands that follow from Python's, numpy's and torch's random numbers, drawn when they are begun and at every answer."""

    def __init__(self):
        super().__init__(COUNT, 2, 0.0)

    def reset(self, **row) -> str:
        return super().reset(random.randrange(1000) + 1000 * int(np.random.randint(1000)))

    def answer(self, digit: int) -> str:
        """Answers.

        Args:
            digit: the digit.
        """
        shown = super().answer(digit)
        self._errands = [(kind, int(torch.randint(2, ()))) for kind, _ in self._errands]
        return shown if len(self.rewards) == self.count else self._shown()


def played(folder: Path, make: Any = Drawing, batch: int = 9, places=PLACES, rows=ROWS, model=None, **options):
    """The completions, by place."""
    reward = EnvironmentReward()
    task = Task("game", rows, [], [reward], [1.0], environment=make)
    settings = dict(
        per_device_eval_batch_size=batch,
        per_device_train_batch_size=2,
        num_generations=2,
        num_generations_eval=1,
        max_completion_length=24,
        max_tool_calling_iterations=COUNT,
        report_to="none",
        disable_tqdm=True,
        bf16=False,
    )
    own = {
        key: options.pop(key)
        for key in list(options)
        if key in ("seed", "greedy", "failed_share", "environment_timeout")
    }
    trainer = EvaluationTrainer(
        model=player() if model is None else model,
        tokenizer=conversation_tokenizer(),
        args=GRPOConfig(str(folder), **(settings | options)),
        task=task,
        rows=rows,
        places=places,
        judges=Judges([reward], [1.0], ["environment"], "environment"),
        **({"seed": 0} | own),
    )
    trainer.evaluate()
    return {(one.prompt, one.sample): one for one in trainer.collector.completions}


def as_json(found: dict[tuple[int, int], Completion]) -> str:
    return json.dumps([found[place].as_dict() for place in sorted(found)])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for greedy in (False, True):
        found = played(folder, batch=2, greedy=greedy)
        if torch.distributed.get_rank() == 0:
            (folder / f"{greedy}.json").write_text(as_json(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
