"""One row for each strategy out of its measurements in many worlds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from lab.measure.declarations import ROUNDING_BIAS, VISIBLE_BIAS, verdict
from lab.measure.metrics import WORST_BIAS, nothing_learned

YARDSTICK = "rloo"


@dataclass
class Summary:
    """A strategy over all worlds. Biases are relative; worlds without a true gradient enter by their drift only.

    worlds: measured; enumerated: of them, without sampling. nothing: worlds with something to learn in which the mean update is
    zero; they have no bias. backwards: worlds in which it points away from the truth.
    worst_bias, worst_world: over all worlds. bias: root mean square over the worlds in which the update points forward (NaN:
    none); bias_low, bias_high: quartiles. bias_error: standard error of `bias` (0 when everything was enumerated).
    noise: geometric mean over worlds of the noise-to-signal ratio over that of leave-one-out (rloo); noise_low,
    noise_high: quartiles. cosine: the smallest. length_push, success_push: mean of push minus true push.
    gain, spearman, key_share: means over the worlds where they are defined.
    measured: "unbiased" (all worlds enumerated, at rounding level), "biased", "within error" (some were sampled, no bias visible),
    "undecided" (between the thresholds) or "nothing" (learned nothing anywhere).
    verdict: "agrees", "WRONG", "no claim", or of a claim that was not decided: "agrees so far" (unbiased where enumerated), "not
    seen", "nothing learned".
    """

    label: str
    declared: bool | None
    weight_class: str | None
    worlds: int
    enumerated: int
    worst_bias: float
    worst_world: str
    bias: float
    bias_low: float
    bias_high: float
    bias_error: float
    noise: float
    noise_low: float
    noise_high: float
    cosine: float
    length_push: float
    success_push: float
    gain: float
    spearman: float
    key_share: float
    measured: str
    verdict: str
    seconds: float
    skipped: list[str] = field(default_factory=list)
    nothing: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)

    def record(self) -> dict:
        """For JSON: undefined numbers are None."""
        plain = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


def percent(share: float, digits: int = 2) -> str:
    """A share as a percentage with so many significant digits, written out: 0.012 -> "1.2 %", 1.9 -> "190 %"."""
    return f"{float(f'{100 * share:.{digits}g}'):.15g} %"


def yardsticks(records: Iterable[dict]) -> dict[tuple[str, int], float]:
    """Noise-to-signal ratio of leave-one-out by (world, lag)."""
    return {
        (r["world"], r["lag"]): r["metrics"]["nsr"]
        for r in records
        if r["label"] == YARDSTICK and "metrics" in r and r["metrics"]["nsr"]
    }


def clouds(records: Iterable[dict], yardstick: dict[tuple[str, int], float]) -> dict[str, list[tuple[float, float]]]:
    """By strategy, (noise over the yardstick's, relative bias) in each world that has both."""
    found: dict[str, list[tuple[float, float]]] = {}
    for r in records:
        place = (r["world"], r["lag"])
        metrics = r.get("metrics", {})
        if metrics.get("nsr") and place in yardstick and metrics["relative_bias"] is not None:
            found.setdefault(r["label"], []).append((metrics["nsr"] / yardstick[place], metrics["relative_bias"]))
    return found


def summarise(records: list[dict], yardstick: dict[tuple[str, int], float]) -> Summary | None:
    """The row of one strategy from its records (all of one label); None if it was skipped in every world."""
    done = [r for r in records if "metrics" in r]
    if not done:
        return None
    biases = {r["world"]: bias for r in done if (bias := _bias(r)) is not None}
    forward = [r for r in done if (bias := r["metrics"]["relative_bias"]) is not None and bias < WORST_BIAS]
    relative = [r["metrics"]["relative_bias"] for r in forward]
    errors = [r["errors"].get("relative_bias") or 0.0 for r in forward]
    noises = [
        r["metrics"]["nsr"] / yardstick[r["world"], r["lag"]]
        for r in done
        if r["metrics"].get("nsr") and (r["world"], r["lag"]) in yardstick
    ]
    worst_world = max(biases, key=lambda name: biases[name]) if biases else ""
    bias = math.sqrt(statistics.fmean(b * b for b in relative)) if relative else math.nan
    # Error of the root mean square, by the chain rule; independent between worlds.
    sizes = zip(relative, errors, strict=True)
    spread = math.sqrt(sum((b * e) ** 2 for b, e in sizes)) / (len(relative) * bias) if bias > 0 else 0.0
    measured = _measured(done)
    declared = done[0]["declared_unbiased"]
    low, high = _quartiles(relative)
    noise_low, noise_high = _quartiles(noises)
    return Summary(
        label=done[0]["label"],
        declared=declared,
        weight_class=done[0]["declared_weight_class"],
        worlds=len(done),
        enumerated=sum(r["exact"] for r in done),
        worst_bias=biases.get(worst_world, math.nan),
        worst_world=worst_world,
        bias=bias,
        bias_low=low,
        bias_high=high,
        bias_error=spread,
        noise=math.exp(statistics.fmean(map(math.log, noises))) if noises else math.nan,
        noise_low=noise_low,
        noise_high=noise_high,
        cosine=min((r["metrics"]["cosine"] for r in done if r["metrics"]["cosine"] is not None), default=math.nan),
        length_push=_mean_difference(done, "length_push"),
        success_push=_mean_difference(done, "success_push"),
        gain=_mean(r["metrics"]["gain"] for r in done),
        spearman=_mean(r["metrics"]["spearman"] for r in done),
        key_share=_mean(r["metrics"]["key_share"] for r in done if r["metrics"]["cosine"] is not None),
        measured=measured,
        verdict=_compare(declared, measured, done[0]["lag"], done[0].get("critic")),
        seconds=sum(r["seconds"] for r in done),
        skipped=sorted({r["skipped"] for r in records if "skipped" in r}),
        nothing=[r["world"] for r in done if nothing_learned(r["metrics"])],
        backwards=[r["world"] for r in done if (r["metrics"]["relative_bias"] or 0.0) >= WORST_BIAS],
    )


def _bias(record: dict) -> float | None:
    """The relative bias; the drift where there is nothing to learn; None where nothing was learned."""
    if nothing_learned(record["metrics"]):
        return None
    relative, drift = record["metrics"]["relative_bias"], record["metrics"]["drift"]
    return drift if relative is None else relative


def _measured(records: list[dict]) -> str:
    """Enumerations decide by threshold; a sampled bias must also exceed three of its standard errors."""
    nothing = [r for r in records if nothing_learned(r["metrics"])]
    records = [r for r in records if not nothing_learned(r["metrics"])]
    if nothing and all(
        r["metrics"]["relative_bias"] is None for r in records
    ):  # there is nothing to learn in the others
        return "nothing"
    enumerated = [bias for r in records if r["exact"] and (bias := _bias(r)) is not None]
    if verdict(enumerated) is False:
        return "biased"
    for r in records:
        bias, error = r["metrics"]["relative_bias"], r["errors"].get("relative_bias")
        if not r["exact"] and bias is not None and error is not None and bias > max(3 * error, VISIBLE_BIAS):
            return "biased"
    if max(enumerated, default=0.0) > ROUNDING_BIAS:
        return "undecided"
    return "within error" if len(enumerated) < len(records) else "unbiased"


def _compare(declared: bool | None, measured: str, lag: int, critic: str | None) -> str:
    """Unbiased means: whatever the critic. So a bias that a good critic hides is not seen, rather than not there."""
    if declared is None or lag:
        return "no claim"
    if measured == "nothing":
        return "nothing learned"
    if declared:
        return {"unbiased": "agrees", "within error": "agrees so far"}.get(measured, "WRONG")
    hidden = "WRONG" if critic in (None, "random") else "not seen"
    return {"unbiased": hidden, "undecided": hidden, "within error": "not seen"}.get(measured, "agrees")


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else math.nan


def _mean_difference(records: list[dict], name: str) -> float:
    pairs = [(r["metrics"][name], r["metrics"][f"true_{name}"]) for r in records]
    return _mean(push - true for push, true in pairs if push is not None and true is not None)


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return (values[0], values[0]) if values else (math.nan, math.nan)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
