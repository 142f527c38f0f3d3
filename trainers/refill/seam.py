"""Dynamic sampling: groups whose rewards have no spread make room for groups of other prompts (DAPO, arXiv 2503.14476, section 3.2).

TRL samples by `_generate`: a list of prompts goes in, lists with an entry for each row come out. All that follows, padding,
forward passes, counts, rewards and tables, is made of these lists. So rows are exchanged here, in between, and TRL goes on with
a batch that might have been sampled so. In a round

    what was sampled is scored              by the run's rewards, once: when TRL asks for them, it gets what is known
    groups without spread are found         from the rewards of all ranks, so that all agree
    the reserve gives as many prompts       trainers/refill/reserve.py; a few more, where ranks could not share them evenly
    TRL's `_generate` is asked for these    and those of their groups that have spread take the places

The two lists that TRL reads again afterwards, the rows it was given and the prompts it hands to `_generate`, are written into.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from credit.reduce import group_centred
from rewards.guard import check_failures
from trainers.refill.filling import (
    COMPLETION_IDS,
    COMPLETIONS,
    LOGGED,
    Draw,
    Filling,
    Settled,
    extra_of,
    of_kind,
    row_by_row,
    shareable,
    written_of,
)
from trainers.refill.refusals import learns_without_spread, refuse_refill
from trainers.refill.reserve import Reserve
from trainers.seam.reference_reward import reads_reference
from trainers.seam.visit import Scoring
from trainers.signals.rescoring import weighted

logger = logging.getLogger(__name__)


class Refill:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods.

    Attributes:
        refill: rounds of a generation batch at most; 0: groups stay as they are.
    """

    refill: int = 0
    _reserve: Reserve

    def _prepare_refill(self, rounds: int) -> None:
        """At the end of `__init__`.

        Raises:
            ValueError: see `refuse_refill`; a training set that is a stream.
        """
        data, args = self.train_dataset, self.args
        has_environment = bool(getattr(self, "environment_factories", None))
        asked = any(map(reads_reference, self.reward_funcs))
        refuse_refill(rounds, has_environment, asked, getattr(data, "column_names", None) or ())
        if not rounds:
            return
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise ValueError(
                "sampling.refill takes prompts from anywhere in the training set, and this one is a stream. Load it with "
                "streaming=False, or set sampling.refill=0."
            )
        if self.credit is not None and self.accelerator.is_main_process and learns_without_spread(self.credit):
            logger.warning(
                "sampling.refill=%d takes groups without spread away, and credit strategy %r learns from them, too.",
                *(rounds, self.credit.name),
            )
        seed = args.seed if args.data_seed is None else args.data_seed
        shuffled = getattr(self, "shuffle_dataset", True)
        self._reserve = Reserve(lambda row: repr(data[row]["prompt"]), len(data), seed, shuffled)
        self.carried["reserve"] = self._reserve
        self.refill = rounds

    def _refilled(self, prompts: list, answer: tuple, scoring: Scoring | None) -> tuple:
        """What TRL's `_generate` gave for these prompts, with other groups in the place of those without spread."""
        if not self.refill or scoring is None or not self.model.training:
            return answer
        draw = self._scored(answer, scoring.rows, prompts)
        flat = self._flat_groups(draw.rewards_BK)
        groups, reward = len(draw.rewards_BK) // self.num_generations, weighted(draw.rewards_BK, self.reward_weights)
        numbers = {"flat_first": len(flat) / groups, "reward_first": reward.nanmean().item()}
        rounds, refilled, sampled, rewards_BK = 0, 0, len(draw.rewards_BK), draw.rewards_BK
        if flat:
            filling = self._begin_filling(draw, scoring.rows, prompts, flat)
            while filling.flat and rounds < self.refill:
                self._one_round(filling, scoring)
                rounds += 1
            answer = filling.answer(answer, self._tokens_of(filling))
            draw = Draw(answer, filling.rewards_BK, of_kind(filling.columns, LOGGED) or draw.logged)
            refilled, sampled, rewards_BK = len(flat) - len(filling.flat), filling.sampled, filling.rewards_BK
            flat = filling.flat
        self._pending_extra_logs.update(draw.logged)
        scoring.settled = Settled(prompts, rewards_BK)
        numbers |= {"flat": len(flat) / groups, "refilled": refilled / groups, "rounds": rounds, "completions": sampled}
        for name, number in numbers.items():
            self._metrics["train"][f"sampling/{name}"].append(float(number))
        return answer

    def _begin_filling(self, draw: Draw, rows: list, prompts: list, flat: list[int]) -> Filling:
        keys = gather_object([repr(row["prompt"]) for row in rows])[:: self.num_generations]
        return Filling(draw, rows, prompts, keys, flat, self.accelerator.process_index)

    def _one_round(self, filling: Filling, scoring: Scoring) -> None:
        size, accelerator = self.num_generations, self.accelerator
        count = shareable(len(filling.flat), size, accelerator.num_processes)
        numbers = self._reserve.draw(count, [filling.tried, filling.kept])
        rows = [self._row(number, like=filling.rows[0]) for number in numbers]
        fresh = [dict(row) for row in rows for _ in range(size)]
        each = len(fresh) // accelerator.num_processes
        mine = fresh[accelerator.process_index * each :][:each]
        prompts = [row["prompt"] for row in mine]
        with self._unmeasured():
            answer = super()._generate(prompts)
        draw = self._scored(answer, mine, prompts)
        scoring.extra_tokens += sum(written_of(draw.columns()))
        columns = gather_object(row_by_row(draw.columns(), each))
        flat = set(self._flat_groups(draw.rewards_BK))
        filling.tried |= {repr(row["prompt"]) for row in fresh}
        filling.sampled += len(fresh)
        good = [slice(group * size, (group + 1) * size) for group in range(count) if group not in flat]
        for place, at in zip(filling.flat, good, strict=False):
            filling.take(place, fresh[at], columns[at], draw.rewards_BK[at], repr(fresh[at.start]["prompt"]))
        filling.flat = filling.flat[len(good) :]

    def _row(self, number: int, like: Mapping) -> dict[str, Any]:
        """A row of the training set with the columns that the loader gives."""
        row = self.train_dataset[number]
        return {name: row[name] for name in row if name in like}

    def _scored(self, answer: tuple, rows: list, prompts: list) -> Draw:
        """The answer with its rewards, as if TRL had asked for them. `log_extra` is taken out of TRL's hands for now."""
        extra = extra_of(answer)
        if extra:
            rows = [{**row, **{name: _entry(part, i) for name, part in extra.items()}} for i, row in enumerate(rows)]
        rows = self._with_openings(rows, prompts)
        rewards_BK = super()._calculate_rewards(rows, prompts, answer[COMPLETIONS], answer[COMPLETION_IDS])
        check_failures(self.reward_funcs, gather_object)
        logged = dict(self._pending_extra_logs)
        self._pending_extra_logs.clear()
        return Draw(answer, rewards_BK, logged)

    def _flat_groups(self, rewards_BK: Tensor) -> list[int]:
        """Numbers of the groups from which a comparison within the group learns nothing."""
        rewards_B = weighted(rewards_BK, self.reward_weights)
        group_B = torch.arange(len(rewards_B), device=rewards_B.device) // self.num_generations
        centred_B = group_centred(rewards_B, group_B)
        return (centred_B.view(-1, self.num_generations) == 0).all(dim=1).nonzero().flatten().tolist()

    def _tokens_of(self, filling: Filling) -> Tensor:
        written = torch.tensor(written_of(filling.columns), device=self.accelerator.device)
        return self.accelerator.gather(written).sum()

    @contextmanager
    def _unmeasured(self) -> Iterator[None]:
        """TRL's metrics of a call of `_generate` are of the first draw, and compare with those of a run without refill."""
        metrics = self._metrics["train"]
        before = {name: len(values) for name, values in metrics.items()}
        yield
        for name, values in metrics.items():
            del values[before.get(name, 0) :]


def _entry(part: Any, row: int) -> Any:
    return part[row] if isinstance(part, list) else part
