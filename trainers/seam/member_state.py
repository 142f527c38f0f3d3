"""What a member of a strategy remembers from batch to batch: found, compared, put aside and put back.

A member may be a function, a partial of one, or an object with `__call__`. One that keeps state says so by `state_dict()` and
`load_state_dict(state)`, as torch's modules do. Of any other, this module looks at what is in reach: attributes of objects and
functions, variables of closures, bound arguments, default values, and numbers, containers and tensors that a function names
among its module's globals. State kept elsewhere (a file, another module) is out of sight.
"""

from __future__ import annotations

import copy
import hashlib
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_MUTABLE = (dict, list, set, deque)
_DATA = (*_PLAIN, *_MUTABLE, tuple, frozenset, torch.Tensor, np.ndarray)
_SMALL = 1 << 12  # a larger tensor is told from another by where it lies and how often it was written to


def holder(member: Any) -> Any | None:
    """The object behind a member that has both `state_dict` and `load_state_dict`; None if there is none."""
    for thing in _behind(member):
        if callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None)):
            return thing
    return None


class Visible:
    """The state of a member that is in reach, when this was made.

    `changed()`: whether it is another one now. `put_back()`: writes it back.

    Raises:
        TypeError: (`put_back`) something in it cannot be copied.
    """

    def __init__(self, *members: Any, copied: bool = False):
        self._slots = [slot for member in members for slot in _slots(member, set())]
        self._before = self._digest()
        self._copies: list[Any] | None = None
        self._why = ""
        if copied:
            try:
                self._copies = copy.deepcopy([read() for read, _ in self._slots])
            except Exception as error:
                self._why = str(error)

    def changed(self) -> bool:
        return self._digest() != self._before

    def put_back(self) -> None:
        if self._copies is None:
            raise TypeError(f"it cannot be copied ({self._why})")
        for (_, write), value in zip(self._slots, self._copies, strict=True):
            write(value)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        seen: dict[int, int] = {}
        for read, _ in self._slots:
            _feed(digest, read(), seen)
        return digest.hexdigest()


Slot = tuple[Callable[[], Any], Callable[[Any], None]]


def digest_of(value: Any) -> str:
    """A hash of plain values, containers, arrays and tensors, to the bit."""
    digest = hashlib.sha256()
    _feed(digest, value, {}, whole=True)
    return digest.hexdigest()


def _behind(member: Any) -> Iterator[Any]:
    """The member and what it wraps: the function of a partial, the object of a bound method."""
    while member is not None:
        yield member
        if isinstance(member, partial):
            member = member.func
        else:
            member = getattr(member, "__self__", None) if isinstance(member, types.MethodType) else None


def _slots(member: Any, seen: set[int]) -> Iterator[Slot]:
    """(read, write) of everything in which a member could keep something."""
    if id(member) in seen or isinstance(member, (*_PLAIN, type, types.ModuleType)):
        return
    seen.add(id(member))
    if isinstance(member, partial):
        for part in (member.func, *member.args, *member.keywords.values()):
            yield from _slots(part, seen)
    elif isinstance(member, types.MethodType):
        yield from _slots(member.__self__, seen)
        yield from _slots(member.__func__, seen)
    elif isinstance(member, types.FunctionType):
        yield from _slots_of_function(member, seen)
    elif isinstance(member, _MUTABLE):
        yield (lambda: member), (lambda value: _refill(member, value))
    elif hasattr(member, "__dict__") and not _is_of_the_library(member):
        yield (lambda: member.__dict__), (lambda value: _refill(member.__dict__, value))


def _slots_of_function(function: types.FunctionType, seen: set[int]) -> Iterator[Slot]:
    yield (lambda: function.__dict__), (lambda value: _refill(function.__dict__, value))
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield from _slots(default, seen)
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if isinstance(content, _DATA):
            yield _variable(
                lambda cell=cell: cell.cell_contents, lambda v, cell=cell: setattr(cell, "cell_contents", v)
            )
        else:
            yield from _slots(content, seen)
    space = function.__globals__
    for name in function.__code__.co_names:  # globals, and attributes and builtins of the same name
        if name not in space:
            continue
        content = space[name]
        if isinstance(content, _DATA):
            yield _variable(lambda name=name: space[name], lambda v, name=name: space.__setitem__(name, v))
        elif isinstance(content, types.FunctionType) and content.__globals__ is space:
            yield from _slots(content, seen)


def _variable(read: Callable[[], Any], bind: Callable[[Any], None]) -> Slot:
    """A name that may be bound anew, or hold something that is written into."""
    first = read()

    def write(value: Any) -> None:
        if isinstance(first, _MUTABLE):
            _refill(first, value)
            value = first
        bind(value)

    return read, write


def _refill(container: Any, value: Any) -> None:
    """The same object with other contents, so that whoever else holds it sees them."""
    container.clear()
    (container.extend if isinstance(container, (list, deque)) else container.update)(value)


def _is_of_the_library(thing: Any) -> bool:
    """Loggers, locks and the like change by themselves and mean nothing."""
    return type(thing).__module__.split(".")[0] in sys.stdlib_module_names - {"__main__"}


def _feed(digest: Any, value: Any, seen: dict[int, int], whole: bool = False) -> None:
    digest.update(type(value).__name__.encode())
    if isinstance(value, _PLAIN):
        digest.update(repr(value).encode())
        return
    if id(value) in seen:
        digest.update(str(seen[id(value)]).encode())
        return
    seen[id(value)] = len(seen)
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        if value.numel() > _SMALL and not whole and not value.is_inference():
            digest.update(f"{value.data_ptr()} {value._version}".encode())
        elif value.numel():
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes())
    elif isinstance(value, torch.Generator):
        digest.update(value.get_state().numpy().tobytes())
    elif isinstance(value, random.Random):
        digest.update(repr(value.getstate()).encode())
    elif isinstance(value, np.random.Generator):
        digest.update(repr(value.bit_generator.state).encode())
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _feed(digest, key, seen, whole)
            _feed(digest, entry, seen, whole)
    elif isinstance(value, (set, frozenset)):
        for part in sorted(digest_of(entry) for entry in value):
            digest.update(part.encode())
    elif isinstance(value, (list, tuple, deque)):
        for entry in value:
            _feed(digest, entry, seen, whole)
    elif isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        digest.update(repr(getattr(value, "__name__", "")).encode())
    elif isinstance(value, (partial, types.FunctionType, types.MethodType)):
        for read, _ in _slots(value, set()):
            _feed(digest, read(), seen)
    elif hasattr(value, "__dict__") and not _is_of_the_library(value):
        _feed(digest, value.__dict__, seen, whole)
