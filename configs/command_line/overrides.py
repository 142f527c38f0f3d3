"""The words of a command line: `key=value` in Hydra's grammar, with errors that name the value and how to quote it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from userio.words import word_of

# Hydra's own settings do nothing in a command that only composes with Hydra. What to say instead, by their beginning.
_HYDRAS = {
    "hydra.run": "run_dir=... names the run's folder, runs=... the one above",
    "hydra.output": "run_dir=... names the run's folder, runs=... the one above",
    "hydra.sweep": "`python sweep.py ... sweep_dir=...` runs several",
    "hydra.launcher": "launchers belong to `python sweep.py ... hydra/launcher=...`; a single run is started by accelerate",
    "hydra.sweeper": "`python sweep.py key=a,b` runs several",
    "hydra.searchpath": "--config-dir my_configs adds a folder of your own YAMLs",
    "hydra": "these commands compose their settings with Hydra and run without it, so leave it out",
}

# Settings that are a place, also one that is still to be made.
_PLACES = ("run_dir", "runs", "sweep_dir", "out")


def searched_in(folders: Sequence[Path]) -> list[str]:
    """The word that makes Hydra look for choices in folders of one's own."""
    return [f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in folders)}]"] if folders else []


def with_paths(words: Sequence[str]) -> list[str]:
    """The words, with a path as one value whatever its name holds (spaces, commas, equals signs): quoting it for the shell
    is enough. A path is what is there, or the value of a setting that names a place."""
    return [_with_path(word) for word in words]


def _with_path(word: str) -> str:
    key, value = word_of(word)
    if not value or value[0] in "'\"[{" or "${" in value or "\0" in value:
        return word
    is_place = key in _PLACES and value != "null"
    is_odd = re.fullmatch(r"[A-Za-z0-9_./:@%+\-]+", value) is None
    is_there = is_odd and len(value) < 4096 and os.path.lexists(os.path.expanduser(value))
    return f"{key}={quoted(value)}" if is_place or is_there else word


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """Each word read by Hydra's parser.

    Raises:
        ValueError: one cannot be read; how to quote a plain text.
    """
    parser = OverridesParser.create()
    parser.functions.register("log", _log)
    parsed = []
    for word in words:
        try:
            parsed.append(parser.parse_override(word))
        except HydraException as error:
            raise ValueError(_unreadable(word, str(error).splitlines()[0])) from None
    return parsed


def _log(low, high, count):  # without types, which Hydra would compare as text
    """`log(1e-5,1e-3,5)`: count values from low to high, each the same factor above the one before, to three digits."""
    is_number = [isinstance(value, (int, float)) and not isinstance(value, bool) for value in (low, high, count)]
    if not all(is_number) or not 0 < low < high or count != int(count) or count < 2:
        raise HydraException(f"log(low,high,count) needs 0 < low < high and count >= 2, got log({low},{high},{count})")
    ratio = (high / low) ** (1 / (count - 1))
    inner = [float(f"{low * ratio**i:.3g}") for i in range(1, int(count) - 1)]
    return ChoiceSweep(list=[float(low), *inner, float(high)], simple_form=False)


def check_overrides(words: Sequence[str]) -> None:
    """Whether a command that runs once can read its words.

    Raises:
        ValueError: broken grammar, several values, a list where one is chosen, or a setting of Hydra's own.
    """
    for word, override in zip(words, parse_overrides(words), strict=True):
        key = override.get_key_element().lstrip("+~")
        if override.is_sweep_override():
            raise ValueError(_several(word, key, words))
        if "/" in key and key != "credit/signals" and not override.is_delete() and isinstance(override.value(), list):
            raise ValueError(f"{word}: one is chosen, and of a list all but the last would be passed over. Name one.")
        if not key:
            raise ValueError(f"{word}: settings are written key=value.")
        if key.split(".")[0].split("/")[0] == "hydra":
            dotted = key.replace("/", ".")
            raise ValueError(f"{word}: {next(text for start, text in _HYDRAS.items() if dotted.startswith(start))}.")


def _several(word: str, key: str, words: Sequence[str]) -> str:
    value = word_of(word).text
    sweep = f"one run for each: `python sweep.py {shlex.join(words)}`"
    text = f"one text, quoted twice, for the shell and for Hydra: {as_one_text(word)}"
    listed = f"one list: '{key}=[{value}]'" if "(" not in value else ""
    is_prose = re.search(r"[^\w.,+\-/]", value) and not re.match(r"(log|range|choice|glob)\(", value)
    ways = [text, listed, sweep] if is_prose else [sweep, listed, text]
    return f"{word}: `{value}` stands for several values. Write, for {'; for '.join(filter(None, ways))}"


def quoted(text: str) -> str:
    """A text as one value in Hydra's grammar, whatever characters it has."""
    # A backslash stands for itself, except before a quote.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def as_one_text(word: str) -> str:
    """`key=value` as a shell takes it, with the value quoted for Hydra."""
    key, value = word_of(word).key, word_of(word).text.strip()
    bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
    text = f"{key}={quoted(bare)}"
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def _unreadable(word: str, reason: str) -> str:
    key, value = word_of(word)
    if value is None:
        return f"{word}: settings are written key=value."
    if not re.fullmatch(r"(\+{0,2}|~)[A-Za-z_][\w./@:\-]*", key):
        return f"{word}: `{key}` is no name of a setting; settings are written key=value."
    if value[:1] in ("[", "{") or re.match(r"\w+\(", value):
        return f"{word}: `{value}` cannot be read ({reason}). If it is meant as a text: {as_one_text(word)}"
    return (
        f"{word}: `{value}` has characters that Hydra's grammar reads as something else. Quote it twice, for the shell and "
        f"for Hydra: {as_one_text(word)}"
    )
