"""The cell that a dotted path names: "answer", "reward_model.ground_truth", "conversations.0.value", "messages.-1.content"."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def cell_of(row: Mapping[str, Any], path: str) -> Any:
    """What stands there, None where nothing does. A column of that very name comes first; a number is a place in a list,
    from its end where it is negative; a text that holds a JSON object or list is looked into as if it were one."""
    if path in row:
        return row[path]
    first, _, rest = path.partition(".")
    return _inside(row.get(first), rest) if rest else None


def is_there(names: Sequence[str], path: str) -> bool:
    """Whether a table with these columns has the column that the path begins with."""
    return path in names or ("." in path and path.partition(".")[0] in names)


def keys_below(cell: Any, path: str) -> str:
    """What a message says of a path that leads nowhere: what there is instead where it ends; "" for an empty cell."""
    words = path.split(".")
    for number, word in enumerate(words[1:], start=2):
        cell = opened(cell)
        if isinstance(cell, Mapping) and word not in cell:
            return f"{'.'.join(words[: number - 1])} has the keys {', '.join(map(str, cell))}"
        if isinstance(cell, (list, tuple)) and _at(cell, word) is None:
            return f"{'.'.join(words[: number - 1])} is a list of {len(cell)}, whose places are numbers from 0"
        if not isinstance(cell, (Mapping, list, tuple)):
            return f"{'.'.join(words[: number - 1])} is {cell!r:.60}" if cell is not None else ""
        cell = _at(cell, word)
    return ""


def opened(cell: Any) -> Any:
    """The object or list that a text holds as JSON, as in a table whose cells are all texts; anything else as it is."""
    if isinstance(cell, str) and cell.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(cell)
        except ValueError:
            return cell
        return value if isinstance(value, (dict, list)) else cell
    return cell


def _inside(cell: Any, path: str) -> Any:
    cell = opened(cell)
    if isinstance(cell, Mapping):
        if path in cell:
            return cell[path]
    elif not isinstance(cell, (list, tuple)):
        return None
    first, _, rest = path.partition(".")
    inner = _at(cell, first)
    return _inside(inner, rest) if rest else inner


def _at(cell: Any, word: str) -> Any:
    if isinstance(cell, Mapping):
        return cell.get(word)
    place = int(word) if word.lstrip("-").isdecimal() else None
    return cell[place] if place is not None and -len(cell) <= place < len(cell) else None
