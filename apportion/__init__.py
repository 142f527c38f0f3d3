"""Apportion as a library: `from apportion import CreditGRPOTrainer, Strategy, declares`.

The public names stand in __init__.pyi, one import each, as a type checker wants them. This file reads them there and
imports one when it is asked for, so that `import apportion` takes no time and the maths needs no TRL. docs/api.md lists
them.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from importlib import import_module
from pathlib import Path

from apportion import packages

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
# name -> the module that has it
PUBLIC = {
    alias.name: str(node.module) for node in _STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names
}
__all__ = list(PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]

if not packages.is_own_command() and (_places := packages.hidden()):
    warnings.warn(packages.sentence(_places), stacklevel=2)


def __getattr__(name: str):
    if name not in PUBLIC:
        near = difflib.get_close_matches(name, PUBLIC, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'apportion' has no attribute {name!r}{hint}")
    module = PUBLIC[name]
    home = "trainers" if module.startswith("apportion.") else module.split(".")[0]
    if places := packages.hidden(packages.needed_by(home)):
        raise ImportError(f"{name} cannot be imported. {packages.sentence(places)}")
    owner = import_module(module)
    globals()[name] = value = getattr(owner, name) if hasattr(owner, name) else import_module(f"{module}.{name}")
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
