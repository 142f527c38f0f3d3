"""Short names of what a result depends on: kept numbers are taken up again only under the same one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from userio.own_files import loaded_files


def digest_of_value(value: Any) -> str:
    """16 hexadecimal digits of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def digest_of_own_code() -> str:
    """Of the files of a user's own that were loaded by then, wherever they lie."""
    return digest_of_value(sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in loaded_files()))
