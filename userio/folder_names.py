"""Names of folders made of settings: letters, digits, `.`, `_` and `-` only, so that Hydra, shells and SLURM take them bare.

    value--lambda_-0.9--max_steps-30          a name, and the settings that differ: `--` between them, `-` before a value
    seq_norm--reward.funcs-mine.py_polite--1f09ab     what had to be replaced or cut is told apart by a hash at the end

Different settings have different names: without a hash, a name can be read back; with one, all of them are in the hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

LONGEST = 96  # characters of a name: below the 255 bytes of a file system, with room for what is put before or behind
_LONGEST_VALUE = 40
_AXES = "baseline|spread|weight|ratio|critic"


def short_key(key: str) -> str:
    """The name of a setting without what all of its kind begin with: `trainer.beta` -> `beta`, `credit/weight` -> `weight`.
    No two settings get the same."""
    if found := re.fullmatch(rf"trainer\.(\w+)|credit[./]((?:{_AXES})(?:\.[\w.]+)?)", key):
        return found[1] or found[2]
    return key.replace("/", ".")


def folder_name(first: str, settings: Sequence[tuple[str, str]] = (), hashed: str = "", limit: int = LONGEST) -> str:
    """The name for `first` with `settings`, pairs of a key and its value as it was written.

    Args:
        first: "" for none.
        hashed: what tells it apart instead of these, by a hash in any case.
        limit: of characters.
    """
    shortened = [(short_key(key), value) for key, value in settings]
    pieces = [_piece(first, _clean(first).lstrip("."))] if first else []
    pieces += [_piece(short, _clean(short, "_"), value) for short, value in shortened]
    name = "--".join(piece for piece, _ in pieces)
    if not hashed and len(name) <= limit and all(is_plain for _, is_plain in pieces):
        return name
    whole = hashed or "\n".join([first, *(f"{key}={value}" for key, value in settings)])
    mark = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{name[: limit - 8].rstrip('-._') or 'run'}--{mark}"


def _piece(key: str, clean: str, value: str | None = None) -> tuple[str, bool]:
    """A piece of the name, and whether it can be read back."""
    is_plain = clean == key
    if value is None:
        return clean, is_plain
    shown = re.sub(r"^-(?=\d)", "minus", value)
    cut = shown
    if len(shown) > _LONGEST_VALUE:
        cut = shown[-_LONGEST_VALUE:] if "/" in shown else shown[:_LONGEST_VALUE]  # of a path, the end
    text = _clean(cut) or "none"
    return f"{clean}-{text}", is_plain and text == shown and not value.startswith("minus")


def _clean(text: str, also: str = "_-") -> str:
    """The text with other signs replaced, and no `-` at an end, nor two of them, which separate."""
    kept = re.sub(rf"[^A-Za-z0-9.{also}]+", "_", text)
    kept = re.sub(r"-{2,}", "-", kept).strip("-")
    return kept if kept == text else kept.strip("_")
