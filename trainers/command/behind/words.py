"""The words of a command that speak of what the runs bring which it names, and so are read when that is known."""

from __future__ import annotations

from collections.abc import Sequence

from userio.words import word_of

BROUGHT = ("task", "reward", "model")
NAMES_RUNS = {"eval_model": ("models", "model.name"), "sample": ("run", "model.name")}
"""Words by which each command may name a run, whose task it takes unless another is given."""


def words_of_runs(name: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words of the command `name`, words that change what its runs bring: `task.limit=10` without `task=jsonl`)."""
    keys = [word_of(word).name for word in words]
    if not any(key in NAMES_RUNS.get(name, ()) for key in keys):
        return list(words), []
    groups = BROUGHT if "task" not in keys else ("model",) if "run" in keys else ()
    apart = ["." in key and (group := key.partition(".")[0]) in groups and group not in keys for key in keys]
    return (
        [word for word, stands in zip(words, apart, strict=True) if not stands],
        [word for word, stands in zip(words, apart, strict=True) if stands],
    )
