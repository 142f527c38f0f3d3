"""`completions=` of an audit: the file read and joined with the task, its rewards where they are asked for, and how it fills batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from typing import Any

from configs.compose import ConfigError
from rewards.load import needed_columns
from tasks.base import RESERVED, Row, Task, prompt_key
from trainers.command.build import Rewards, build_rewards
from trainers.command.recorded.groups import Recorded, recorded_in_groups
from trainers.command.recorded.of_task import OfTask, key_of, with_columns
from trainers.command.recorded.rows import CONVERSATION, OF_FUNCTION, REWARD, Placed, recorded_rows
from trainers.command.recorded.said import Said, said_in
from userio.digest import digest_of_value

_CLOSE = 1e-4  # that a sum of recorded rewards may be off from the recorded sum, of its size
_MANY = 6  # functions whose weights can be told apart by trying


@dataclass(frozen=True)
class Written:
    """All completions of a file, beside the task's rows of their prompts.

    Args:
        source: the file, as it was named.
        rows, said: of each completion.
        apart: columns of the task, by which equal prompts differ.
        notes: what is to be said, a line each.
    """

    source: str
    rows: list[Row]
    said: list[Said]
    apart: tuple[str, ...]
    notes: tuple[str, ...]


def read_written(config: Any, task: Task) -> Written | None:
    """What `completions=` names; None where it names nothing.

    Raises:
        ValueError: what is wrong with the file, with the place and the remedy.
    """
    if config.completions is None:
        lost = [name for name in ("completion_column", "recorded_rewards") if config[name]]
        if lost:
            raise ConfigError(
                f"{lost[0]} says how completions=... is read, and there is none. Name a file of completions."
            )
        return None
    if task.environment is not None or task.tools:
        raise ConfigError(f"completions= of task {task.name}, {CONVERSATION}")
    found = recorded_rows(config.completions, "completions", config.completion_column, ids_suffice=True)
    return _joined(str(config.completions), found, task, config.recorded_rewards)


def _joined(source: str, found: Placed, task: Task, with_rewards: bool) -> Written:
    of_task, rows, said, other, strange = OfTask(task), [], [], dict[str, int](), 0
    for place, row in found:
        one, row = said_in(place, row, with_rewards)
        try:
            row, own = of_task(row)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        if key_of(row.get("prompt")) is None:
            raise ConfigError(
                f"{place}: no prompt. A row has a `prompt` (a text, a chat, or the number of a held-out row of the task) and a "
                f"`completion`; this one has {', '.join(row) or 'nothing'}."
            )
        strange += own is None
        for name in own or {}:
            other[name] = other.get(name, 0) + (name != "prompt" and name in row and row[name] != (own or {})[name])
        rows.append(with_columns(row, own))
        said.append(one)
    _check_kinds(found, rows)
    if clash := sorted({name for row in rows for name in row} & set(RESERVED)):
        raise ConfigError(
            f"completions={source}: rename the column {clash[0]!r}; rewards are called with something else by that name."
        )
    notes = [
        f"note     {name} of the file differs from the task's in {count} of {len(rows)} rows; the file's counts"
        for name, count in other.items()
        if count
    ]
    if strange:
        notes.append(f"note     {strange} of {len(rows)} completions are of prompts that are not among the task's")
    return Written(source, rows, said, _apart(task), tuple(notes))


def _apart(task: Task) -> tuple[str, ...]:
    """Columns in which rows of the task differ that have the same prompt."""
    first: dict[str, Row] = {}
    differing: set[str] = set()
    for row in (*task.train, *task.evaluation):
        before = first.setdefault(prompt_key(row["prompt"]), row)
        differing |= {name for name in row if name != "prompt" and row[name] != before.get(name)}
    return tuple(sorted(differing))


def _check_kinds(found: Placed, rows: Sequence[Row]) -> None:
    """Raises ConfigError where some prompts are chats and others texts."""
    are_texts = [isinstance(row["prompt"], str) for row in rows]
    if len(set(are_texts)) > 1:
        text, chat = (found[are_texts.index(kind)][0] for kind in (True, False))
        raise ConfigError(
            f"{text}: the prompt is a text, and that of {chat} a chat. A model is asked in one way: write them alike."
        )


def task_of_written(task: Task, written: Written) -> Task:
    """The task with these prompts as its own, one row each."""
    places = {prompt_key(row["prompt"]): said.place for row, said in zip(written.rows, written.said, strict=True)}
    names = list(dict.fromkeys(name for row in written.rows for name in row))
    rows = {prompt_key(row["prompt"]): {name: row.get(name) for name in names} for row in written.rows}
    return replace(task, train=list(rows.values()), evaluation=[], places=places)


def rewards_of_written(config: Any, task: Task, written: Written) -> Rewards:
    """The reward functions of the command, or those that give what was recorded. task: as the command names it.

    Raises:
        ConfigError: a row lacks a column that a function cannot do without, or a reward that was recorded of others.
    """
    if config.recorded_rewards:
        return _recorded_rewards(written)
    given = task_of_written(task, written).train
    first = {**given[0], **task.train[0]}  # with all columns: which row lacks one is said below
    rewards = build_rewards(config, replace(task, train=[first, *given], evaluation=[]))
    for func, name in zip(rewards.funcs, rewards.names, strict=True):
        for column in needed_columns(func):
            for row, one in zip(written.rows, written.said, strict=True):
                if column not in row:
                    raise ConfigError(
                        f"{one.place}: its prompt is not among those of task {task.name}, and the reward {name!r} reads the column "
                        f"{column!r}. Name the task that it is of (task=...), write the prompt as the task has it, put the column "
                        "into the file, or take rewards that are in the file: recorded_rewards=true."
                    )
    return rewards


class RecordedReward:
    """A reward function that gives what is written in the row."""

    def __init__(self, name: str):
        self.__name__ = name

    def __call__(self, prompts: list, completions: list, **columns: Any) -> list[float | None]:
        return columns[f"{OF_FUNCTION}{self.__name__}"]


def _recorded_rewards(written: Written) -> Rewards:
    """By function, where their weighted sum is the reward that was recorded or none was; else that reward alone. A record has the
    weights in another order than the functions."""
    names = list(dict.fromkeys(name for one in written.said for name in one.rewards))
    functions = [name for name in names if name != REWARD]
    weights = next((one.weights for one in written.said if one.weights), None) or [1.0] * len(functions)
    orders = permutations(weights) if functions and len(functions) == len(weights) <= _MANY else []
    fitting = (order for order in orders if all(_adds_up(one, functions, order) for one in written.said))
    chosen, weights = next(((functions, order) for order in fitting), ([REWARD], [1.0]))
    for one in written.said:
        if missing := [name for name in chosen if name not in one.rewards]:
            raise ConfigError(
                f"{one.place}: recorded_rewards=true, and no `{missing[0] if missing[0] == REWARD else OF_FUNCTION + missing[0]}` is "
                f"written there ({', '.join(names) or 'no rewards'} elsewhere in the file). Write one in every row, or let the functions "
                "be asked."
            )
    funcs: list[Callable] = [RecordedReward(name) for name in chosen]
    return Rewards(funcs, list(map(float, weights)))


def _adds_up(one: Said, names: Sequence[str], weights: Sequence[float]) -> bool:
    known = [w * score for name, w in zip(names, weights, strict=True) if (score := one.rewards.get(name)) is not None]
    whole = one.rewards.get(REWARD)
    return whole is None or not known or abs(sum(known) - whole) <= _CLOSE * max(1.0, abs(whole))


def recorded_for(config: Any, written: Written, rewards: Rewards, args: Any, fewest: int, warm: int) -> Recorded:
    """The file in generation batches.

    Args:
        args: TRL's config. fewest: batches that are measured at least; warm: that are learned from before.

    Raises:
        ConfigError: it fills too few, with the sizes that it would fill enough of.
    """
    rows = written.rows
    if config.recorded_rewards:
        given = [{f"{OF_FUNCTION}{name}": one.rewards[name] for name in rewards.names} for one in written.said]
        rows = [{**row, **own} for row, own in zip(rows, given, strict=True)]
    seed = config.seed if args.shuffle_dataset else None
    found = recorded_in_groups(
        written.source, rows, written.said, args.num_generations, args.generation_batch_size, seed, written.apart, written.notes
    )  # fmt: skip
    wanted = fewest if config.batches is None else config.batches
    if found.batches < fewest + warm:
        raise ConfigError(_too_few(found, args, fewest, warm))
    note = f"note     {wanted} batches are asked for, and it fills {found.batches - warm}"
    found = found if config.batches is None else found.first(config.batches + warm)
    return replace(found, notes=(*found.notes, note)) if found.batches - warm < wanted else found


def _too_few(found: Recorded, args: Any, fewest: int, warm: int) -> str:
    each, size = args.steps_per_generation * args.world_size, found.generations
    groups = (found.total - found.alone) // size
    fitting = [count for count in range(groups // (fewest + warm), 0, -1) if count * size % each == 0]
    learned = f", {warm} of them to learn from (warmup={warm})" if warm else ""
    alone = f" ({found.alone} more fill none)" if found.alone else ""
    said = (
        f"completions={found.source} has {groups} groups of {size} completions of a prompt{alone}, which fill {found.batches} generation "
        f"batches of {found.batch}, and at least {fewest + warm} are needed{learned}. "
    )
    if fitting:
        count = fitting[0] * size
        remedy = f"Set trainer.per_device_train_batch_size={count // each} ({count} completions a batch)"
    else:
        remedy = f"Give at least {size * (fewest + warm)} completions"
    return f"{said}{remedy}{', or lower warmup=' if warm else ''}."


def digest_of_written(written: Written) -> str:
    """Of all that a batch can take from the file, wherever it lies."""
    pairs = zip(written.said, written.rows, strict=True)
    parts: list[Mapping[str, Any]] = [{**asdict(one), "place": None, "row": row} for one, row in pairs]
    return digest_of_value(parts)
