"""`--help`: the choices of a command with their meanings, its own settings, and those of every choice, or of one alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from configs.command_line.of_model import KEY
from configs.command_line.unread import did_you_mean
from configs.compose import CONFIG_DIR, ConfigError, config_choices
from configs.fields.defaults import COMMANDS, script_of
from configs.fields.listing import (
    Setting,
    blocks,
    said_by,
    settings_of_choice,
    settings_of_command,
    shown,
    yaml_of,
)
from userio.words import word_of

WIDTH = 120
_WIDEST = 44  # key=default, before its sentence moves to a line of its own
WAYS = [
    "  --help GROUP=CHOICE  the settings of one choice alone, as in --help task=jsonl",
    "  --config-dir DIR     a folder of your own YAMLs, laid out like configs/",
    "  --dry-run            say what the command would do (steps, tokens, memory), and stop",
    "  --cfg job            print the whole configuration, composed, and stop",
]
# What the loop refuses although its groups have it: group -> choices; and settings by how they begin.
_NOT_IN_LOOP = {
    "credit/critic": ("adapter", "separate"),
    "reward": ("judge", "own_likelihood"),
}
_NOT_SET_IN_LOOP = ("reward.guard.", "model.peft", "model.merge_adapter")


def help_of(name: str, example: str, words: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> str:
    """The help of a command. `words`: what stands beside `--help`; a group, or a choice of one, is shown alone.

    Raises:
        ConfigError: no such choice.
    """
    if asked := help_of_choices(name, words, config_dirs):
        return asked
    folders = [Path(folder).expanduser() for folder in config_dirs]
    groups = groups_of(name)
    lines = [
        f"{script_of(name)}: {config_choices('', config_dirs).get(name, '')}",
        "",
        f"  {example} [key=value ...]",
        "",
    ]
    lines += [
        list_of_choices(name, config_dirs),
        "",
        "Settings of the command (key=default):",
        "",
        *lines_of(settings_of_command(name)),
    ]
    lines += ["", "Settings that come with the choices (key=default):"]
    for group in groups:
        for who, settings in blocks(group, list(choices_of(name, group, folders)), folders):
            lines += ["", f"  {group}={'|'.join(who)}", *lines_of(_taken(name, settings), "    ")]
    ways = [way for way in WAYS if "--dry-run" not in way or has_dry_run(name)]
    return "\n".join([*lines, "", *ways])


def has_dry_run(name: str) -> bool:
    """Whether the verb takes `--dry-run`."""
    return name.startswith("train") or name in ("audit", "sample", "eval_model")


def help_of_choices(name: str, words: Sequence[str], config_dirs: Sequence[str] = ()) -> str:
    """The settings of those choices alone that stand beside `--help`, as task=jsonl; "" where none does.

    Raises:
        ConfigError: no such choice.
    """
    folders = [Path(folder).expanduser() for folder in config_dirs]
    groups = groups_of(name)
    asked = [
        (word.key, choice) for word in map(word_of, words) if word.key in groups for choice in word.text.split(",")
    ]
    return "\n\n".join(_of_one(name, group, choice, folders) for group, choice in asked)


def list_of_choices(name: str, config_dirs: Sequence[str] = ()) -> str:
    """Every group of a command with what can be chosen there."""
    lines = ["Choices (group=choice):"]
    for group, default in groups_of(name).items():
        choices = choices_of(name, group, [Path(folder).expanduser() for folder in config_dirs])
        width = max(map(len, choices), default=0)
        lines += ["", f"  {group}=" + (f"    (default: {default})" if default else "")]
        lines += [f"    {choice:<{width}}  {meaning}" for choice, meaning in choices.items()]
    return "\n".join(lines)


def groups_of(name: str) -> dict[str, str]:
    """The groups that a command chooses from, those inside of them included, and the choice made where none is named."""
    pairs = _pairs(yaml_of("", name))
    inner = [str(path.relative_to(CONFIG_DIR)) for path in sorted(CONFIG_DIR.rglob("*")) if path.is_dir()]
    listed = [str(key) for entry in yaml_of("", name).get("defaults", []) if isinstance(entry, dict) for key in entry]
    tops = {key for key in listed if "/" not in key}  # those of which none is chosen (`task: null`) included
    groups = {group: pairs.get(group) or "" for group in inner if group.split("/")[0] in tops}
    return {group: choice for group, choice in groups.items() if name != "loop" or group != "model/peft"}


def choices_of(name: str, group: str, folders: Sequence[Path] = ()) -> dict[str, str]:
    """What can be chosen there under this command, and what it means."""
    choices = config_choices(group, folders)
    if group == "trainer":  # those of the other commands have other fields
        shipped = {path.stem for path in (CONFIG_DIR / group).glob("*.yaml")} - {_pairs(yaml_of("", name))[group]}
        choices = {choice: meaning for choice, meaning in choices.items() if choice not in shipped}
    others = {f"{command}.py" for command in COMMANDS if command not in (name, "train_grpo" if name == "audit" else "")}
    refused = _NOT_IN_LOOP.get(group, ()) if name == "loop" else ()
    return {
        choice: meaning
        for choice, meaning in choices.items()
        if meaning.split(":")[0] not in others and choice not in refused
    }


def _taken(name: str, settings: Iterable[Setting]) -> list[Setting]:
    return [one for one in settings if name != "loop" or not one.key.startswith(_NOT_SET_IN_LOOP)]


def lines_of(settings: Iterable[Setting], indent: str = "  ") -> list[str]:
    """key=default, and its sentence, wrapped."""
    heads = [(f"{one.key}={shown(one.default)}", one.text) for one in settings]
    width = max((len(head) for head, _ in heads if len(head) <= _WIDEST), default=_WIDEST)
    rest, lines = " " * (len(indent) + width + 2), []
    for head, text in heads:
        if len(head) > width:
            lines.append(f"{indent}{head}")
            head = ""
        first = f"{indent}{head:<{width}}  "
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False) or [
            first.rstrip()
        ]
    return lines


def _of_one(name: str, group: str, choice: str, folders: Sequence[Path]) -> str:
    choices = choices_of(name, group, folders)
    if choice and choice not in choices:
        raise ConfigError(
            f"{group}={choice}: no such choice.{did_you_mean(choice, choices)} There is: {', '.join(choices)}."
        )
    texts = []
    for one in [choice] if choice else choices:
        lines = [f"{group}={one}  {choices[one]}", *lines_of(settings_of_choice(group, one, folders))]
        for inner, member in _pairs(yaml_of(group, one, folders)).items():
            place = inner.lstrip("/") if inner.startswith("/") else f"{group}/{inner}"
            below = settings_of_choice(place, member, folders)
            lines += [f"  {place}={member}  {config_choices(place, folders).get(member, '')}", *lines_of(below, "    ")]
        trained = said_by(group, one, folders).get(KEY, {}).get(name.removeprefix("train_"), {})
        lines += [f"  trainer.{key}={shown(value)}  where nobody says otherwise" for key, value in trained.items()]
        if group == "trainer" or (group == "experiment" and (said := said_by(group, one, folders))):
            said = said_by(group, one, folders)
            lines += [
                f"  {key}={shown(value)}" for key, value in _flat(said, f"{group}." if group == "trainer" else "")
            ]
        texts.append("\n".join(lines))
    if group == "credit/signals" and not choice:
        texts.append(
            "\n".join(["Signals that are there without being chosen; a member asks by parameter name:", *_of_signals()])
        )
    return "\n\n".join(texts)


def _of_signals() -> list[str]:
    """name (where)  meaning, wrapped."""
    from credit.signals import SIGNALS  # torch, without which a sweep starts

    width = max(map(len, SIGNALS)) + len("  scoring")
    lines = []
    for name, signal in SIGNALS.items():
        first = f"  {name + '  ' + signal.stage:<{width}}  "
        rest = " " * len(first)
        lines += textwrap.wrap(
            signal.meaning, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )
    return lines


def _pairs(node: dict) -> dict[str, str]:
    """group -> choice of a YAML's `defaults`."""
    entries = [entry for entry in node.get("defaults", []) if isinstance(entry, dict)]
    return {str(key).split()[-1]: str(value) for entry in entries for key, value in entry.items() if value is not None}


def _flat(node: dict, prefix: str) -> Iterable[tuple[str, object]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
