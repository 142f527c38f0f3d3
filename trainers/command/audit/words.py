"""The words of an audit that are composed by themselves: those about credit, which may name several strategies, and those that
change settings of the run that is audited."""

from __future__ import annotations

from collections.abc import Sequence

from configs.command_line.combinations import is_about_credit
from userio.words import word_of

OF_RUN = ("task", "reward", "model")
_LISTS = ("checkpoints",)  # settings whose values may stand with commas between them, as those of credit do


def words_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words of the command, words that stand apart)."""
    keys = [word_of(word).name for word in words]
    apart = [
        is_about_credit(word) or ("run" in keys and _is_inside(key, keys))
        for word, key in zip(words, keys, strict=True)
    ]
    return (
        [_listed(word) for word, stands in zip(words, apart, strict=True) if not stands],
        [word for word, stands in zip(words, apart, strict=True) if stands],
    )


def _is_inside(key: str, keys: Sequence[str]) -> bool:
    """Whether it is a setting of what the run brings: `task.limit=10` without `task=jsonl`."""
    group, dot, _ = key.partition(".")
    return bool(dot) and group in OF_RUN and group not in keys


def _listed(word: str) -> str:
    """`checkpoints=10,20` as Hydra writes a list."""
    own = word_of(word)
    return f"{own.key}=[{own.text}]" if own.name in _LISTS and "," in own.text and own.text[0] not in "[\"'" else word
