"""From completions to what is reported of a model: each measure has one value per prompt, and so an interval, and a
difference to another model on the same prompts.

    reward               weighted sum of the scores
    rewards/<name>       what one reward function gave
    pass@<k>             chance that one of k completions passes
    majority@<n>         whether the most common answer of the n completions passes
    length, truncated    tokens, end included; share that was cut off at the limit
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.base import Row
from trainers.evaluation.completions import Completion, Judges
from trainers.evaluation.estimates import Interval, mean_over_prompts, paired, pass_at
from trainers.evaluation.majority import majority

ENVIRONMENTS = "(the environment itself)"  # beside the names of reward functions


@dataclass(frozen=True)
class Measure:
    """by_prompt: a value for each prompt that has one. is_share: of things that are so or not."""

    by_prompt: Mapping[int, float]
    is_share: bool = False

    def mean(self, level: float = 0.95) -> Interval:
        return mean_over_prompts(list(self.by_prompt.values()), level, self.is_share)


def measures_of(
    completions: Sequence[Completion], judges: Judges, rows: Sequence[Row], ks: Sequence[int] = ()
) -> dict[str, Measure]:
    """By name, in the order in which they are shown.

    Args:
        rows: of the prompts; ks: for pass@k. A prompt with fewer than k completions that could be scored has no pass@k.
    """
    prompts: dict[int, list[Completion]] = defaultdict(list)
    for one in sorted(completions, key=lambda one: (one.prompt, one.sample)):
        prompts[one.prompt].append(one)
    total = _means(prompts, lambda one: one.reward)
    scores = {f"rewards/{name}": _means(prompts, lambda one, name=name: one.scores[name]) for name in judges.names}
    is_share = total.is_share and abs(sum(judges.weights) - 1) < 1e-9 and all(one.is_share for one in scores.values())
    found = {"reward": Measure(total.by_prompt, is_share), **scores}
    passed = {prompt: _passed(group, judges) for prompt, group in prompts.items()}
    for k in ks:
        shares = {prompt: pass_at(k, len(flags), sum(flags)) for prompt, flags in passed.items() if len(flags) >= k}
        found[f"pass@{k}"] = Measure(shares, is_share=True)
    most = max(map(len, prompts.values()), default=0)
    if judges.comparing is not None and most > 1:
        votes = {prompt: _vote(group, judges, rows[prompt]) for prompt, group in prompts.items() if passed[prompt]}
        found[f"majority@{most}"] = Measure(votes, is_share=True)
    found["length"] = _means(prompts, lambda one: float(one.tokens))
    found["truncated"] = _means(prompts, lambda one: float(not one.ended))
    return found


def counts_of(completions: Sequence[Completion], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each reward function how many completions it gave no number: by abstaining, and by failing, of which kinds. The same of
    the environments, whose faults count against no function."""
    found = {}
    scorable = [one for one in completions if one.fault is None]
    for name in names:
        failed = Counter(one.failed[name] for one in scorable if name in one.failed)
        none = sum(one.scores[name] is None and name not in one.failed for one in scorable)
        found[name] = {"abstained": none, "failed": sum(failed.values()), "kinds": dict(sorted(failed.items()))}
    faults = Counter(one.fault[0] for one in completions if one.fault is not None)
    if faults:
        found[ENVIRONMENTS] = {"abstained": 0, "failed": sum(faults.values()), "kinds": dict(sorted(faults.items()))}
    return found


def differences(ours: Mapping[str, Measure], theirs: Mapping[str, Measure], level: float = 0.95) -> dict[str, Interval]:
    """Ours minus theirs, of every measure that both have."""
    both = {name: (ours[name], theirs[name]) for name in ours if name in theirs}
    return {
        name: paired(a.by_prompt, b.by_prompt, level, are_shares=a.is_share and b.is_share)
        for name, (a, b) in both.items()
    }


def ks_for(n: int) -> list[int]:
    """1, 2, 4, ... and n."""
    return sorted({*(2**power for power in range(n.bit_length()) if 2**power <= n), n})


def _means(prompts: Mapping[int, Sequence[Completion]], value: Any) -> Measure:
    known = {prompt: [v for one in group if (v := value(one)) is not None] for prompt, group in prompts.items()}
    is_share = all(v in (0.0, 1.0) for values in known.values() for v in values)
    return Measure({prompt: sum(values) / len(values) for prompt, values in known.items() if values}, is_share)


def _passed(group: Sequence[Completion], judges: Judges) -> list[bool]:
    """Of the completions that could be scored."""
    scores = [one.scores[judges.passes] for one in group]
    return [score >= judges.threshold for score in scores if score is not None]


def _vote(group: Sequence[Completion], judges: Judges, row: Row) -> float:
    reader: Any = judges.comparing
    others = {name: row.get(name) for name in reader.columns if name != reader.column}
    scores = [one.scores[judges.passes] for one in group]
    flags = [score is not None and score >= judges.threshold for score in scores]
    return majority([one.answer for one in group], flags, lambda a, b: reader.same(a, b, **others))
