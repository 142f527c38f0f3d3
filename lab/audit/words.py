"""An audit in sentences: what may be concluded, what not, and how its numbers came about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from compare.report.numbers import count, number, with_interval
from lab.audit.reading import Found, Pair, Reading
from lab.audit.recorded import of_recorded
from lab.measure.metrics import WORST_BIAS

SENTENCES = 6  # strategies or groups that get a sentence each
LETTERS = 48  # of a name in a sentence
NAMED = 6  # names that a sentence lists
SAME = 1e-4  # a relative bias below it is rounding
SEEN = 0.005  # a relative bias whose interval lies above it is one that was seen


def told(found: Found, sign: bool = False) -> str:
    """`1.8 [1.5, 2.1]`, `1.8 [1.5, no bound]`, `below 0.12`, `above 3`, or the note, or "n/a". It does not break."""
    low, high = found.low, found.high
    if not found.known:
        least, most = math.isfinite(low) and low != 0, math.isfinite(high)
        if least and most:
            return f"{number(low, sign=sign)} to {number(high, sign=sign)}"
        if least or most:
            return f"above\u00a0{number(low, sign=sign)}" if least else f"below\u00a0{number(high, sign=sign)}"
        return found.note or "n/a"
    if found.bounded or math.isnan(low):
        return with_interval(found.estimate, sign=sign)
    ends = [number(end, sign=sign) if math.isfinite(end) else "no\u00a0bound" for end in (low, high)]
    return f"{number(found.value, sign=sign)}\u00a0[{ends[0]},\u00a0{ends[1]}]"


def told_percent(found: Found) -> str:
    """As `told`, in hundredths; a bias that cannot be larger is one that points backwards."""
    if found.value >= WORST_BIAS:
        return "backwards"
    text = told(found.times(100))
    return text if text in ("n/a", found.note) else f"{text}\u00a0%"


def in_cell(found: Found, sign: bool = False) -> str:
    """As `told`; why there is no number stands in `reservations`."""
    return told(replace(found, note=""), sign=sign)


def bias_in_cell(found: Found) -> str:
    """As `told_percent`; an update that goes against the reference has no number and is called so."""
    return "backwards" if found.note.startswith("points backwards") else told_percent(replace(found, note=""))


def joined(names: Sequence[str]) -> str:
    """`a, b and c`, or the first of many and how many more."""
    names = [_called(name) for name in names]
    if len(names) > NAMED:
        return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _called(name: str) -> str:
    """The name in a sentence: the table has it whole."""
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}\u2026"


def audit_title(reading: Reading) -> str:
    """What was audited, on what; many strategies are counted."""
    names = ", ".join(reading.order)
    about = [str(reading.about[key]) for key in ("model", "task") if isinstance(reading.about.get(key), str)]
    who = names if len(names) <= 80 else count(len(reading.order), "strategy").replace("strategys", "strategies")
    return f"{who}{' on ' + ', '.join(about) if about else ''}"


def first_sentence(reading: Reading) -> tuple[str, str]:
    """The page's first sentence, and what it rests on."""
    basis = f"{count(reading.batches, 'batch').replace('batchs', 'batches')} of {reading.completions} completions"
    if not reading.groups:
        return "No strategy could be ranked by its noise", basis
    first = reading.groups[0]
    if len(reading.groups) == 1 and len(first) == len(reading.order) > 1:
        return "No two strategies can be told apart by their noise", basis
    if len(reading.order) == 1:
        return f"Noise over signal of {_called(first[0])}: {told(reading.numbers[first[0]]['nsr'])}", basis
    return f"Least noise: {joined(first)}", basis


def findings(reading: Reading) -> list[str]:
    """Noise, group by group; bias; what a batch is worth; what the update does to length."""
    return [*_noise(reading), *_bias(reading), *_worth(reading), *_length(reading)]


def _noise(reading: Reading) -> list[str]:
    lines = []
    if not reading.groups:
        return ["Noise over signal was measured of none: in every strategy the signal is below what can be seen."]
    for place, group in enumerate(reading.groups[:SENTENCES]):
        lead = "Least noise" if place == 0 else "Next"
        said = f"{lead}: {joined(group)}"
        noise = told(replace(reading.numbers[group[0]]["nsr"], note=""))
        if noise != "n/a" and ((place == 0 and len(reading.order) > 1) or len(group) == 1):
            said += f", {'from ' if len(group) > 1 else ''}{noise} times the signal"
        if place and (pair := reading.pair(group[0], reading.groups[0][0])) and pair.ratio.known:
            said += f" ({told(pair.ratio)} times the noise of {_called(reading.groups[0][0])})"
        lines.append(f"{said}.{_needed(reading, group)}")
    if (more := len(reading.groups) - SENTENCES) > 0:
        lines.append(f"{count(more, 'more group')} behind them: see the table.")
    return lines


def _needed(reading: Reading, group: Sequence[str]) -> str:
    """That members of a group cannot be told apart, and how many batches would do."""
    if len(group) < 2:
        return ""
    said = f" With {reading.batches} batches they cannot be told apart"
    pairs = [pair for i, a in enumerate(group) for b in group[i + 1 :] if (pair := reading.pair(a, b)) is not None]
    needed = [pair.batches for pair in pairs if not pair.apart and pair.batches]
    if not needed:
        return f"{said}, and no number of batches that would do is in sight."
    least, most = min(needed), max(needed)
    open_ones = sum(not pair.apart and not pair.batches for pair in pairs)
    some = (
        f"{number(least)}" if least == most else f"{number(least)} (the furthest two) to {number(most)} (the closest)"
    )
    rest = f"; of {count(open_ones, 'pair')} no number is in sight" if open_ones else ""
    return f"{said}; about {some} would do{rest}."


def is_biased(found: Found) -> bool:
    return found.known and found.low > SEEN


def _across(found: Found, reference: str) -> str:
    if found.value >= WORST_BIAS:
        return f"points backwards, against {reference}'s"
    return f"moves {told_percent(found)} as far across {reference}'s as along it"


def _bias(reading: Reading) -> list[str]:
    others = [name for name in reading.order if name != reading.reference]
    bias = {name: reading.numbers[name]["relative_bias"] for name in others}
    biased = sorted((name for name in others if is_biased(bias[name])), key=lambda name: -bias[name].value)
    lines = [
        f"{_called(name)} is biased: its update {_across(bias[name], reading.reference)}."
        for name in (biased if len(biased) <= SENTENCES else ())
    ]
    if len(biased) > SENTENCES:
        lines.append(
            f"{len(biased)} strategies are biased, most of all {_called(biased[0])}: its update "
            f"{_across(bias[biased[0]], reading.reference)}."
        )
    clean = [
        name for name in others if not is_biased(bias[name]) and (bias[name].known or math.isfinite(bias[name].high))
    ]
    same = [name for name in clean if bias[name].high < SAME]
    bounded = [name for name in clean if SAME <= bias[name].high < math.inf]
    hidden = [name for name in clean if name not in (*same, *bounded)]
    if same:
        lines.append(f"The update of {joined(same)} has the direction of {reading.reference}'s on these completions.")
    if bounded:
        most = number(100 * max(bias[name].high for name in bounded))
        lines.append(
            f"No bias was seen in {joined(bounded)}; with {reading.batches} batches one below {most}\u00a0% would not be seen."
        )
    if hidden:
        lines.append(
            f"No bias was seen in {joined(hidden)}, and with {reading.batches} batches any could be hidden in the noise."
        )
    return lines


def _worth(reading: Reading) -> list[str]:
    n = reading.completions
    critical = {name: reading.numbers[name]["critical_batch"] for name in reading.order}
    if not n:
        return []
    below = [name for name in reading.order if critical[name].low > n]  # also where only the lower end is known
    above = [name for name in reading.order if critical[name].high < n]
    known = [name for name in reading.order if critical[name].known]
    lines = []
    if below:
        lines.append(f"In a batch of {n} completions noise outweighs signal under {joined(below)}.")
    if above:
        lines.append(f"In a batch of {n} completions signal outweighs noise under {joined(above)}.")
    if not known:
        return lines
    best = known[0]
    lines.append(
        f"Under {_called(best)} signal equals noise at {told(critical[best])} completions. Signal over noise grows with the number of "
        f"completions: what doubles the one doubles the other, from {n} to {2 * n} a step."
    )
    worst, pair = known[-1], reading.pair(known[-1], best)
    if worst != best and pair is not None and pair.apart and pair.ratio.known:
        lines.append(
            f"{_called(best)} in the place of {_called(worst)} is worth {told(pair.ratio)} times as many completions, as far as noise goes."
        )
    return lines


def _length(reading: Reading) -> list[str]:
    push = {name: reading.numbers[name]["length_push"] for name in reading.order}
    own = push.get(reading.reference, Found())
    longer = [name for name in reading.order if push[name].low > 0]
    shorter = [name for name in reading.order if push[name].high < 0]
    lines = []
    if longer:
        lines.append(f"The update makes texts longer under {joined(longer)}.")
    if shorter:
        lines.append(f"The update makes texts shorter under {joined(shorter)}.")
    if (longer or shorter) and own.known:
        lines.append(
            f"What the reward itself asks for, by {reading.reference}: {told(own, sign=True)} tokens a unit step."
        )
    return lines


def _unseen(reading: Reading) -> list[str]:
    """Why strategies that are ranked have no bias to show."""
    of: dict[str, list[str]] = {}
    for name in reading.order:
        bias = reading.numbers[name]["relative_bias"]
        if reading.group_of(name) is not None and bias_in_cell(bias) == "n/a" and bias.note:
            of.setdefault(bias.note, []).append(name)
    return [f"The bias of {joined(names)} has no number: {note}." for note, names in of.items()]


def reservations(reading: Reading) -> list[str]:
    """What the numbers do not say."""
    lines = [
        "These are numbers of one policy on one task: they change as it learns. Audit later checkpoints too, and lay them side by "
        "side (`checkpoints=`, `python -m lab.audit.compare`).",
        "Little noise is no merit of an update that goes elsewhere: read noise and bias together.",
    ]
    lines += of_recorded(reading.about.get("recorded"))
    unranked = [name for name in reading.order if reading.group_of(name) is None]
    for name in unranked[:SENTENCES]:
        why = next(
            (found.note for found in reading.numbers[name].values() if found.note), "its noise over signal has no value"
        )
        lines.append(f"{_called(name)} is not ranked: {why}.")
    if len(unranked) > SENTENCES:
        lines.append(f"{len(unranked) - SENTENCES} more are not ranked.")
    wide = [name for name in reading.order if not math.isfinite(reading.numbers[name]["nsr"].high)]
    if wide and len(wide) > len(unranked):
        lines.append(
            f"Of {joined([name for name in wide if name not in unranked])} the signal may be zero: their noise over signal has no "
            "upper bound. More batches give one."
        )
    lines += _unseen(reading)
    if reading.unseen:
        lines.append(
            f"Where the update of {joined(reading.unseen)} goes is not shown: in the batches that were looked at, it is not told from "
            "nothing, which has no parts."
        )
    if 0 < reading.batches < 8:
        lines.append(
            f"{count(reading.batches, 'batch').replace('batchs', 'batches')} are few: intervals are wide, and rest on little."
        )
    if len(reading.order) > 5:
        lines.append("Each interval stands for itself: of twenty differences that are none, one will look like one.")
    return lines


def definitions(reading: Reading) -> list[str]:
    """The definitions, once."""
    level = reading.about.get("level")
    shown = f"{100 * level:g} %" if isinstance(level, float) and 0 < level < 1 else "95 %"
    sketch = reading.about.get("sketch")
    lines = [
        "g[b] is the gradient of the trainer's own loss on generation batch b, before any optimiser; all batches are of one fixed "
        "policy, and every strategy sees the same completions.",
        "Signal is |E g|\u00b2, from inner products of different batches, so that no completion is its own yardstick; noise is the "
        "trace of the covariance of one batch's gradient; noise over signal is their ratio.",
        f"Bias is measured against {reading.reference or 'the reference'}, whose update is the policy gradient: the part of the mean "
        "update across it, over the part along it. The angle between the two has this tangent.",
        "The critical batch is the number of completions at which signal equals noise.",
        "The push on length is the change of the expected length for a unit step along the mean update.",
        f"Intervals: {shown}, over batches. Strategies stand in one group where no two of them differ at 5 % after Holm's correction.",
    ]
    steps = _float(reading.about.get("training_steps"))
    if math.isfinite(steps):
        lines.append(f"The audit took as long as {number(steps)} training steps of the same batch.")
    if isinstance(sketch, dict) and sketch.get("kind") == "count":
        lines.append(
            f"Gradients of {number(_float(sketch.get('parameters')))} parameters were kept as sketches of "
            f"{number(_float(sketch.get('size')))} numbers, whose inner products are right on average."
        )
    if reading.shares:
        lines.append(
            "A share of the update is the part of its mean, along itself, that comes from some tokens or from one reward function; "
            "shares sum to 1 and one may be negative: it pulls back."
        )
    return lines


def needed_for(pair: Pair | None) -> str:
    """`told apart`, `about 90 batches`, or what is open."""
    if pair is None:
        return ""
    if pair.apart:
        return "told apart"
    return f"no: about {number(pair.batches)} batches would do" if pair.batches else "no"


def _float(value) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
