"""Hard timeouts: a reward function in worker processes that are killed when a call takes too long.

The pool (pebble) is started on first use and kept. Processes come from a fork server, so a killed one is replaced in
milliseconds and nothing of the training process (CUDA, threads, locks) is inherited.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from typing import Any

from rewards.guard.failures import collected_failures
from rewards.guard.sheet import Logs, Outcome, Values, portable
from rewards.guard.verdict import RewardStop
from rewards.load import load_reward
from userio.own_files import load_file, loaded_files


class WorkerPool:
    """A reward function running in `workers` processes of its own.

    Raises:
        ValueError: the function cannot be sent to another process, or pebble is not installed.
    """

    def __init__(self, func: Callable, name: str, workers: int):
        self.name, self.workers = name, workers
        self._recipe, self._context = recipe(func, name), _context(func)
        self._pool, self._at_exit = None, None
        _pebble()

    def __getstate__(self):
        return {**self.__dict__, "_pool": None, "_at_exit": None}

    def submit(self, values: Values, timeout: float | None, method: str = "__call__") -> Future[Outcome]:
        """Starts one call of the function (or of its companion `method`). The future gives the outcome, or raises what
        the function raised; `TimeoutError` where the process had to be killed.

        Raises:
            ValueError: an argument cannot be pickled.
        """
        try:
            parcel = pickle.dumps(portable(values))
        except Exception as error:
            raise RewardStop(
                f"Reward {self.name!r} runs in worker processes, but its arguments cannot be sent there ({error}). "
                "Use workers=0 for this function."
            ) from None
        if self._pool is None:
            self._pool = _pebble().ProcessPool(
                max_workers=self.workers, context=self._context, initializer=_prepare, initargs=(self._recipe,)
            )
            # Else a process that starts while the interpreter ends would print a traceback.
            self._at_exit = weakref.finalize(self, _end, self._pool)
        return self._pool.schedule(_work, args=(self._recipe, parcel, method), timeout=timeout)

    def close(self) -> None:
        """Ends the processes. The next `submit` starts new ones."""
        if self._at_exit is not None:
            self._at_exit()
        self._pool, self._at_exit = None, None


def recipe(func: Callable, name: str) -> bytes:
    """How a worker gets hold of the function: its source (`rewards.load`) or the pickled function.

    Raises:
        ValueError: neither works.
    """
    source = getattr(func, "reward_source", None)
    try:
        if source:
            return pickle.dumps(("load", *source))
        return pickle.dumps(("pickle", loaded_files(), pickle.dumps(func)))
    except Exception as error:
        raise ValueError(
            f"Reward {name!r} cannot run in worker processes, it cannot be pickled ({error}). Define it at the top "
            "level of a module, or name it as file.py:function, or use workers=0."
        ) from None


@lru_cache(maxsize=8)
def _prepared(recipe_bytes: bytes) -> Callable:
    kind, *rest = pickle.loads(recipe_bytes)
    if kind == "load":
        return load_reward(*rest)
    files, pickled = rest
    for file in files:  # a class of such a file is found only if the file was loaded
        load_file(file)
    return pickle.loads(pickled)


def _prepare(recipe_bytes: bytes) -> None:
    """Imports what the function needs before the clock of a call runs: torch alone takes longer than a row may."""
    with suppress(Exception):  # the call will raise it again
        _prepared(recipe_bytes)


def _end(pool: Any) -> None:
    pool.stop()
    pool.join()


def _work(recipe_bytes: bytes, parcel: bytes, method: str) -> Outcome:
    call, logs = getattr(_prepared(recipe_bytes), method), Logs()
    with collected_failures() as failures:
        result = call(**logs.stand_in(pickle.loads(parcel)))
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
    return Outcome(result, list(failures), logs)


async def _awaited(awaitable):
    return await awaitable


def _pebble():
    try:
        import pebble
    except ImportError:
        raise ValueError("workers > 0 needs the package pebble: pip install pebble") from None
    return pebble


def _context(func: Callable):
    """Fork server where there is one. Functions of the training script itself need that script in the worker."""
    in_script = getattr(func, "__module__", None) == "__main__" and not hasattr(func, "reward_source")
    return multiprocessing.get_context(_METHOD) if in_script else _LeanContext()


_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_Base: Any = type(multiprocessing.get_context(_METHOD))
_hiding = threading.Lock()


class _LeanProcess(_Base.Process):
    """A process that does not import the training script again (and with it torch, trl and the rest: seconds and
    gigabytes for a function that needs none of it). The script's name is hidden while the process starts."""

    @staticmethod
    def _Popen(process_obj):
        main = sys.modules["__main__"].__dict__
        with _hiding:
            hidden = {key: main[key] for key in ("__file__", "__spec__") if key in main}
            main.pop("__file__", None)
            main["__spec__"] = None
            try:
                return _Base.Process._Popen(process_obj)
            finally:
                main.update(hidden)


class _LeanContext(_Base):
    Process = _LeanProcess
