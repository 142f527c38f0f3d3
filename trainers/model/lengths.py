"""Whether the prompts, and what is written behind them, have room in a model's positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.about import prompt_length
from tasks.base import Task, prompt_key
from trainers.model.prompts import prompt_ids


def positions_of(config: Any) -> int | None:
    """The longest text in tokens that a model is made for; None where its configuration does not say. config: of the model."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    return found if isinstance(found, int) and found > 0 else None


def check_room(task: Task, lengths: Sequence[int], config: Any, name: str) -> None:
    """Whether each prompt and `task.room` tokens behind it fit the model.

    Args:
        lengths: tokens of the prompts of `task.train` and, behind those, `task.evaluation`. config: of the model. name: of it.

    Raises:
        ValueError: some do not; names the row of the first, how many there are, and what to do.
    """
    positions, rows = positions_of(config), [*task.train, *task.evaluation]
    if positions is None:
        return
    bad = [number for number, length in enumerate(lengths) if length + task.room > positions]
    if not bad:
        return
    prompt, tokens = rows[bad[0]]["prompt"], lengths[bad[0]]
    place = task.places.get(prompt_key(prompt)) or (
        f"task {task.name}, "
        + (f"row {bad[0] + 1}" if bad[0] < len(task.train) else f"evaluation row {bad[0] + 1 - len(task.train)}")
    )
    behind = (
        f", and with trainer.max_completion_length={task.room} behind it takes {tokens + task.room:,}"
        if task.room
        else ""
    )
    raise ValueError(
        f"{place}: the prompt has {tokens:,} tokens{behind}; {name} has {positions:,} positions. {len(bad):,} of "
        f"{len(rows):,} prompts are too long. {' '.join(_remedies(task, rows, set(bad), positions, max(lengths)))}"
    )


def lengths_of(task: Task, tokenizer: Any) -> list[int]:
    """Tokens of every prompt, as `check_room` wants them."""
    return [len(prompt_ids(row["prompt"], tokenizer)) for row in (*task.train, *task.evaluation)]


def _remedies(task: Task, rows: list, bad: set[int], positions: int, longest: int) -> list[str]:
    found = []
    short = [prompt_length(row["prompt"]) for number, row in enumerate(rows) if number not in bad]
    if short and task.places:
        least = min(prompt_length(rows[number]["prompt"]) for number in bad)
        kept = sum(length < least for length in short)
        found.append(f"task.max_prompt_chars={least - 1} leaves such rows out and keeps {kept:,}.")
    if longest < positions and task.room:
        found.append(f"trainer.max_completion_length={positions - longest} makes room for all.")
    return [*found, "Or shorten the prompts, or take a model with more positions."]
