"""Reads and writes inside a run folder that somebody sent: its files are data, and nothing that they name is imported,
called, looked up or followed.

No `_target_`, no interpolation (`${oc.env:...}` stays text), no YAML tag, no alias, no pickle; pipes and devices are not
opened; a link that stands where a page is to be written is replaced, not followed.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

import yaml

from trainers.run.files import write_bytes

LARGEST = 256 * 2**20  # bytes of a file that is read whole
DEEPEST = 100
_OPEN = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
_CLOSE = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_folder(path: Path, what: str) -> None:
    """Whether the folder is there. what: what should have been given instead, for the message.

    Raises:
        ValueError: it is not, with what is there by a similar name.
    """
    if path.is_dir():
        return
    if path.exists():
        raise ValueError(f"{path} is no folder. Give {what}.")
    above = path.parent
    while not above.is_dir() and above != above.parent:
        above = above.parent
    part = path.relative_to(above).parts[0] if path.is_relative_to(above) else path.name
    near = difflib.get_close_matches(part, [one.name for one in above.iterdir() if one.is_dir()], n=1, cutoff=0.6)
    hint = f" Did you mean {above / near[0]}?" if near else f" Give {what}."
    raise ValueError(f"{path}: no such folder.{hint}")


def read_text(path: Path, largest: int = LARGEST) -> str | None:
    """The file as text, None if there is no regular file; bytes that are no UTF-8 become U+FFFD.

    Raises:
        ValueError: it is too large, or cannot be read.
    """
    if not path.is_file():  # false for pipes and devices, which would never end
        return None
    try:
        if (size := path.stat().st_size) > largest:
            raise ValueError(f"{path.name} is {size / 2**20:.0f} MiB long")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from None


def read_object(path: Path, largest: int = 16 * 2**20) -> dict[str, Any] | None:
    """The mapping in a JSON or YAML file, as plain data; None if there is no file.

    Raises:
        ValueError: the file is broken, or holds something else.
    """
    text = read_text(path, largest)
    if text is None:
        return None
    try:
        value = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path.name} cannot be read ({first})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no mapping")
    return value


def _yaml(text: str) -> Any:
    """Safe YAML without aliases (a few of them name a billion values) and not nested beyond what a person writes."""
    depth = 0
    for token in yaml.scan(text, Loader=_LOADER):
        depth += isinstance(token, _OPEN) - isinstance(token, _CLOSE)
        if depth > DEEPEST or isinstance(token, yaml.AliasToken):
            raise yaml.YAMLError("an alias" if depth <= DEEPEST else f"nested more than {DEEPEST} deep")
    return yaml.load(text, _LOADER)


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all. A link at `path` is replaced, so that it cannot lead the writing elsewhere."""
    content = content.encode("utf-8", errors="backslashreplace") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content, mark=str(os.getpid()))
