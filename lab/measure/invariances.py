"""Which changes of a batch leave a strategy's credit alone. Measured, never taken on trust.

`invariances(strategy)` compares advantages A[b,t] and weights w[b,t] before and after each change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from credit.batch import Credit, Rollout
from credit.strategy import Strategy
from credit.turns.index import earned_by_turn_end, turn_index
from lab.measure.declarations import enumerated
from lab.measure.memory import remembers
from lab.measure.scoring import Scorer, beside_credit

TOLERANCE = 1e-9
HOLDS, BREAKS = "holds", "breaks"


@dataclass(frozen=True)
class Case:
    """A batch as a strategy sees it: the rollout, and the live signals (without what scoring adds)."""

    rollout: Rollout
    live: dict[str, Tensor | int]

    def credit(self, strategy: Strategy) -> tuple[Tensor, ...]:
        """(advantages_BT, weights_BT), what is live included, and what an auxiliary adds to the coefficients, where there is one; what
        the strategy learns from the batch is forgotten."""
        strategy = copy.deepcopy(strategy) if remembers(strategy) else strategy
        return self.of_rows(strategy, strategy.score(self.rollout), torch.arange(len(self.rollout.group_B)))

    def of_rows(self, strategy: Strategy, scored: Credit, rows: Tensor) -> tuple[Tensor, ...]:
        """The same of some rows, as a micro-batch sees them; `scored`: of the whole batch."""
        live = {**self.live, "advantages_B": scored.advantages_B}
        live = {name: value[rows] if isinstance(value, Tensor) else value for name, value in live.items()}
        known_BT, weights_BT, measure_BT = scored.advantages_BT, scored.weights_BT[rows], scored.auxiliary_BT
        advantages_BT = strategy.live_advantages(live) if known_BT is None else known_BT[rows]
        if strategy.live_weight is not None:
            weights_BT = weights_BT * strategy.live_weights(live)
        beside = () if measure_BT is None else (beside_credit(strategy, measure_BT[rows], live),)
        return advantages_BT, weights_BT, *beside

    def change(self, per_row: Callable[[Tensor], Tensor] = lambda x: x, **fields) -> Case:
        """A copy with `per_row` applied to every tensor that has one row per completion, then `fields` set."""
        moved = {
            name: per_row(value)
            for name, value in vars(self.rollout).items()
            if isinstance(value, Tensor) and name != "reward_weights_K"
        }
        provided = {name: per_row(value) for name, value in self.rollout.provided.items()}
        provided |= {name: value for name, value in fields.items() if name in provided}
        live = {name: per_row(value) if isinstance(value, Tensor) else value for name, value in self.live.items()}
        shared = {name: value for name, value in fields.items() if name in live}
        own = {name: value for name, value in fields.items() if name in vars(self.rollout)}
        return Case(replace(self.rollout, **(moved | own), provided=provided), live | shared)


def invariances(strategy: Strategy, seed: int = 0) -> dict[str, str]:
    """What each change does: {"row order": "holds", ...}.

    Raises:
        ValueError: the strategy needs what the lab has not.
    """
    strategy, case = _case(strategy, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    rows, width = case.rollout.mask_BT.shape
    before = case.credit(strategy)
    order_B = torch.randperm(rows, generator=generator)
    groups_B = torch.tensor([70, -3, 5])[case.rollout.group_B]
    relabel = torch.tensor([7, 9, 8, 3, 2, 1, 0])
    mask_BT = case.rollout.mask_BT

    def garbage(values: Tensor) -> Tensor:
        if values.shape != mask_BT.shape or values.dtype == torch.bool:
            return values
        return torch.where(mask_BT, values, torch.full_like(values, 5))

    span_rewards_BT = case.rollout.span_rewards_BT
    noisy = case.change(garbage, mask_BT=mask_BT, span_rewards_BT=span_rewards_BT)
    padded = case.change(lambda x: torch.nn.functional.pad(x, (0, 3)) if x.dim() == 2 and x.shape[1] == width else x)
    padded = replace(padded, rollout=replace(padded.rollout, rewards_BK=case.rollout.rewards_BK))
    found = {
        "row order": _same(case.change(lambda x: x[order_B]).credit(strategy), [part[order_B] for part in before]),
        "group labels": _same(case.change(group_B=groups_B).credit(strategy), before),
        "padding": _same([part[:, :width] for part in padded.credit(strategy)], before),
        "content of masked positions": _same(noisy.credit(strategy), before),
        "token ids": _same(case.change(token_ids_BT=relabel[case.rollout.token_ids_BT]).credit(strategy), before),
        "unrelated prompts in the batch": _alone(strategy, case, before),
        "reward shift": _shifted(strategy, case, before),
        "reward scale": _scaled(strategy, case, before),
    }
    if strategy.is_live or strategy.live_weight is not None or strategy.auxiliary is not None:
        found["cut into micro-batches"] = _cut(strategy, case, before)
    return found | {
        "one credit for all tokens of a row": _row_constant(before, mask_BT),
        "masked tokens get nothing": _holds(all((part[~mask_BT] == 0).all() for part in before)),
        "nothing to compare, nothing to learn": _flat(strategy, case),
    }


def _case(strategy: Strategy, seed: int) -> tuple[Strategy, Case]:
    """Eighteen random completions of three prompts: two of a world with tool text, and the first of them again; and the strategy,
    which may remember these prompts."""
    learner = enumerated("two_turn")
    scorer = Scorer(strategy, learner, critic="fitted")
    generator = torch.Generator().manual_seed(seed)
    prompt_B = torch.tensor([0, 1, 0]).repeat(6)
    group_B = torch.arange(3).repeat(6)
    prob_BN = learner.probs_N * (learner.tree.prompt_N == prompt_B[:, None])
    texts_B = torch.multinomial(prob_BN, 1, generator=generator).flatten()
    rollout = scorer.rollout(texts_B, group_B)
    # Rewards with ties and without: 0 or 1 plus, in the second group, something continuous.
    noise_B = torch.rand(len(group_B), generator=generator, dtype=torch.float64) * (group_B == 1)
    rewards_B = (torch.arange(18) % 4 < 2).double() + noise_B
    rollout = replace(
        rollout,
        rewards_B=rewards_B,
        rewards_BK=rewards_B[:, None],
        reward_weights_K=torch.ones(1, dtype=torch.float64),
        span_rewards_BT=_earned(rewards_B, rollout.mask_BT),
    )
    if "turn_rewards_BT" in rollout.provided:
        rollout = rollout.with_provided({"turn_rewards_BT": _by_turn(rollout.span_rewards_BT, rollout.mask_BT)})
    live = scorer.live_signals(rollout, torch.zeros(len(group_B), dtype=torch.float64), texts_B)
    del live["advantages_B"]
    return scorer.strategy, Case(rollout, live)


def _earned(rewards_B: Tensor, mask_BT: Tensor) -> Tensor:
    """Half of the reward earned on the first learning token of each row, half on the last."""
    positions_T = torch.arange(mask_BT.shape[1])
    last_B = (positions_T * mask_BT).amax(dim=1)
    first_B = mask_BT.long().argmax(dim=1)
    positions_BT = (positions_T == first_B[:, None]).double() + (positions_T == last_B[:, None]).double()
    return rewards_B[:, None] * positions_BT / 2


def _rewarded(case: Case, rewards_B: Tensor) -> Case:
    """The same texts with other rewards."""
    spans_BT = _earned(rewards_B, case.rollout.mask_BT)
    by_turn_BT = _by_turn(spans_BT, case.rollout.mask_BT)
    return case.change(
        rewards_B=rewards_B, rewards_BK=rewards_B[:, None], span_rewards_BT=spans_BT, turn_rewards_BT=by_turn_BT
    )


def _by_turn(spans_BT: Tensor | None, mask_BT: Tensor) -> Tensor:
    assert spans_BT is not None
    return earned_by_turn_end(spans_BT, turn_index(mask_BT))


def _alone(strategy: Strategy, case: Case, before) -> str:
    """Credit of the first two groups without the third; weights may change by one common factor, an auxiliary by one of its own."""
    keep_B = case.rollout.group_B < 2
    advantages, *measures = case.change(lambda x: x[keep_B]).credit(strategy)
    kept = [part[keep_B] for part in before]
    scaled = [_rescaled(part, like) for part, like in zip(measures, kept[1:], strict=True)]
    return _same((advantages, *scaled), kept)


def _rescaled(part: Tensor, like: Tensor) -> Tensor:
    total = part.sum()
    return part * (like.sum() / total) if total else part


def _shifted(strategy: Strategy, case: Case, before) -> str:
    advantages, _, *beside = _rewarded(case, case.rollout.rewards_B + 2).credit(strategy)
    return _same([advantages, *beside], [before[0], *before[2:]])


def _scaled(strategy: Strategy, case: Case, before) -> str:
    """Whether three times the reward gives three times the credit, or the same credit."""
    after = _rewarded(case, case.rollout.rewards_B * 3).credit(strategy)[:1]
    if _same(after, [before[0] * 3]) == HOLDS:
        return "credit grows in proportion"
    # Epsilons beside a standard deviation make it approximate.
    return "credit stays" if _same(after, before[:1], tolerance=2e-3) == HOLDS else BREAKS


def _cut(strategy: Strategy, case: Case, before) -> str:
    scored = strategy.score(case.rollout)
    cuts = torch.arange(len(scored.advantages_B)).split(5)
    parts = zip(*(case.of_rows(strategy, scored, rows) for rows in cuts), strict=True)
    return _same([torch.cat(part) for part in parts], before)


def _row_constant(before, mask_BT: Tensor) -> str:
    def spread_of(values_BT: Tensor) -> float:
        high = values_BT.masked_fill(~mask_BT, -torch.inf).amax(dim=1)
        low = values_BT.masked_fill(~mask_BT, torch.inf).amin(dim=1)
        return float((high - low).max())

    return _holds(max(map(spread_of, before)) <= TOLERANCE)


def _flat(strategy: Strategy, case: Case) -> str:
    """Groups whose rewards are all equal, and groups of one, get finite credit; "holds" if it is zero."""
    equal = _rewarded(case, torch.ones_like(case.rollout.rewards_B)).credit(strategy)
    single = case.change(group_B=torch.arange(len(case.rollout.group_B))).credit(strategy)
    parts = [part for advantages, weights, *beside in (equal, single) for part in (advantages * weights, *beside)]
    if not all(part.isfinite().all() for part in parts):
        return "not finite"
    return _holds(all((part.abs() <= TOLERANCE).all() for part in parts))


def _same(after, before, tolerance: float = TOLERANCE) -> str:
    pairs = zip(after, before, strict=True)
    return _holds(all(((a - b).abs() <= tolerance * b.abs().max().clamp(min=1e-12)).all() for a, b in pairs))


def _holds(condition: bool) -> str:
    return HOLDS if condition else BREAKS
