"""An evaluation as the viewer shows it: every completion in pieces, one for each turn and each answer of a tool, coloured by what the
turn earned.

    python -m compare.view evals/errands/seed0-1a2b3c4d                  # the first two models, on the same prompts
    python -m compare.view evals/errands/seed0-1a2b3c4d/MODEL.jsonl      # one of them, or two
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compare.records import RecordRow
from compare.untrusted import read_object, read_text
from compare.view.chat import shown_messages
from compare.view.digits import short_number
from compare.view.steps import view_of_step
from userio.visible import visible

NUMBERS = "evaluation.json"
EARNED = "what the turn earned"
_MOST = 20_000  # completions of one file


def evaluated_files(place: Path) -> list[Path]:
    """The completions of the first two models of an evaluation's folder, or the file itself; [] where this is no evaluation."""
    if place.suffix == ".jsonl" and place.is_file():
        return [place]
    if not place.is_dir() or not (place / NUMBERS).is_file():
        return []
    said = read_object(place / NUMBERS) or {}
    models = said.get("models") if isinstance(said.get("models"), list) else []
    files = [place / str(model.get("file")) for model in models if isinstance(model, dict) and model.get("file")]
    files = [file for file in files if file.parent == place and file.is_file()]
    return (files or sorted(place.glob("*.jsonl")))[:2]


def view_of_evaluation(file: Path) -> dict[str, Any]:
    """As `compare.view` shows a run, with one step.

    Raises:
        ValueError: the file holds no completions.
    """
    rows = [row for line in (read_text(file) or "").splitlines() if (row := _record(line)) is not None][:_MOST]
    if not rows:
        raise ValueError(f"{file} holds no completions of eval_model.py.")
    rows.sort(key=lambda row: row["group"])
    names = [name for name in rows[0] if name.startswith("reward/")]
    rows = [{**row, **{name: row.get(name) for name in names}} for row in rows]
    name, facts = _facts(file)
    step = view_of_step(0, rows, {})
    step["summary"].pop("idle", None)  # nothing here is credit
    step["summary"]["length"] = short_number(sum(row["count"] for row in rows) / len(rows))  # pieces are no tokens
    return {"title": visible(f"{file.parent.name}/{name}"), "facts": facts, "curves": {"steps": [], "values": {}},
            "steps": [step]}  # fmt: skip


def _facts(file: Path) -> tuple[str, list[list[str]]]:
    """(the model in short, what evaluation.json says of it and of the whole)."""
    try:
        said = read_object(file.parent / NUMBERS) or {}
    except (ValueError, OSError):
        said = {}
    names = ("task", "split", "prompts", "n", "seed", "passes", "threshold", "command")
    facts = [[name, visible(str(said[name]))] for name in names if name in said]
    listed = said.get("models")
    models = (
        [one for one in listed if isinstance(one, dict) and one.get("file") == file.name]
        if isinstance(listed, list)
        else []
    )
    if not models:
        return file.stem, facts
    name = str(models[0].get("name"))
    return f"{models[0].get('letter')} {name.rstrip('/').rpartition('/')[2]}", [["model", visible(name)], *facts]


def _record(line: str) -> RecordRow | None:
    """A completion as a record has it; None for a line that is none."""
    try:
        said = json.loads(line)
        scores = {f"reward/{visible(str(name))}": _number(value) for name, value in said["scores"].items()}
        talk = said.get("messages")
        prompt, pieces = _pieces(talk) if isinstance(talk, list) else (None, [(str(said["text"]), True)])
        earned = said.get("earned") if isinstance(said.get("earned"), list) else []
        turns = [sum(own for _, own in pieces[:place]) for place in range(len(pieces))]
        paid = [_number(earned[turn]) or 0.0 if own and turn < len(earned) else 0.0
                for (_, own), turn in zip(pieces, turns, strict=True)]  # fmt: skip
        return {
            "group": int(said["prompt"]),
            "prompt": f"prompt {int(said['prompt'])}",
            "messages": json.dumps(prompt) if prompt else None,
            "tokens": [text for text, _ in pieces],
            "learns": [own for _, own in pieces],
            "credit": paid,
            "weight": [1.0] * len(pieces),
            "turn_rewards": paid if earned else None,
            "truncated": not said["ended"],
            "reward": _number(said.get("reward")),
            "strategy": EARNED,
            "count": int(said["tokens"]),
            **scores,
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _pieces(talk: list[Any]) -> tuple[list[Any], list[tuple[str, bool]]]:
    """(messages of the prompt, [(text, whether the policy wrote it)])."""
    first = next(
        (i for i, one in enumerate(talk) if isinstance(one, Mapping) and one.get("role") == "assistant"), len(talk)
    )
    pieces = []
    for message in shown_messages(json.dumps(talk[first:])) or []:
        own = message["role"].split()[0] == "assistant"
        calls = [f"{call['name']} {call['arguments']}" for call in message.get("calls", ())]
        said = " ".join(part for part in (message.get("thinking", ""), message["text"], *calls) if part)
        pieces.append((f"{said or '(nothing)'}\n" if own else f"{message['role']}: {said}\n", own))
    return talk[:first], pieces


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value == value and abs(value) != float("inf") else None
