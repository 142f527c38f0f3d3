"""Questions of reasoning-gym by seed: the same rows for the same arguments, in every process and on every day.

Some of its generators walk over sets, whose order follows Python's hash seed, and some draw from Python's global random
numbers. So rows are made in an interpreter of their own, with that seed fixed and those numbers seeded for each row.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import pickle
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MISSING = "task=reasoning_gym needs the package reasoning-gym: pip install reasoning-gym"
_MAKE = "from tasks.gym.rows import _make; _make()"
GymEntry = dict[str, Any]  # "question", "answer" and "metadata", as reasoning-gym makes them
_MOST_TRIES = 8  # rows that are looked at for one that is wanted
_SHARE = 5  # at most one in so many questions is held out


def gym_dataset(name: str, settings: Mapping[str, Any], seed: int = 0, size: int = 1) -> Any:
    """One of reasoning-gym's data sets.

    Raises:
        ValueError: the package is missing; no such name or setting, with the nearest; settings that it refuses.
    """
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ValueError(MISSING)
    from reasoning_gym.factory import DATASETS, create_dataset

    known = sorted(set(DATASETS) - {"composite"})
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else f" There are {len(known)}, as {', '.join(known[:4])}."
        raise ValueError(f"task.name={name}: reasoning-gym has no such task.{hint} All: docs/tasks.md.")
    taken = [field.name for field in fields(DATASETS[name][1]) if field.name not in ("seed", "size")]
    for key in settings:
        if key not in taken:
            near = difflib.get_close_matches(str(key), taken, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(taken)}."
            raise ValueError(f"task.settings.{key}: the task {name!r} has no such setting. {hint}")
    try:
        return create_dataset(name, seed=seed, size=size, **settings)
    except (AssertionError, ValueError, TypeError, KeyError) as error:
        given = ", ".join(f"{key}={value}" for key, value in settings.items()) or "its defaults"
        raise ValueError(
            f"task.settings: the task {name!r} refuses {given}: {str(error) or type(error).__name__}"
        ) from error


def make_entries(
    name: str, settings: Mapping[str, Any], n_train: int, n_eval: int, seed: int
) -> tuple[list[GymEntry], list[GymEntry]]:
    """Entries to train on, which may repeat, and distinct ones to evaluate on, no question in both. Of a generator that has few
    questions at most a fifth is held out, so that there may be fewer than asked for.

    Raises:
        ValueError: as `gym_dataset`; the generator fails.
    """
    gym_dataset(name, settings)
    with tempfile.TemporaryDirectory() as folder:
        asked, made = Path(folder) / "asked", Path(folder) / "made"
        asked.write_bytes(pickle.dumps((name, dict(settings), n_train, n_eval, seed)))
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", _MAKE, str(asked), str(made)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode or not made.exists():
            last = (done.stderr.strip().splitlines() or ["it left no rows"])[-1]
            raise ValueError(f"task.name={name}: reasoning-gym cannot make these rows: {last}")
        return pickle.loads(made.read_bytes())


def _make() -> None:
    asked, made = map(Path, sys.argv[1:])
    made.write_bytes(pickle.dumps(_entries(*pickle.loads(asked.read_bytes()))))


def _entries(name: str, settings: dict, n_train: int, n_eval: int, seed: int) -> tuple[list[GymEntry], list[GymEntry]]:
    stream = _stream(name, settings, f"{seed} train", n_train * _MOST_TRIES + 64)
    train = [entry for entry, _ in zip(stream, range(n_train), strict=False)]
    there = {entry["question"] for entry in train}
    held_out: dict[str, GymEntry] = {}
    taken = 0
    for entry in _stream(name, settings, f"{seed} eval", n_eval * _MOST_TRIES + 64 if n_eval else 0):
        question = entry["question"]
        if question in held_out:
            continue
        if question in there:
            if taken >= len(there) // _SHARE:
                continue
            taken += 1
        held_out[question] = entry
        if len(held_out) == n_eval:
            break
    kept = [entry for entry in train if entry["question"] not in held_out]
    for entry in stream:
        if len(kept) == n_train:
            break
        if entry["question"] not in held_out:
            kept.append(entry)
    return kept, list(held_out.values())


def _stream(name: str, settings: dict, seed: str, size: int) -> Iterator[GymEntry]:
    """Entries of a seed of their own: reasoning-gym seeds row i by seed + i, so that near seeds share rows."""
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:3], "big")
    dataset = gym_dataset(name, settings, seed=start, size=size) if size else []
    for number in range(size):
        random.seed(start + number)
        yield dataset[number]
