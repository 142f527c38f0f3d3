"""`python -m rewards.score`: completions that are typed, in a file or in a task's own rows, under the rewards of a command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from configs.command_line.habits import dashed
from configs.compose import ConfigError
from rewards.build import check_reward_columns, check_weights, guard_rewards, resolve_rewards
from rewards.guard import guard_of
from rewards.likelihood import REFERENCE
from rewards.load import GIVEN
from rewards.score import Sheets, scored, show_rows, show_totals, tell_failures, totals
from rewards.text.opened import COLUMN
from sampling.draws import check_counts
from tasks.base import Row, Task
from trainers.command.build import Rewards, build_rewards, build_task
from trainers.command.cli import compose_command, help_text, vocabulary
from trainers.command.recorded.of_task import OfTask, with_columns
from trainers.command.recorded.rows import NAMES, recorded_rows, rows_with_completion
from userio.read import SUFFIXES, kind_of, read_lines
from userio.tracebacks import tell
from userio.words import word_of


def score_command(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 with the reason on standard error."""
    parser = _parser()
    options, strange = parser.parse_known_intermixed_args(arguments)
    guarded: list = []
    try:
        if options.help:
            print(f"{help_text('score', options.config_dir, options.overrides)}\n\nCompletions and columns:\n")
            print(parser.format_help().partition("options:\n")[2].rstrip())
            return 0
        if strange:
            given = list(sys.argv[1:] if arguments is None else arguments)
            raise ConfigError(dashed(given, strange, vocabulary("score", options.config_dir)))
        command = compose_command("score", options.overrides, options.config_dir)
        if options.cfg:
            print(OmegaConf.to_yaml(command.config))
            return 0
        config = command.config
        if not any("max_failed_share" in word for word in options.overrides):
            config.reward.guard["max_failed_share"] = 1.0
        check_counts(0, **({"rows": config.rows} if config.rows is not None else {}))
        task = build_task(config) if config.get("task") is not None else None
        rows = _rows(options, config, task)
        guarded = (rewards := _rewards(config, task, rows)).funcs
        sheets = scored(rewards.funcs, rewards.weights, rows)
        typed = len(options.completion)
        _show(sheets, config, len(rows) if options.json and config.rows is None else typed, options.json)
    except (ValueError, OSError) as error:
        return tell("rewards.score", error)
    finally:
        for func in guarded:
            if (guard := guard_of(func)) is not None:
                guard.close()
    return 0


def _show(sheets: Sheets, config: DictConfig, count: int, as_json: bool) -> None:
    show_rows(sheets, count if config.rows is None else config.rows, as_json)
    found = totals(sheets, config.threshold)
    if as_json:
        print(json.dumps({"rows": len(sheets.rows), "totals": found}, ensure_ascii=False))
    else:
        show_totals(found, len(sheets.rows))
    tell_failures(sheets)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m rewards.score", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--help", "-h", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--config-dir", "-cd", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--cfg", "-c", choices=["job"], default=None, help=argparse.SUPPRESS)
    parser.add_argument(
        "--completion", action="append", default=[], help="a completion; repeat for more; - is standard input"
    )
    parser.add_argument("--file", type=Path, help="completions: .jsonl, .json, .csv, .parquet, or one a line")
    parser.add_argument("--prompt", default="", help="the prompt of every --completion")
    parser.add_argument(
        "--opened", default="", metavar="TEXT", help="what the prompt has opened, such as <think> (docs/rewards.md)"
    )
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=VALUE", help="a dataset column, as JSON or text"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a row, the totals last")
    return parser


def _rewards(config: DictConfig, task: Task | None, rows: list[Row]) -> Rewards:
    """The functions, guarded. Without a task, as `build_rewards` with one."""
    if config.reward.funcs == "task" and task is None:
        raise ConfigError(
            "reward=task means the rewards of a task: name it (task=...), or choose reward=<name>, or "
            "reward.funcs=[file.py:function]."
        )
    if task is not None:
        rewards = build_rewards(config, task)
        check_reward_columns(rewards.funcs, rows[0])
        return rewards
    node: Any = OmegaConf.to_container(config.reward, resolve=True)
    funcs = resolve_rewards(node["funcs"], Path.cwd())
    weights = check_weights(node.get("weights"), funcs) or [1.0] * len(funcs)
    check_reward_columns(funcs, rows[0])
    guard = node.get("guard") or {}
    return Rewards(guard_rewards(funcs, guard if guard.pop("enabled", True) else None), weights)


def _rows(options: argparse.Namespace, config: DictConfig, task: Task | None) -> list[Row]:
    """What is scored, every row with every column."""
    shared: Row = {COLUMN: options.opened} if options.opened else {}
    for column in options.column:
        name, value = word_of(column)
        if value is None:
            raise ConfigError(f"--column {column}: write NAME=VALUE.")
        shared[name] = _json_or_text(value)
    texts = [sys.stdin.read() if text == "-" else text for text in options.completion]
    rows = [{"prompt": options.prompt, "completion": text, **shared} for text in texts]
    if options.file is not None:
        rows += [{"prompt": options.prompt, **shared, **row} for row in _file_rows(options.file, config)]
    elif not rows and task is not None:
        rows = [{**shared, **row} for row in _task_rows(task, config)]
    rows = [with_columns(row, None) for row in rows] if task is None else _joined(rows, task)
    rows = rows[: config.limit]
    if not rows:
        raise ConfigError(
            'Nothing to score; give --completion "...", --file completions.jsonl, or task=... with completion_column=<the '
            "column of its completions>."
        )
    names = {name for row in rows for name in row}
    if clash := names & (set(GIVEN) - {"completion_ids", COLUMN, REFERENCE} | {"self"}):
        raise ConfigError(
            f"Rename the column {sorted(clash)[0]!r}: rewards are called with something else by that name."
        )
    return [{name: row.get(name) for name in sorted(names)} for row in rows]


def _file_rows(file: Path, config: DictConfig) -> list[Row]:
    if kind_of(file) not in SUFFIXES and not file.is_dir():
        return [{"completion": line} for _, line in read_lines(file, "--file") if line.strip()]
    return [row for _, row in recorded_rows(file, "--file", config.completion_column)]


def _task_rows(task: Task, config: DictConfig) -> list[Row]:
    """The task's own rows that have a completion."""
    rows = [*task.train, *task.evaluation]
    wanted = config.completion_column
    if wanted is None and not any(name in row for row in rows for name in NAMES):
        names = sorted({name for row in rows for name in row} - {"prompt"})
        raise ConfigError(
            f"task {task.name} has no completions to score: name their column, completion_column=... (there is "
            f"{', '.join(names) or 'none beside the prompt'}), or give --completion or --file."
        )
    return [
        one
        for number, row in enumerate(rows, 1)
        for one in rows_with_completion(f"task {task.name}, row {number}", row, wanted)
    ]


def _joined(rows: list[Row], task: Task) -> list[Row]:
    """Rows with the columns of the task's row of the same prompt; a number in the place of a prompt is a held-out row's."""
    of_task = OfTask(task)
    pairs = [of_task(row) for row in rows]
    strange = sum(own is None for _, own in pairs)
    if strange and len(rows) > strange:
        print(f"rewards.score: {strange} of {len(rows)} prompts are not among the task's.", file=sys.stderr)
    return [with_columns(row, own) for row, own in pairs]


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
