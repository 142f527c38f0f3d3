"""What a played conversation is, beside a plain text: its messages, what its turns earned, what went wrong in its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from credit.turns.index import runs_of
from rewards.text.completions import content_text
from rewards.text.turns import turns_of
from tasks.environments.notes import notes_of
from trainers.run.data_columns import plain_messages
from trainers.seam.token_spans import noted_span_rewards
from trainers.seam.visit import Scoring


def talks_of(trainer: Any, scoring: Scoring) -> list[dict[str, Any]]:
    """Of each row of this process: `messages`, `earned`, `fault`, the `tokens` that the model wrote and whether its last turn was
    `answered`; nothing where there are no tools."""
    count = len(scoring.rows)
    if not getattr(trainer, "tools", None):
        return [{} for _ in range(count)]
    environments = getattr(trainer, "environments", None) or [None] * count
    earned, found = _earned(trainer, scoring), []
    for row, (environment, completion) in enumerate(zip(environments, scoring.completions, strict=True)):
        turns = turns_of(completion)
        found.append(
            {
                "messages": plain_messages([*scoring.prompts[row], *completion]),
                "earned": earned[row],
                "fault": None if environment is None else notes_of(environment).fault,
                "tokens": len(scoring.completion_ids[row]) if scoring.wrote is None else sum(scoring.wrote[row]),
                "answered": not (turns and turns[-1].calls),
            }
        )
    return found


def lines_of_talk(messages: Sequence[Mapping[str, Any]], earned: Sequence[float] | None = None) -> list[str]:
    """A conversation for reading: `user: ...`, `turn 1 (+0.5): ...` with what it earned, `tool name: ...`. Of the messages before the
    policy's first the last one alone."""
    first = next((i for i, message in enumerate(messages) if message.get("role") == "assistant"), len(messages))
    lines, turn = [], 0
    for message in messages[max(first - 1, 0) :]:
        role = str(message.get("role", "?"))
        said = _text_of(message.get("content"))
        if role == "assistant":
            calls = [
                f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"
                if isinstance(call.arguments, Mapping)
                else f"{call.name}({call.arguments})"
                for call in turns_of([message])[0].calls
            ]
            paid = f" ({earned[turn]:+.3g})" if earned is not None and turn < len(earned) else ""
            said = " ".join(part for part in (said, *(f"-> {call}" for call in calls)) if part)
            turn, role = turn + 1, f"turn {turn + 1}{paid}"
        elif role == "tool":
            role = f"tool {message.get('name', '')}".rstrip()
        lines.append(f"{role}: {said}")
    return lines or [""]


def _text_of(content: Any) -> str:
    """Also of content that is neither text nor typed blocks."""
    try:
        return content_text(content)
    except ValueError:
        return json.dumps(content, ensure_ascii=False, default=str)


def _earned(trainer: Any, scoring: Scoring) -> list[list[float] | None]:
    """By turn; None where no reward function says it, and of rows without a score."""
    count = len(scoring.rows)
    if not any(callable(getattr(func, "turn_rewards", None)) for func in trainer.reward_funcs):
        return [None] * count
    first = trainer.accelerator.process_index * count
    scored = [bool((scores == scores).any()) for scores in scoring.rewards_BK[first : first + count]]
    earned_BT = noted_span_rewards(trainer, scoring, scoring.mask_BT).tolist()
    runs = map(runs_of, scoring.mask_BT.tolist())
    return [
        [round(sum(row[at] for at in run), 6) for run in of_row] if is_scored else None  # float32
        for is_scored, row, of_row in zip(scored, earned_BT, runs, strict=True)
    ]
