"""Python files of the user's, by place: "my_rewards.py:polite" is what the file calls `polite`. Each is loaded once."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from userio.namesakes import taken_by

_PREFIX = "own_file_"


def is_in_file(text: Any) -> bool:
    """Whether a text has the form file.py:name."""
    return isinstance(text, str) and re.fullmatch(r"[^\n]*[^/\n]\.py:[A-Za-z_]\w*", text) is not None


def importable(spec: str, cwd: str | Path | None = None) -> str:
    """A dotted name under which this process can import what "path/to/file.py:name" names.

    Args:
        cwd: where a relative path starts; default the current directory.

    Raises:
        ValueError: no such file or name, or it does not import.
    """
    path, _, name = spec.rpartition(":")
    module = load_file((Path(cwd) if cwd is not None else Path.cwd()) / Path(path).expanduser(), name)
    member(module, name, path)
    return f"{module.__name__}.{name}"


def load_file(path: str | Path, name: str = "") -> ModuleType:
    """The module of a Python file, loaded once; `name` is what is wanted of it, for messages.

    Raises:
        ValueError: no such file, no Python file, or it does not import.
    """
    file = Path(path).resolve()
    if not file.is_file():
        others = sorted(p.name for p in file.parent.glob("*.py")) if file.parent.is_dir() else []
        near = difflib.get_close_matches(file.name, others, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Paths start at {Path.cwd()}."
        raise ValueError(f"There is no file {file} for {name!r}.{hint}")
    # A name of its own, so that two files called rewards.py do not meet.
    module_name = f"{_PREFIX}{file.stem}_{hashlib.sha1(str(file).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    module_spec = importlib.util.spec_from_file_location(module_name, file)
    if module_spec is None or module_spec.loader is None:
        raise ValueError(f"{file} is no Python file; what is yours is loaded from .py files.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module
    try:
        with on_path(file.parent):
            module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        hint = taken_by(error, file.parent)
        raise ValueError(f"{file} does not import: {type(error).__name__}: {error}{hint}") from error
    return module


def loaded_files() -> list[str]:
    """Files that `load_file` has loaded in this process."""
    return [str(module.__file__) for name, module in list(sys.modules.items()) if name.startswith(_PREFIX)]


def member(module: ModuleType, name: str, where: str, taken: str = "") -> Any:
    """What a module calls `name`. where, taken: words for the message.

    Raises:
        ValueError: it has none; the nearest one.
    """
    if hasattr(module, name):
        return getattr(module, name)
    callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    near = difflib.get_close_matches(name, callables, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has: {', '.join(sorted(callables)) or 'no functions'}."
    raise ValueError(f"{where} has no function {name!r}{hint}{taken}")


class on_path:
    """The folder stands first on the import path inside the block, and stays last on it, for imports made later."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __enter__(self):
        sys.path.insert(0, self.folder)

    def __exit__(self, *_):
        sys.path.remove(self.folder)
        if self.folder not in sys.path:
            sys.path.append(self.folder)
