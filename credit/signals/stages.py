"""Which signals a member asks for, by the names of its parameters, and whether they are there when it is asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from credit.checks import member_name
from credit.signals.catalogue import signal_hint
from credit.signals.contract import Signal

# When each part of a strategy is asked; a spread that reads the live pass is asked in the loss.
STAGES = {"baseline": "scoring", "spread": "scoring", "weight": "scoring", "ratio": "loss", "live_weight": "loss"}
# What stands for a signal of the live pass while a batch is scored: the same of the policy that sampled.
STAND_INS = {
    "policy_logps_BT": "scoring_logps_BT",
    "sampler_logps_BT": "scoring_logps_BT",
    "entropies_BT": "scoring_entropies_BT",
    "values_BT": "scoring_values_BT",
}


def word_for(axis: str) -> str:
    """What a part of a strategy is called in messages; both methods of an auxiliary are that."""
    return "auxiliary" if axis.startswith("auxiliary") else axis


def signals_of(axis: str, member: Callable[..., Any], known: Mapping[str, Signal]) -> tuple[str, ...]:
    """Raises ValueError: the member is nothing to call, or has a parameter that is no signal and has no value."""
    if not callable(member):
        raise ValueError(f"The {word_for(axis)} must be a function or a callable object, got {type(member).__name__}.")
    wanted = []
    for parameter in inspect.signature(member).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in known:
            wanted.append(parameter.name)
        elif parameter.default is parameter.empty:
            raise ValueError(
                f"The {word_for(axis)} {member_name(member)} asks for {parameter.name!r}, which is no "
                f"signal{signal_hint(parameter.name, known)} Signals: {', '.join(known)}. Anything else needs a default or a value "
                "in the YAML; a signal of your own needs a provider (`signals` in the YAML, docs/credit/signals.md)."
            )
    return tuple(wanted)


def check_stage(who: str, needs: tuple[str, ...], stage: str, known: Mapping[str, Signal]) -> None:
    """Raises ValueError: a signal is made at another time than the member `who` is asked; with the one to ask for instead."""
    blind = [name for name in needs if known[name].stage not in (stage, "both")]
    if blind:
        where = (
            "runs in the loss, where rows of other micro-batches are out of sight"
            if stage == "loss"
            else "runs at scoring time, before the live forward pass"
        )
        early = [STAND_INS[name] for name in blind if name in STAND_INS]
        remedy = (
            f" Ask for {', '.join(early)}, those of the policy that sampled" if early and stage == "scoring" else ""
        )
        if remedy and who.startswith("The weight "):
            remedy += ", or name it as live_weight, a factor that is asked in the loss"
        raise ValueError(f"{who} asks for {', '.join(blind)}, but it {where}.{remedy + '.' if remedy else ''}")
