"""A task of the package reasoning-gym, by its name.

accelerate launch train_grpo.py model=hf model.name=... task=reasoning_gym task.name=chain_sum
accelerate launch train_grpo.py experiment=reasoning_gym
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

from rewards.format import regex_format
from tasks.base import Row, Task, prompt_key
from tasks.columns import prompt_of
from tasks.gym.rows import GymEntry, make_entries
from tasks.gym.scores import gym_score
from tasks.judge import EXTRACT
from userio.read import nearest

logger = logging.getLogger(__name__)

TAGS = (
    "Think first, then answer: write your reasoning between <think> and </think> and then nothing but the final answer "
    "between <answer> and </answer>."
)


def reasoning_gym(
    name: str | list[str],
    settings: Mapping[str, Any] | None = None,
    n_train: int = 1000,
    n_eval: int = 100,
    extract: str = "tag",
    pattern: str | None = "think_answer",
    format_weight: float = 0.2,
    chat: bool | None = None,
    system_prompt: str | None = "tags",
    p_right: float = 0.5,
    seed: int = 0,
) -> Task:
    """Questions of reasoning-gym, judged by its own scorer.

    Args:
        name: of the task there, as chain_sum; a list of them shares the rows out.
        settings: of that task, as {min_terms: 2}; of several, a mapping for each name.
        n_train: rows to train on; they may repeat a question where the task has few.
        n_eval: distinct questions held out, never in the training rows; fewer where the task has few.
        extract: where the completion holds its answer: tag (<answer>), boxed, marker (####), number (the last one), text
            (all of it), any (the first of these that is found).
        pattern: of the format reward over the whole completion, as in task=jsonl; None: no format reward.
        format_weight: weight of the format reward; the scorer's has the rest of 1.
        chat: True wraps questions as a user message. None: only if there is a system prompt.
        system_prompt: first message of every prompt; "tags" asks for think and answer tags, None leaves the question alone.
        p_right: share of right answers in the demonstrations that model=embedded is warm-started on; the others have the answer
            of another question.
        seed: of the rows. Not the run's seed: every run sees the same rows.

    Raises:
        ValueError: the package is missing, no such task or setting (with the nearest name), sizes out of range.
    """
    if n_train < 1 or n_eval < 0:
        raise ValueError(f"task.n_train must be at least 1 and n_eval at least 0, got {n_train} and {n_eval}.")
    if extract not in EXTRACT:
        raise ValueError(f"task.extract={extract}: choose one of {', '.join(EXTRACT)}.{nearest(extract, EXTRACT)}")
    for setting, value in (("format_weight", format_weight), ("p_right", p_right)):
        if not 0 <= value <= 1:
            raise ValueError(f"task.{setting}={value} must lie in [0, 1].")
    if system_prompt not in (None, "", "tags") and chat is False:
        raise ValueError("task.system_prompt needs chat prompts: remove task.chat=false.")
    if system_prompt == "tags":
        system_prompt = TAGS if chat is not False else None
    names = [name] if isinstance(name, str) else list(name)
    each = _settings_of(names, dict(settings or {}))
    train, held_out = _shared_out(names, each, n_train, n_eval, seed)
    if len(held_out) < n_eval:
        logger.warning(
            "task %s: %d questions are held out instead of %d (task.n_eval): it has few, and four in five are trained on.",
            *(", ".join(names), len(held_out), n_eval),
        )
    entries = [*train, *held_out]
    prompt = prompt_of(chat=bool(chat or (chat is None and system_prompt)), system_prompt=system_prompt)
    rows = [_row(number, *entry, prompt) for number, entry in enumerate(entries)]
    score = gym_score(EXTRACT[extract](), each, entries)
    formatted = [] if pattern is None else [regex_format(pattern, name="format")]
    answered = [
        (row, str(entry["answer"])) for row, (_, entry) in zip(rows, train, strict=False) if entry["answer"] is not None
    ]
    return Task(
        name="_".join(names)[:60],
        train=rows[: len(train)],
        evaluation=rows[len(train) :],
        reward_funcs=[*formatted, score],
        reward_weights=[format_weight, 1.0 - format_weight] if formatted else [1.0],
        demonstrations=_demonstrations(answered, p_right) if answered and extract == "tag" else None,
        max_completion_length=max((len(_answer(text).encode()) for _, text in answered), default=None),
        about=(
            f"prompt   {prompt_key(rows[0]['prompt'])!r:.72}",
            f"answer   scored by reasoning-gym ({', '.join(names)}), read from the completion by task.extract={extract}",
            f"split    {len(train):,} rows to train on; {len(held_out):,} held out (task.seed={seed}); no prompt in both",
        ),
    )


def _settings_of(names: list[str], settings: dict[str, Any]) -> dict[str, dict]:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"task.name={names}: name a task, or a list of different ones.")
    if len(names) == 1 and names[0] not in settings:
        return {names[0]: settings}
    if strange := [key for key in settings if key not in names or not isinstance(settings[key], Mapping)]:
        raise ValueError(
            f"task.settings.{strange[0]}: with several tasks give a mapping for each, as task.settings.{names[0]}={{size: 3}}."
        )
    return {name: dict(settings.get(name, {})) for name in names}


def _shared_out(
    names: list[str], settings: dict[str, dict], n_train: int, n_eval: int, seed: int
) -> tuple[list[tuple[str, GymEntry]], list[tuple[str, GymEntry]]]:
    """(name, entry) pairs, the tasks in turn."""
    sides: tuple[list, list] = ([], [])
    for place, name in enumerate(names):
        counts = [len(range(place, wanted, len(names))) for wanted in (n_train, n_eval)]
        made = make_entries(name, settings[name], *counts, seed) if counts[0] or counts[1] else ([], [])
        for side, entries in zip(sides, made, strict=True):
            side += [(number, place, name, entry) for number, entry in enumerate(entries)]
    train, held_out = ([(name, entry) for *_, name, entry in sorted(side, key=lambda one: one[:2])] for side in sides)
    asked = {entry["question"] for _, entry in held_out}
    return [(name, entry) for name, entry in train if entry["question"] not in asked], held_out


def _row(number: int, name: str, entry: GymEntry, prompt: Any) -> Row:
    answer = None if entry["answer"] is None else str(entry["answer"])
    return {"prompt": prompt(entry["question"], f"task.name={name}"), "answer": answer, "source": name, "entry": number}


def _answer(text: str) -> str:
    return f"<think>.</think><answer>{text}</answer>\n"  # a byte for the end of text


def _demonstrations(answered: list[tuple[Row, str]], p_right: float) -> Any:
    def demonstrations(count: int, seed: int) -> list[Row]:
        rng = random.Random(f"gym demonstrations {seed}")
        chosen = []
        for _ in range(count):
            row, right = rng.choice(answered)
            text = right if rng.random() < p_right else rng.choice(answered)[1]
            chosen.append({"prompt": row["prompt"], "completion": _answer(text).rstrip("\n")})
        return chosen

    return demonstrations
