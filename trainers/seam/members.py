"""Members of a strategy and providers of its signals that remember: their state goes into checkpoints, and evaluation leaves it
alone.

    strategy_state.pt     {"states": {part: state_dict()}, "lost": {part: why}}     written by the main process

A part is an axis of the strategy, or a provider, called by the first signal that it makes. Of a provider only `state_dict` and
`load_state_dict` count: it may hold models and the like, which nobody looks into.

Only plain values and tensors are kept, so that reading a checkpoint runs no code. The state is that of the main process: a
member at scoring time sees the rows of all ranks, so all ranks have it.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from credit.strategy import Strategy
from trainers.seam.member_state import Visible, digest_of, holder

logger = logging.getLogger(__name__)
FILE = "strategy_state.pt"
AXES = ("baseline", "spread", "weight", "ratio", "live_weight", "auxiliary")
REMEDY = (
    "Give it `state_dict()` and `load_state_dict(state)` (numbers, strings, lists, dicts and tensors), as torch's modules "
    "have them; a state_dict that returns {} says that nothing of it matters."
)
_SAME = (
    "A member at scoring time sees the rows of all processes, so it can learn the same on each: let it draw no random numbers of "
    "its own, ask nothing of the process, and add up on the CPU (sums on a GPU differ in their last bits). A provider sees the rows "
    "of its own process: `rows.gather` gives it those of all."
)


class MemberStates:
    """Args: `strategy`: whose members these are.

    Raises:
        ValueError: a `state_dict()` that does not go into a checkpoint.
    """

    def __init__(self, strategy: Strategy):
        self._strategy = strategy
        self._lost: dict[str, str] = {}
        self._batches = 0
        for axis, keeper in self._keepers().items():
            try:
                _checked(keeper.state_dict())
            except TypeError as error:
                raise ValueError(f"The {axis} of credit strategy {strategy.name!r}: {error} {REMEDY}") from error

    @contextmanager
    def batch(self, training: bool) -> Iterator[None]:
        """Around calls of members. In training, notices what is kept without being saved; in evaluation nothing is kept.

        Raises:
            ValueError: evaluation would change a member that cannot be put back.
        """
        if not training:
            with untouched(self._strategy):
                yield
            return
        watched = {axis: Visible(member) for axis, member in self._mute().items() if axis not in self._lost}
        yield
        for axis, before in watched.items():
            if before.changed():
                self._lose(axis, "it changes from batch to batch and cannot be saved")

    def compare(self, gather: Callable[[list], list]) -> None:
        """Whether members remember the same on all ranks: after the first training batch, the second, the fourth and so on. Call it
        on all ranks, once for each generation batch in training.

        Raises:
            ValueError: they do not.
        """
        self._batches += 1
        keepers = self._keepers()
        if not keepers or self._batches & (self._batches - 1):
            return
        everyone = gather([{part: digest_of(keeper.state_dict()) for part, keeper in keepers.items()}])
        for part in keepers:
            if any(theirs.get(part) != everyone[0].get(part) for theirs in everyone):
                raise ValueError(
                    f"After generation batch {self._batches} the {part} of credit strategy {self._strategy.name!r} does not remember "
                    f"the same on all processes. {_SAME}"
                )

    def save(self, folder: Path, gather: Callable[[list], list], should_save: bool) -> None:
        """Call it on all ranks."""
        states, digests = {}, {}
        for axis, keeper in self._keepers().items():
            state = keeper.state_dict()
            try:
                _checked(state)
            except TypeError as error:
                self._lose(axis, str(error))
            else:
                states[axis], digests[axis] = state, digest_of(state)
        everyone = gather([(digests, self._lost)])
        for axis in list(states):
            if any(theirs.get(axis) != digests[axis] for theirs, _ in everyone):
                self._lose(axis, "its state differs between processes, so it follows from how the batch was cut")
                del states[axis]
        lost = {axis: why for _, theirs in everyone for axis, why in theirs.items()} | self._lost
        if should_save and (states or lost):
            torch.save({"states": states, "lost": lost}, folder / FILE)

    def load(self, folder: Path, device: torch.device) -> None:
        """Raises ValueError: the checkpoint lacks the state of a member."""
        refuse_lost(folder)
        keepers = self._keepers()
        # Tensors of the main process's device go to this rank's; those on the CPU stay there.
        found = _read(folder, {"cuda:0": str(device)}) if device.type == "cuda" else _read(folder)
        for axis, keeper in keepers.items():
            if axis not in found["states"]:
                raise ValueError(
                    f"{folder} does not hold the state of the {axis} of credit strategy {self._strategy.name!r}: it was "
                    "written by another strategy or before that member kept one. Start again with overwrite=true."
                )
            keeper.load_state_dict(found["states"][axis])

    def _keepers(self) -> dict[str, Any]:
        return keepers_of(self._strategy)

    def _mute(self) -> dict[str, Any]:
        return {axis: getattr(self._strategy, axis) for axis in AXES if holder(getattr(self._strategy, axis)) is None}

    def _lose(self, axis: str, why: str) -> None:
        if axis not in self._lost:
            self._lost[axis] = why
            logger.warning(
                "The %s of credit strategy %r keeps state: %s. This run trains as it should, but a checkpoint of it will "
                "not be resumed. %s",
                *(axis, self._strategy.name, why, REMEDY),
            )


@contextmanager
def untouched(strategy: Strategy) -> Iterator[None]:
    """Whatever members learn from batches inside is forgotten at the end.

    Raises:
        ValueError: a member changed and cannot be put back.
    """
    keepers = {part: one for part, one in keepers_of(strategy).items() if not _is_still(one)}
    kept = {part: copy.deepcopy(keeper.state_dict()) for part, keeper in keepers.items()}
    kept |= {axis: Visible(getattr(strategy, axis), copied=True) for axis in AXES if axis not in keepers_of(strategy)}
    yield
    for axis, before in kept.items():
        keeper = keepers.get(axis)
        if keeper is not None:
            keeper.load_state_dict(before)
        elif before.changed():
            try:
                before.put_back()
            except TypeError as error:
                raise ValueError(
                    f"The {axis} of credit strategy {strategy.name!r} keeps state, and evaluation has changed it: {error}. {REMEDY}"
                ) from error


def keepers_of(strategy: Strategy) -> dict[str, Any]:
    """Part of a strategy -> the object in it that has `state_dict` and `load_state_dict`, where there is one."""
    found = {axis: holder(getattr(strategy, axis)) for axis in AXES}
    found |= {f"provider of {min(wanted)}": holder(provider) for provider, wanted in strategy.makers()}
    return {part: keeper for part, keeper in found.items() if keeper is not None}


def _is_still(keeper: Any) -> bool:
    """Whether it says itself that it learns nothing where `rows.training` is False, so that no copy has to be kept."""
    return bool(getattr(keeper, "stands_still_in_evaluation", False))


def refuse_lost(folder: Path) -> None:
    """Raises ValueError if the run that wrote this checkpoint had a member whose state is not in it."""
    for axis, why in _read(folder)["lost"].items():
        raise ValueError(
            f"{folder} cannot be resumed from: the {axis} of its credit strategy keeps state, and {why}. {REMEDY} "
            "Then start the run again with overwrite=true."
        )


def _read(folder: Path, map_location: Any = "cpu") -> dict[str, dict]:
    path = folder / FILE
    if not path.is_file():
        return {"states": {}, "lost": {}}
    return torch.load(path, weights_only=True, map_location=map_location)


def _checked(state: Any) -> None:
    """Raises TypeError if a state would not come back from a file."""
    if not isinstance(state, dict):
        raise TypeError(f"state_dict() returns {type(state).__name__}, not a dict.")
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise TypeError(f"state_dict() holds what a checkpoint does not: {reason}") from error
