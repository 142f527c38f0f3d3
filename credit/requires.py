"""What a strategy asks of the trainer: `requires` in its YAML, for a method that is not itself without a clip range or a
reference policy.

requires:
  beta: "> 0"                          # a number and how it compares
  mask_truncated_completions: true     # this very value
  loss_type: [dr_grpo, dapo]           # one of these
  epsilon_high: given                  # anything but null
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GIVEN = "given"
_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_PATTERN = re.compile(r"\s*(>=|<=|>|<)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")


def check_requires(requires: Any) -> None:
    """Raises ValueError: not a mapping from settings to what they have to be."""
    if not isinstance(requires, Mapping):
        raise ValueError(f"requires must name settings of the trainer, as in {{beta: '> 0'}}, got {requires!r}.")
    for name, wanted in requires.items():
        if isinstance(wanted, str) and wanted.lstrip()[:1] in ("<", ">") and not _PATTERN.fullmatch(wanted):
            raise ValueError(f"requires.{name}: {wanted!r} is no comparison with a number, as in '> 0'.")


def unmet(requires: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """What is asked for and not so, one sentence each, with the remedy.

    Args:
        settings: the trainer's, by name.

    Raises:
        ValueError: the trainer has no setting of that name.
    """
    for name, wanted in requires.items():
        if name not in settings:
            near = difflib.get_close_matches(str(name), list(settings), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"requires.{name}: the trainer has no such setting.{hint}")
        if not _holds(wanted, settings[name]):
            yield f"requires {name} {_in_words(wanted)}, and it is {_shown(settings[name])}. Set {_remedy(name, wanted)}"


def _holds(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, str) and wanted == GIVEN:
        return value is not None
    if isinstance(wanted, str) and (found := _PATTERN.fullmatch(wanted)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and _COMPARISONS[found.group(1)](value, float(found.group(2)))
    if _is_list(wanted):
        return any(_holds(one, value) for one in wanted)
    value = getattr(value, "value", value)  # an enum of the trainer's stands in YAML by its value
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _is_list(wanted: Any) -> bool:
    return isinstance(wanted, Sequence) and not isinstance(wanted, str)


def _in_words(wanted: Any) -> str:
    if isinstance(wanted, str) and (wanted == GIVEN or _PATTERN.fullmatch(wanted)):
        return "to be given" if wanted == GIVEN else wanted.strip()
    return " or ".join(map(_shown, wanted)) if _is_list(wanted) else f"= {_shown(wanted)}"


def _remedy(name: str, wanted: Any) -> str:
    first = wanted[0] if _is_list(wanted) and wanted else wanted
    exact = not isinstance(first, str) or (first != GIVEN and not _PATTERN.fullmatch(first))
    return f"trainer.{name}={_shown(first) if exact else '...'}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
