"""What a strategy's YAML or the command line names to be made: its members, and providers of signals in a list or a mapping."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from configs.command_line.layers import MEMBERS
from configs.command_line.overrides import parse_overrides
from userio.own_files import is_in_file
from userio.words import word_of

# Groups that most strategies choose nothing from: providers, a live weight, an auxiliary.
SELDOM_CHOSEN = ("credit/signals=", "credit/live_weight=", "credit/auxiliary=")
# Settings of members and providers that are functions, and what each row brings for them.
ROW_FUNCTIONS = {
    "context": ("prompt", "completion", "reward", "siblings", "columns"),
    "answer": ("prompt", "completion", "columns"),
    "cuts": ("tokens", "mask"),
}


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
    is_chosen = [override.startswith(added) and word_of(override[1:]).key in chosen for override in overrides]
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
    """What a teacher is told, and what is asked of an answer, are functions with settings of their own: a name, or a node."""
    for key in ROW_FUNCTIONS:
        given = member.get(key)
        if isinstance(given, str) and (is_in_file(given) or "." in given):
            given = member[key] = {"_target_": given}
        if isinstance(given, dict) and "_target_" in given:
            yield f"{place}.{key}", given


def inside_members(overrides: Sequence[str]) -> list[str]:
    """The keys of mappings that are given for a member as a whole: `credit.critic={mlp: 16}`."""
    given = [one for one in parse_overrides(overrides) if one.get_key_element() in MEMBERS]
    return [f"{one.get_key_element()}.{key}" for one in given if isinstance(one.value(), dict) for key in one.value()]


def unchosen_provider(where: str, config: DictConfig | None, choices: Collection[str]) -> str:
    """What is said of a setting of a provider that nobody has chosen; empty where `where` is no such thing."""
    words = where.split(".")
    if words[:2] != ["credit", "signals"] or len(words) < 4 or config is None:
        return ""
    chosen = OmegaConf.select(config, "credit.signals")
    if isinstance(chosen, DictConfig) and words[2] in chosen:
        return ""
    adds = f" credit/signals={words[2]} (with a slash) adds it." if words[2] in choices else ""
    return f"`{where}` is no setting: this strategy names no provider {words[2]!r} in `signals`.{adds}"


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
        yield from _functions_of(place, node)
        yield place, node
