"""Reward functions for tests, importable by name so that worker processes can load them: one is lively, the others misbehave."""

import asyncio
import contextlib
import ctypes
import os
import sys
import time


class Odd(BaseException):
    """Passes through `except Exception`."""


def lengths(prompts, completions, **columns):
    return [float(len(text)) for text in completions]


def behaves(prompts, completions, **columns):
    """Does to each row what its text says."""
    return [_one(text) for text in completions]


async def behaves_async(prompts, completions, **columns):
    result = []
    for text in completions:
        await asyncio.sleep(0)
        if text == "hang":
            await asyncio.sleep(60)
        result.append(_one(text))
    return result


def behaves_alone(prompts, completions, **columns):
    """As `behaves`, but a text "crash" ends the whole process."""
    if "crash" in completions:
        os._exit(3)
    return behaves(prompts, completions)


def _one(text):
    if text == "raise":
        raise RuntimeError("broken row")
    if text == "exit":
        sys.exit(3)
    if text == "odd":
        raise Odd("broken row")
    if text == "hang":
        time.sleep(60)
    if text == "spin":
        while True:
            pass
    if text == "swallow":
        while True:
            with contextlib.suppress(Exception):
                time.sleep(60)
    if text == "stuck":
        ctypes.PyDLL(None).usleep(ctypes.c_uint(60_000_000))  # C code that keeps the interpreter lock
    return {"nan": float("nan"), "inf": float("inf"), "text": "1.0", "none": None, "list": [1.0], "huge": 1e300}.get(
        text, float(len(text))
    )


async def exits_in_a_task(prompts, completions, **columns):
    async def one(text):
        return _one(text)

    return list(await asyncio.gather(*(asyncio.create_task(one(text)) for text in completions)))


def interrupts(prompts, completions, **columns):
    raise KeyboardInterrupt


def logs_state(prompts, completions, trainer_state, log_metric, **columns):
    log_metric("step", float(trainer_state.global_step))
    return [float(trainer_state.global_step) for _ in completions]


def modules(prompts, completions, **columns):
    return [float(name in sys.modules) for name in completions]


def lively(prompts, completions, **columns):
    """Share of digits in the completion: other completions, other rewards, so that even the smallest model can learn."""
    return [sum(letter.isdigit() for letter in text) / max(1, len(text)) for text in completions]


def chosen(*overrides: str, **more) -> dict:
    """The node `reward` of a command's words, as plain data."""
    from omegaconf import OmegaConf

    from configs.compose import compose_config

    return OmegaConf.to_container(compose_config("score", overrides, **more).reward)
