"""Of an audit of recorded completions: whose numbers they are, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from compare.report.numbers import number
from trainers.audit.given.drift import FAR, is_of_another

SAME = 1e-3  # a mean difference of log-probs that rounding makes


def of_recorded(about: Any) -> list[str]:
    """about: "recorded" of what audit.json says of the audit; nothing where completions were sampled."""
    if not isinstance(about, Mapping):
        return []
    lines = [
        f"The completions were recorded ({_whole(about, 'completions')} of {_whole(about, 'of')} in the file), not sampled: noise and "
        "bias are those of an update made of them. They are this policy's own only as far as it wrote them, as it is now and at this "
        "temperature."
    ]
    lines += _told_by_entropy(about) + _told_by_logps(about)
    if texts := _whole(about, "text"):
        changed = _whole(about, "changed")
        lines.append(
            f"{texts} were recorded as text and tokenised here, which need not give the tokens that were drawn"
            + (f"; {changed} of them read otherwise once they are decoded." if changed else ".")
        )
    if unsaid := _whole(about, "unsaid"):
        lines.append(f"{unsaid} do not say whether they ended; what is shorter than the limit was taken as ended.")
    return lines


def _told_by_entropy(about: Mapping[str, Any]) -> list[str]:
    excess, error = _number(about, "excess"), _number(about, "excess_error")
    if not (math.isfinite(excess) and math.isfinite(error)):
        return []
    measured = f"{number(excess, sign=True)} nats a token (standard error {number(error)})"
    if not is_of_another(excess, error):
        return [
            f"By the surprise of their tokens they are not told from this policy's own: {measured} beyond its entropy. That is no proof."
        ]
    if excess > 0:
        why = "another policy wrote them, or at a higher temperature, or their tokens are not those that were drawn"
    else:
        why = "they were drawn at a lower temperature, or by a sampler that leaves unlikely tokens out (top_p, top_k, min_p), or chosen"
    return [
        f"This policy does not write such completions: their tokens surprise it by {measured} beyond its entropy. So {why}."
    ]


def _told_by_logps(about: Mapping[str, Any]) -> list[str]:
    difference, worth = _number(about, "logp_difference"), _number(about, "worth")
    if not math.isfinite(difference):
        return []
    who = (
        "it drew them"
        if difference < SAME
        else "this one by another engine's arithmetic, or one near it, drew them"
        if difference <= FAR
        else "another policy drew them, or at another temperature"
    )
    said = f"Their recorded log-probs differ from this policy's by {number(difference)} a token on average: {who}."
    if math.isfinite(worth):
        said += f" Weighed by their ratios, 100 of them would be worth {number(100 * worth)} of its own; the audit does not weigh them."
    return [said]


def _number(about: Mapping[str, Any], name: str) -> float:
    value = about.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _whole(about: Mapping[str, Any], name: str) -> int:
    value = _number(about, name)
    return int(value) if math.isfinite(value) else 0
