"""Waiting for an async tool on the event loop that all share: nothing it raises may end the loop's thread, or the run waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


class Ended(Exception):
    """An async tool raised `SystemExit` or `KeyboardInterrupt`, which is none of the user's there."""


async def awaited_within(seconds: float | None, work: Awaitable[Any]) -> Any:
    """What it gives, within the time (None: no limit).

    Raises:
        TimeoutError: the time is up. Ended. Else what it raises itself.
    """
    # Caught inside: `wait_for` runs it as a task of its own, and a task hands these two on to the loop.
    return await asyncio.wait_for(_kept(work), seconds)


async def _kept(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise Ended(repr(error)) from error
