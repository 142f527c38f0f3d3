"""What every call of a member is held to: the shape, finite numbers, and hands off its signals."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor


def member_name(member: Any) -> str:
    """How a member is called in messages: the function or class behind partials, a method with its class."""
    while isinstance(member, partial):
        member = member.func
    if isinstance(member, MethodType):
        return f"{type(member.__self__).__name__}.{member.__name__}"
    return getattr(member, "__name__", type(member).__name__)


class Hands:
    """Whether a member writes into the signals it was given; they are the batch itself, not copies of it.

    Cheap: torch counts the writes to a tensor. On the CPU the bytes are compared too, since numpy's writes are not counted.
    """

    def __init__(self, signals: Mapping[str, Any]):
        self._signals = signals
        self._before = {name: _fingerprint(value) for name, value in signals.items()}

    def written(self) -> list[str]:
        """Names of the signals that are not what they were."""
        return [name for name, value in self._signals.items() if not _same(self._before[name], _fingerprint(value))]


class Doubts:
    """Which members returned numbers that are not finite, or weights below 0. Kept on the device: finding out waits for a GPU, noting
    does not."""

    def __init__(self):
        self._bad: dict[str, dict[str, Tensor]] = {}
        self._negative: dict[str, Tensor] = {}

    def note(self, who: str, result: Tensor, signals: Mapping[str, Any], relevant: Tensor) -> None:
        """What the member `who` returned, the signals it was made of, and the positions that count (bool, of the same shape)."""
        bad = {"": _bad(result, relevant)}
        for name, value in signals.items():
            if isinstance(value, Tensor) and value.shape == relevant.shape and value.is_floating_point():
                bad[name] = _bad(value, relevant)
        before = self._bad.get(who, {})
        self._bad[who] = {name: flag | before[name] if name in before else flag for name, flag in bad.items()}

    def note_negative(self, who: str, weights: Tensor, relevant: Tensor) -> None:
        """Weights that may not be below 0 at these positions."""
        flag = ((weights < 0) & relevant).any()
        self._negative[who] = flag | self._negative[who] if who in self._negative else flag

    def flags(self) -> Tensor | None:
        """(N,) float, 1 where something was not finite, or negative; in the same order on every rank. None: nothing was noted."""
        flags = [flag for bad in self._bad.values() for flag in bad.values()] + [*self._negative.values()]
        return torch.stack(flags).float() if flags else None

    def settle(self, flags: Tensor | None) -> None:
        """Forgets what was noted, and raises if there was reason to. `flags`: as `flags()`, or their sum over ranks.

        Raises:
            ValueError: with the member's name, and which of its signals were not finite before.
        """
        noted, self._bad = self._bad, {}
        negative, self._negative = self._negative, {}
        if flags is None:
            return
        found = iter(flags.tolist())
        bad = {who: [name for name in names if next(found)] for who, names in noted.items()}
        for who, names in bad.items():
            if "" in names:
                raise ValueError(not_finite(who, [name for name in names if name]))
        if below := [who for who in negative if next(found)]:
            raise ValueError(f"{below[0]} is negative somewhere; weights must be >= 0. Clamp it: `.clamp(min=0)`.")


def not_finite(who: str, sources: list[str]) -> str:
    """The message; `sources` are signals that were not finite either."""
    if sources:
        return (
            f"{who} returned NaN or inf where it counts, and so had what it was given: {', '.join(sources)}. The numbers went wrong "
            "before it: look at the rewards, the learning rate, the precision and the critic."
        )
    return (
        f"{who} returned NaN or inf where it counts, from signals that were finite there. Look for a division by zero, a logarithm or "
        "an exponential in it."
    )


def _bad(value: Tensor, relevant: Tensor) -> Tensor:
    """0-d bool: something relevant is NaN or inf."""
    return (~value.isfinite() & relevant).any()


def _fingerprint(value: Any) -> tuple:
    if not isinstance(value, Tensor):
        return ("value", copy.copy(value))
    count = None if value.is_inference() else value._version
    # A copy of its own strides: `contiguous` keeps those of a column, which cannot be read as bytes.
    is_on_cpu = value.device.type == "cpu"
    bits = value.detach().clone(memory_format=torch.contiguous_format).view(torch.uint8) if is_on_cpu else None
    return ("tensor", count, value.shape, bits)


def _same(one: tuple, other: tuple) -> bool:
    if one[0] == "value":
        return one == other
    return one[:3] == other[:3] and (one[3] is None or torch.equal(one[3], other[3]))


def unbound(member):
    """A partial that binds nothing is the function itself; one of Hydra's own kind is an ordinary one."""
    if not isinstance(member, partial):
        return member
    return partial(member.func, *member.args, **member.keywords) if member.args or member.keywords else member.func


@contextmanager
def default_dtype_of(rewards_B: Tensor | None) -> Iterator[None]:
    """Lets `mask / lengths` and the like come out in double where the rewards are double."""
    before = torch.get_default_dtype()
    if rewards_B is None or rewards_B.dtype != torch.float64:
        yield
        return
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
