"""What a run that goes on may have different: what is only told of it, and, where that is exact, its length.

A longer run has the bits of one that was meant to be as long from the start if nothing before its end depended on that end. So
the learning rate must not be laid out over all steps, and the run must be taken up where rollouts begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainers.command.world_size import world_size
from trainers.run.tell.outputs import is_about_output

LENGTH = ("trainer.max_steps", "trainer.num_train_epochs")
# Schedules of transformers in which the rate of a step depends on the steps before it only.
_OPEN_ENDED = ("constant", "constant_with_warmup", "inverse_sqrt")
_MOST = 6  # differences that are told one by one
_NOT_THERE = "(not there)"


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that change what is trained and that two configurations disagree about: dotted name -> (before, now)."""
    old, new = _flat(before), _flat(now)
    keys = [*old, *(key for key in new if key not in old)]
    pairs = {key: (old.get(key, _NOT_THERE), new.get(key, _NOT_THERE)) for key in keys if not is_about_output(key)}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def changes_in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """`trainer.beta 0.0 -> 0.5, task.n_train 64 -> 128`"""
    words = [f"{key} {_shown(old)} -> {_shown(new)}" for key, (old, new) in changed.items()]
    more = f" and {len(words) - _MOST} more" if len(words) > _MOST else ""
    return ", ".join(words[:_MOST]) + more


def is_longer_only(changed: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether two configurations differ in how long they train and in nothing else."""
    return bool(changed) and all(key in LENGTH for key in changed)


def why_not_longer(trainer: Mapping[str, Any], changed: Mapping[str, tuple[Any, Any]], done: int) -> str | None:
    """Why a run cannot go on to another length; None where it can.

    Args:
        trainer: the settings of TRL's config.
        changed: of `changed_settings`.
        done: steps that it has made.
    """
    schedule, warmup = str(trainer.get("lr_scheduler_type")), trainer.get("warmup_steps") or 0
    if schedule not in _OPEN_ENDED:
        return (
            f"trainer.lr_scheduler_type={schedule} lays the learning rate out over all steps, so the longer run would have "
            f"had other rates from the start. Only {', '.join(_OPEN_ENDED)} can be continued"
        )
    if schedule != "constant" and (0 < warmup < 1 or trainer.get("warmup_ratio")):
        return "its warmup is a share of all steps, so the longer run would have had other rates from the start"
    steps, (epochs_before, epochs) = trainer["max_steps"], changed.get("trainer.num_train_epochs", (0, 0))
    if 0 < steps <= done:
        return f"it has made {done} steps; give more than that"
    if steps < 0 and not epochs > epochs_before:
        return f"it has made {done} steps; give more trainer.num_train_epochs, or trainer.max_steps"
    return None


def samples_anew_after(step: int, trainer: Mapping[str, Any]) -> bool:
    """Whether a new batch of rollouts begins after an optimiser step (trainers/seam/checkpoints.py); likelihood training has
    none to wait for."""
    if "num_generations" not in trainer:
        return True
    accumulation = trainer["gradient_accumulation_steps"]
    per = trainer.get("steps_per_generation") or accumulation
    if trainer.get("generation_batch_size"):
        per = trainer["generation_batch_size"] // (trainer["per_device_train_batch_size"] * world_size())
    return step * accumulation % (per * trainer["num_iterations"]) == 0


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, one in value.items():
        is_node = isinstance(one, Mapping) and one
        found |= _flat(one, f"{before}{key}.") if is_node else {f"{before}{key}": one}  # type: ignore[arg-type]
    return found


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
