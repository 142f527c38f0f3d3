"""What an audit found: every number of a strategy with an interval, pairs that are told apart, a ranking.

    nsr             trace of the covariance of one batch's gradient over |m|^2: the number of batches to average until signal equals noise
    critical_batch  the same in completions
    norm            |m|
    cosine, relative_bias   of m against the reference's g, which is unbiased; lab/measure/metrics.py defines them
    length_push     <m, grad E[length]> / |m|: change of the expected length per unit step

m is the expected gradient over batches of the policy and the task as they were audited. lab/audit/intervals.py and lab/audit/bias.py
say how the intervals are made, docs/audit.md how often they hold the truth.

Shapes: S strategies, B generation batches, X all batches and then each left out, P slices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lab.audit.bias import angle
from lab.audit.intervals import Bracket, ratio, root
from lab.audit.power import NoisePair, comparisons, ranked
from lab.audit.products import Products, products_of
from trainers.audit.collected import Collected

METRICS = ("nsr", "norm", "cosine", "relative_bias", "critical_batch", "length_push")


@dataclass(frozen=True)
class Audit:
    """All of it.

    Attributes:
        about: command, model, task, commit, versions, cost. reference: the strategy that stands for the truth.
        batches, completions: how many batches, of how many completions each.
        strategies: the `METRICS` of each. p_bias: p-value of each strategy's having no bias.
        pairs: comparisons of noise. ranking: from little noise to much, in groups that are not told apart.
        shares: {strategy: {kind: [{"from", "to", ..., "share"}] or {name: share}}}, parts of the update.
    """

    about: Mapping[str, Any]
    reference: str
    batches: int
    completions: int
    strategies: Mapping[str, Mapping[str, Bracket]]
    p_bias: Mapping[str, float]
    pairs: Mapping[tuple[str, str], NoisePair]
    ranking: Sequence[Sequence[str]]
    shares: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain values; an interval's end that is infinite is None."""
        return {
            "about": dict(self.about),
            "reference": self.reference,
            "batches": self.batches,
            "completions": self.completions,
            "strategies": {
                name: {metric: bounds.record() for metric, bounds in found.items()} | {"p_bias": self.p_bias[name]}
                for name, found in self.strategies.items()
            },
            "pairs": {"|".join(pair): found.record() for pair, found in self.pairs.items()},
            "ranking": [list(group) for group in self.ranking],
            "shares": _plain(self.shares),
        }


def audit_of(collected: Collected) -> Audit:
    """Every number with its interval.

    Raises:
        ValueError: fewer than four batches, or a reference that is not among the strategies.
    """
    if collected.reference not in collected.strategies:
        raise ValueError(f"the reference {collected.reference!r} is not among {', '.join(collected.strategies)}.")
    products = products_of(collected.gram_SBSB)
    names = {name: index for index, name in enumerate(collected.strategies) if name != collected.length}
    found, p_bias = {}, {}
    for name, index in names.items():
        found[name], p_bias[name] = _strategy(collected, products, index)
    moving = {name: index for name, index in names.items() if float(products.squares_XS[0, index]) > 0}
    pairs = comparisons(products, moving)
    return Audit(
        about=collected.about | {"sketch": collected.sketch},
        reference=collected.reference,
        batches=collected.batches,
        completions=collected.completions,
        strategies=found,
        p_bias=p_bias,
        pairs=pairs,
        ranking=ranked({name: found[name]["nsr"] for name in moving}, pairs),
        shares={name: _shares(of) for name, of in collected.shares.items()},
    )


def _strategy(collected: Collected, products: Products, index: int) -> tuple[dict[str, Bracket], float]:
    """The metrics of one, and the p-value of its having no bias."""
    reference = collected.strategies.index(collected.reference)
    signal_X, noise_X = products.signal_XS[:, index], products.noise_XS[:, index]
    if float(products.squares_XS[0, index]) == 0:
        nothing = Bracket(None, 0.0, math.inf, "no update: its gradient was zero in every batch")
        return dict.fromkeys(METRICS, nothing) | {"norm": Bracket(0.0, 0.0, 0.0, nothing.note)}, 1.0
    unsure = sketch_error(collected.sketch)
    nsr = _widened(ratio(noise_X, signal_X, positive=True), unsure)
    norm = root(_widened(ratio(signal_X, torch.ones_like(signal_X), positive=True), unsure))
    if math.isinf(nsr.high):
        note = f"its signal is not told from none with {collected.batches} batches, so there is no upper end"
        nsr, norm = replace(nsr, note=note), replace(norm, note=note.split(",")[0])
    turned = angle(collected.gram_SBSB, products, index, reference)
    cosine, bias = turned.cosine, turned.tangent
    if index == reference:
        cosine, bias = (replace(each, note="the reference itself") for each in (cosine, bias))
    elif turned.forward is False:
        bias = replace(bias, note="points backwards: its mean update lowers the reward")
    elif bias.low == bias.high == 0:
        bias = replace(bias, note="a multiple of the reference in every batch")
    elif math.isinf(bias.high):
        bias = replace(
            bias, note=f"its direction is not seen with {collected.batches} batches, so there is no upper end"
        )
    elif bias.low == 0:
        bias = replace(bias, note=f"no bias seen with {collected.batches} batches; it may be up to the upper end")
    return {
        "nsr": nsr,
        "norm": norm,
        "cosine": cosine,
        "relative_bias": bias,
        "critical_batch": nsr.times(collected.completions),
        "length_push": _length_push(collected, products, index, unsure),
    }, turned.p


def _length_push(collected: Collected, products: Products, index: int, unsure: float) -> Bracket:
    if collected.length is None:
        return Bracket(None, -math.inf, math.inf, "not asked for")
    length = collected.strategies.index(collected.length)
    both_X, signal_X = products.means_XSS[:, index, length], products.signal_XS[:, index]
    if float(products.squares_XS[0, length]) == 0:
        return Bracket(0.0, 0.0, 0.0, "every completion was as long as the others of its prompt")
    if float(signal_X.min()) <= 0:
        return Bracket(None, -math.inf, math.inf, f"its direction is not seen with {collected.batches} batches")
    found = ratio(both_X, signal_X.sqrt())
    more = unsure * math.sqrt(max(float(products.signal_XS[0, length]), 0.0))
    return replace(found, low=found.low - more, high=found.high + more)


def sketch_error(sketch: Mapping[str, Any]) -> float:
    """Two standard errors of the squared length of a vector from its sketch, relative to it; 0 where gradients are kept whole.

    The sketch is one linear map for all batches and strategies, so it moves signals and angles but adds no noise between batches: the
    variance of an inner product is at most 2 |x|^2 |y|^2 / size (trainers/audit/sketch.py).
    """
    return 0.0 if sketch.get("kind", "exact") == "exact" else 2 * math.sqrt(2 / sketch["size"])


def _widened(bounds: Bracket, by: float) -> Bracket:
    return replace(bounds, low=bounds.low * (1 - by), high=bounds.high * (1 + by))


def _shares(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Each slice's part of the update, its kind's slices adding up to one; values are one per batch."""
    found: dict[str, Any] = {}
    for kind, slices in kinds.items():
        if not slices:
            continue
        keyed = isinstance(slices, Mapping)
        parts = _parts(list(slices.values()) if keyed else [each["values"] for each in slices])
        if keyed:
            found[kind] = dict(zip(slices, parts, strict=True))
        else:
            where = [{key: each[key] for key in each if key != "values"} for each in slices]
            found[kind] = [each | {"share": part} for each, part in zip(where, parts, strict=True)]
    return found


def _parts(values: Sequence[Sequence[float]]) -> list[Bracket]:
    values_PB = torch.tensor(values, dtype=torch.float64)
    batches = values_PB.shape[1]
    total = float(values_PB.sum())
    if batches < 4:
        note = f"from {batches} batches, too few for an interval"
        return [
            Bracket(float(own_B.sum()) / total if total > 0 else None, -math.inf, math.inf, note) for own_B in values_PB
        ]
    numbers = [_means(own_B) for own_B in values_PB]
    total_X = torch.stack(numbers).sum(dim=0)
    found = [ratio(number_X, total_X) for number_X in numbers]
    if all(math.isinf(part.low) and math.isinf(part.high) for part in found):  # parts of a whole that may be nothing
        return [replace(part, value=None) for part in found]
    return found


def _means(values_B: Tensor) -> Tensor:
    """The mean, and that without each batch."""
    total, batches = values_B.sum(), len(values_B)
    return torch.cat([(total / batches)[None], (total - values_B) / (batches - 1)])


def _plain(value: Any) -> Any:
    if isinstance(value, Bracket):
        return value.record()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value
