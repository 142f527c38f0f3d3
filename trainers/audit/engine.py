"""The audit from the first batch to the record of all: sample, credit, differentiate, sketch, keep; then inner products.

Batches follow from their number and the seed alone, so an audit that was stopped goes on to the same bits.

Shapes: S strategies, B generation batches beside it, K numbers of a sketch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from credit.turns.index import turn_counts, turn_index
from trainers.audit.candidates import Candidate
from trainers.audit.collected import Collected
from trainers.audit.given.drift import drift_in_batch, together
from trainers.audit.given.tokens import GivenRow
from trainers.audit.gradients import Gradients, gradients_of
from trainers.audit.gram import gram_of
from trainers.audit.parameters import chosen_parameters
from trainers.audit.sketch import Sketch, sketch_of
from trainers.audit.store import Store, get, put
from trainers.audit.trainer import AuditTrainer, Scored
from trainers.audit.warmup import load_state, state_of, warm_up
from trainers.audit.where.shares import kept_rows, shares_as_dict, shares_in_batch
from trainers.audit.where.slices import Edges, edges_of

logger = logging.getLogger(__name__)
COARSE = 0.02
CHEAP = frozenset(["span_rewards_BT", "turn_rewards_BT", "token_ids_BT"])


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """How much is measured.

    Args:
        batches: generation batches; share_batches: of the first how many the shares of the update are measured.
        warmup: batches that members and critics learn from before, where there are any that learn.
        sketch: numbers kept of a gradient; None: all.
        parameters: see trainers/audit/parameters.py.
        seed: of completions and sketches.
    """

    batches: int = 32
    share_batches: int = 8
    warmup: int = 16
    sketch: int | None = 1 << 16
    parameters: str = "all"
    seed: int = 0


class Engine:
    """One audit of one policy.

    Args:
        trainer: with its candidates; the reference and the pseudo-strategy for length among them.
        rewards: names of the reward functions.
        told: called with (batches that are there, facts of the last one) by the main process.
    """

    def __init__(
        self,
        trainer: AuditTrainer,
        plan: AuditPlan,
        store: Store,
        rewards: Sequence[str],
        told: Callable[[int, dict[str, Any]], None] = lambda done, facts: None,
    ):
        self.trainer, self.plan, self.store, self.rewards, self.told = trainer, plan, store, list(rewards), told
        chosen = chosen_parameters(trainer.accelerator.unwrap_model(trainer.model), plan.parameters)
        self.parameters: list[nn.Parameter] = list(chosen.values())
        shapes = [parameter.shape for parameter in self.parameters]
        self.sketch: Sketch = sketch_of(shapes, plan.sketch, plan.seed, trainer.accelerator.device)
        self._twins = self._make_twins()

    @property
    def _main(self) -> bool:
        return self.trainer.accelerator.is_main_process

    @property
    def _rank(self) -> int:
        return self.trainer.accelerator.process_index

    def _make_twins(self) -> dict[int, list[Candidate]]:
        """Candidates whose update is shared out, each with one twin for each reward function where there are several and the credit
        asks no provider that would write or read texts again for each."""
        several = range(len(self.rewards)) if len(self.rewards) > 1 else ()
        return {
            number: [one.of_one_reward(place) for place in several] if _is_cheap(one) else []
            for number, one in enumerate(self.trainer.candidates)
            if not one.of_length and self.plan.share_batches > 0
        }

    def collect(self, about: dict[str, Any] | None = None) -> Collected:
        """Measures what is not there yet. Call it on all ranks; all get the record."""
        trainer, plan = self.trainer, self.plan
        rows = trainer.batches_of_rows()
        warmup = plan.warmup if any(candidate.learns for candidate in trainer.candidates) else 0
        self._warm_up(rows, warmup)
        done = min(self.store.done(trainer.accelerator.num_processes, self._shared), plan.batches)
        for _ in range(done):
            next(rows)
        for number in range(done, plan.batches):
            self._measure(number, next(rows))
        kept = [get(self.store.batch(number)) for number in range(plan.batches)]
        sketches, facts = [one["sketches_SK"] for one in kept], [one["facts"] for one in kept]
        shares, gap = self._shares(sketches, facts)
        reference = next(c.name for c in trainer.candidates if c.name == "rloo" or c.strategy.name == "rloo")
        return Collected(
            strategies=tuple(candidate.name for candidate in trainer.candidates),
            reference=reference,
            length=next((candidate.name for candidate in trainer.candidates if candidate.of_length), None),
            gram_SBSB=gram_of(sketches),
            completions=trainer.args.generation_batch_size,
            generations=trainer.num_generations,
            facts=facts,
            shares=shares,
            sketch={"kind": self.sketch.kind, "size": self.sketch.size, "parameters": self.sketch.parameters},
            about={**(about or {}), "warmup": warmup, "shares_gap": gap},
        )

    @property
    def _shared(self) -> int:
        return min(self.plan.share_batches, self.plan.batches)

    def _warm_up(self, rows, count: int) -> None:
        if not count:
            return
        if self.store.warm.is_file():
            for _ in range(count):
                next(rows)
            load_state(self.trainer.candidates, get(self.store.warm))
            return
        warm_up(self.trainer, rows, [self._seed(number - count) for number in range(count)])
        if self._main:
            put(self.store.warm, state_of(self.trainer.candidates))
        self.trainer.accelerator.wait_for_everyone()

    def _seed(self, number: int) -> int:
        """Of a batch; far from those of its neighbours' ranks. Batches before the first have negative numbers."""
        return (self.plan.seed * 1_000_003 + number * 1_009) % (2**31)

    def _measure(self, number: int, rows: list[dict[str, Any]]) -> None:
        trainer, started = self.trainer, time.perf_counter()
        extra = [twin for twins in self._twins.values() for twin in twins] if number < self._shared else []
        scored = trainer.scored(rows, self._seed(number), extra)
        sampled = time.perf_counter()
        found = gradients_of(trainer, scored, self.parameters, self.sketch, extra)
        if number < self._shared:
            put(self.store.rows(number, self._rank), kept_rows(scored.inputs[0], scored.mask_BT, found.coefficients))
        trainer.accelerator.wait_for_everyone()
        facts = {
            **_facts(scored, trainer.num_generations),
            **self._texts(scored.mask_BT),
            **self._drift(rows, scored.mask_BT, found),
            "passes": found.directions,
            "parts": trainer.blocks,
            "seconds": {
                "batch": time.perf_counter() - started,
                "sampling": sampled - started,
                "sampling alone": sampled - started - scored.scoring_seconds,  # with what TRL itself scores
                **found.seconds,
            },
        }
        if self._main:
            put(self.store.batch(number), {"sketches_SK": found.sketches_SK.float().cpu(), "facts": facts})
            self.told(number + 1, facts)
        trainer.accelerator.wait_for_everyone()

    def _drift(self, rows: list[dict[str, Any]], mask_BT: Tensor, found: Gradients) -> dict[str, Any]:
        """Of recorded completions, whether the policy wrote them. Rows that are hidden for how they ended would bias the entropies."""
        drawn = [row.drawn for row in rows if isinstance(row, GivenRow)]
        if not drawn:
            return {}
        entropies_BT = None if self.trainer.args.mask_truncated_completions else found.entropies_BT
        mine = [drift_in_batch(drawn, mask_BT, found.logps_BT, entropies_BT)]
        return {"drift": together(gather_object(mine) if self.trainer.accelerator.num_processes > 1 else mine)}

    def _texts(self, mask_BT: Tensor) -> dict[str, Any]:
        """Of the rows of all ranks: how far they reach, how much of them learns, and the most turns."""
        places_BT = mask_BT * torch.arange(1, mask_BT.shape[1] + 1, device=mask_BT.device)
        turns = int(turn_counts(turn_index(mask_BT)).max())
        mine = [(places_BT.amax(dim=1).tolist(), mask_BT.sum(dim=1).tolist(), turns)]
        ranks = gather_object(mine) if self.trainer.accelerator.num_processes > 1 else mine
        return {
            "widths": [width for widths, _, _ in ranks for width in widths],
            "lengths": [length for _, lengths, _ in ranks for length in lengths],
            "turns": max(turns for _, _, turns in ranks),
        }

    def _shares(self, sketches: list[Tensor], facts: list[dict[str, Any]]) -> tuple[dict[str, Any], float | None]:
        """`Collected.shares`; and the largest gap between what the slices add up to and what the sketches say of the whole, over the
        lengths of the two gradients. It is small but where the policy is too coarse for differences (bfloat16)."""
        count = self._shared
        if count < 1 or len(sketches) < 2 or not self._twins:
            return {}, None
        edges = self._edges(facts[:count])
        place, wanted = len(self.trainer.candidates), {}
        for number, twins in self._twins.items():
            wanted[number] = range(place, place + len(twins))
            place += len(twins)
        total_SK = torch.stack(sketches).double().sum(dim=0)
        found, gap = [], 0.0
        for number in range(count):
            path = self.store.shares(number)
            key = [len(sketches), [list(own) for own in (edges.position, edges.length, edges.turn)]]
            kept = get(path) if path.is_file() else {}
            mine_SK = sketches[number].double()
            others_SK = (total_SK - mine_SK) / (len(sketches) - 1)
            if kept.get("key") != key:
                rows = get(self.store.rows(number, self._rank))
                shares = shares_in_batch(self.trainer, rows, others_SK, wanted, self.parameters, self.sketch, edges)
                kept = {"key": key, "shares": shares}
                self.trainer.accelerator.wait_for_everyone()
                if self._main:
                    put(path, kept)
            found.append(kept["shares"])
            for one, slices in kept["shares"].items():
                lengths = float(mine_SK[one].norm() * others_SK[one].norm()) or 1.0
                gap = max(gap, abs(sum(slices["position"]) - float(mine_SK[one] @ others_SK[one])) / lengths)
        names = {number: self.trainer.candidates[number].name for number in wanted}
        if gap > COARSE and self._main:
            logger.warning(
                "The shares of the update are off by %.1f %%: differences of log-probs are too coarse for them. Compute in float32 "
                "(model.dtype=float32 trainer.bf16=false), or leave them out: shares=0.",
                100 * gap,
            )
        return shares_as_dict(found, names, self.rewards if len(self.rewards) > 1 else [], edges), gap

    def _edges(self, facts: list[dict[str, Any]]) -> Edges:
        widths = [width for one in facts for width in one["widths"]]
        lengths = [length for one in facts for length in one["lengths"]]
        return edges_of(widths, lengths, max(one["turns"] for one in facts))


def _is_cheap(candidate: Candidate) -> bool:
    """Whether its providers only look at what is there."""
    return all(wanted <= CHEAP for _, wanted in candidate.strategy.makers())


def _facts(scored: Scored, generations: int) -> dict[str, Any]:
    """Of the rows of all ranks."""
    rewards_B = scored.rewards_B.double()
    groups = rewards_B.view(-1, generations).cpu()
    seen = rewards_B[~rewards_B.isnan()]
    flat = [bool((own := group[~group.isnan()]).numel() == 0 or own.max() == own.min()) for group in groups]
    return {
        "reward": float(seen.mean()) if len(seen) else None,
        "reward_sd": float(seen.std(correction=0)) if len(seen) else None,
        "unscored": int(rewards_B.isnan().sum()),
        "length": float(scored.lengths_B.double().mean()),
        "flat_groups": sum(flat) / len(flat),
    }
