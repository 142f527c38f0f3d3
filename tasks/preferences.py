"""Data of pairs and of thumbs, which no verb here learns from: recognised by their columns, and said with what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

PAIR = ("chosen", "rejected")
_TRAINERS = (
    "DPOTrainer and RewardTrainer of TRL learn from pairs, and a reward model so trained is a reward here: reward=judge"
)


def check_preferences(
    raw: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str], named: Collection[str], source: str
) -> None:
    """Whether the table is one of preferences that the settings do not speak of.

    Args:
        names: its columns without those that are dropped. named: columns that a setting names.

    Raises:
        ValueError: it has the columns chosen and rejected, or a completion with a true or false `label`.
    """
    if set(PAIR) <= set(names) and not set(PAIR) & set(named):
        place, row = _first(raw, "chosen")
        whole = isinstance(row["chosen"], list) and "prompt" not in names
        learn = "task.messages_column=chosen" if whole else "task.completion_column=chosen"
        ask = "task.messages_column=chosen" if whole else "the column 'prompt'"
        raise ValueError(
            f"{source} is preference data: {place} has the columns chosen and rejected. {_TRAINERS} reward.funcs.0.model=... "
            f"What is chosen can be imitated: train_sft.py {learn} task.answer_column=null task.drop_columns=[rejected]. "
            f"The prompts alone ({ask}) do for train_grpo.py with a reward of your own: "
            + ("task.messages_column=chosen " if whole else "")
            + f"task.drop_columns=[{'' if whole else 'chosen,'}rejected] task.answer_column=null reward.funcs=[file.py:function]."
        )
    if {"completion", "label"} <= set(names) and "label" not in named:
        place, row = _first(raw, "label")
        if not isinstance(row["label"], bool):
            return
        raise ValueError(
            f"{source} is preference data: {place} has a completion and a `label` that is true or false. KTOTrainer of TRL "
            "learns from it. Keep the rows whose label is true to imitate them (train_sft.py), or leave the column out: "
            "task.drop_columns=[label]."
        )


def _first(raw: Sequence[tuple[str, Mapping[str, Any]]], name: str) -> tuple[str, Mapping[str, Any]]:
    return next(((place, row) for place, row in raw if row.get(name) is not None), (raw[0][0], {name: None}))
