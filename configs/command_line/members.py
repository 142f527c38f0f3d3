"""What a strategy's YAML or the command line names to be made: its members, and providers of signals in a list or a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode

from configs.command_line.layers import MEMBERS
from userio.own_files import is_in_file

# Groups that most strategies choose nothing from: providers, a live weight, an auxiliary.
SELDOM_CHOSEN = ("credit/signals=", "credit/live_weight=", "credit/auxiliary=")


def signed(override: str, is_setting: bool) -> str:
    """With the sign that Hydra wants where it has not seen the key: of a setting that no YAML says, and of `SELDOM_CHOSEN`."""
    return f"++{override}" if is_setting else f"+{override}" if override.startswith(SELDOM_CHOSEN) else override


def without_needless_signs(loader: ConfigLoader, name: str, overrides: Sequence[str]) -> list[str]:
    """Overrides without the `+` before a choice of `SELDOM_CHOSEN` where a YAML has chosen from that group already."""
    added = tuple(f"+{group}" for group in SELDOM_CHOSEN)
    if not any(override.startswith(added) for override in overrides):
        return list(overrides)
    rest = [override for override in overrides if not override.startswith(added)]
    chosen = loader.compute_defaults_list(name, rest, RunMode.RUN).overrides.known_choices
    is_chosen = [override.startswith(added) and override[1:].split("=")[0] in chosen for override in overrides]
    return [override[1:] if known else override for override, known in zip(overrides, is_chosen, strict=True)]


def nodes_in(strategy: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, node with a `_target_`) of each. A name in a file, my_file.py:surprise, is put into such a node.

    Raises:
        ValueError: a name stands where a node should, or `signals` is neither a list nor a mapping of nodes.
    """
    for axis, child in strategy.items():
        if is_in_file(child) and f"credit.{axis}" in MEMBERS:
            child = strategy[axis] = {"_target_": child}
        if isinstance(child, str) and f"credit.{axis}" in MEMBERS:
            raise ValueError(f"credit.{axis}={child}: credit/{axis}={child} (with a slash) chooses one.")
        if isinstance(child, dict) and "_target_" in child:
            yield from _functions_of(f"credit.{axis}", child)
            yield f"credit.{axis}", child
    yield from _providers_in(strategy.get("signals") or {})


def _functions_of(place: str, member: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a teacher is told is a function with settings of its own: a name, or a node."""
    given = member.get("context")
    if isinstance(given, str) and (is_in_file(given) or "." in given):
        given = member["context"] = {"_target_": given}
    if isinstance(given, dict) and "_target_" in given:
        yield f"{place}.context", given


def _providers_in(given: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(given, (list, dict)):
        raise ValueError(
            f"credit.signals={given}: must be a list or a mapping of providers, as [{{_target_: my_file.surprise}}]; "
            "credit/signals=... (with a slash) chooses from configs/credit/signals/ and folders of your own."
        )
    for key, node in enumerate(given) if isinstance(given, list) else given.items():
        place = f"credit.signals.{key}"
        if is_in_file(node):
            node = given[key] = {"_target_": node}
        if not isinstance(node, dict) or "_target_" not in node:
            raise ValueError(
                f"{place}: a provider of signals is a node with a `_target_`, as {{_target_: my_file.surprise}}."
            )
        yield place, node
