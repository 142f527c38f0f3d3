"""The settings that a function or a class takes, read off its source: name, kind, default and what it means.

One rule for the whole house: a setting's sentence stands where the setting is declared. In a dataclass that is a docstring
under the field; a function, or a class with an `__init__`, has its `Args:`. Nothing is imported, so that `--help` answers at
once and composing a configuration needs neither TRL nor a model.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from userio.own_files import is_in_file

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("credit", "rewards", "tasks", "sampling", "configs", "trainers")
REQUIRED, OPAQUE = "<required>", "<expression>"  # in the place of a default
_NO_SETTINGS = {"Tensor", "Task"}  # what the run hands over


@dataclass(frozen=True)
class Field:
    """A setting."""

    name: str
    """Its key in a YAML."""
    kind: str
    """Its annotation, as written; "": none."""
    default: Any
    """`REQUIRED`, or `OPAQUE` where the source has an expression that is no plain value."""
    text: str
    """What it means: one sentence, or a few."""
    fields: tuple[Field, ...] = ()
    """Its own settings, where it is a dataclass."""
    owner: str = ""
    """Name of the class or function that declares it."""

    @property
    def is_plain(self) -> bool:
        """Whether the default can stand in a YAML."""
        return self.default not in (REQUIRED, OPAQUE) if isinstance(self.default, str) else True


@dataclass(frozen=True)
class Source:
    """A module's file and its parsed text."""

    name: str
    path: Path

    @property
    def body(self) -> list[ast.stmt]:
        return _parsed(self.path, self.path.stat().st_mtime_ns).body


def is_ours(target: str) -> bool:
    return target.split(".")[0] in PACKAGES and not is_in_file(target)


@lru_cache(maxsize=1024)
def fields_of(target: str) -> tuple[Field, ...] | None:
    """The settings of what a dotted name stands for. None: its source is not found, or says that it takes any key."""
    try:
        found = _find(target)
        return None if found is None else _fields(*found)
    except (OSError, SyntaxError, RecursionError, ImportError, ValueError):
        return None


def _fields(node: ast.stmt, source: Source) -> tuple[Field, ...] | None:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _of_function(node, source, node.name, _described(ast.get_docstring(node)))
    assert isinstance(node, ast.ClassDef)
    inherited: dict[str, Field] = {}
    for base in node.bases:
        found = _lookup(base.id, source) if isinstance(base, ast.Name) else None
        if found is not None and isinstance(found[0], ast.ClassDef):
            inherited |= {field.name: field for field in _fields(*found) or ()}
    if _is_dataclass(node):
        for field in _of_dataclass(node, source):
            text = field.text or (inherited[field.name].text if field.name in inherited else "")
            inherited[field.name] = replace(field, text=text)
    for entry in node.body:
        if isinstance(entry, ast.FunctionDef) and entry.name == "__init__":
            texts = _described(ast.get_docstring(node)) | _described(ast.get_docstring(entry))
            return _of_function(entry, source, node.name, texts)
    return tuple(inherited.values())


def _of_dataclass(node: ast.ClassDef, source: Source) -> Iterator[Field]:
    for entry, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(entry, ast.AnnAssign) or not isinstance(entry.target, ast.Name):
            continue
        kind = ast.unparse(entry.annotation)
        if kind.startswith("ClassVar") or entry.target.id.startswith("_") or _is_no_argument(entry.value):
            continue
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        text = str(after.value.value) if is_text and isinstance(after.value.value, str) else ""  # type: ignore[union-attr]
        inner = _inner(entry.annotation, source)
        yield Field(entry.target.id, kind, _value(entry.value, source), _line(text), inner, node.name)


def _of_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, source: Source, owner: str, texts: dict[str, str]
) -> tuple[Field, ...] | None:
    given = [argument for argument in node.args.args if argument.arg != "self"]
    defaults: list[ast.expr | None] = [None] * len(given)
    if node.args.defaults:
        defaults[-len(node.args.defaults) :] = node.args.defaults
    fields = []
    for argument, default in [
        *zip(given, defaults, strict=True),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]:
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        if kind in _NO_SETTINGS:
            continue
        value = REQUIRED if default is None else _value(default, source)
        inner = _inner(argument.annotation, source)
        fields.append(Field(argument.arg, kind, value, texts.get(argument.arg, ""), inner, owner))
    if node.args.kwarg is None:
        return tuple(fields)
    handed_on = _handed_on(node, node.args.kwarg.arg, source)
    if handed_on is None:
        return None
    known = {field.name for field in fields}
    return (*fields, *(field for field in handed_on if field.name not in known))


def _handed_on(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, source: Source) -> tuple[Field, ...] | None:
    """Settings that `**name` may hold: those of the function it is handed on to, less what stands there already."""
    for call in ast.walk(node):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if not any(word.arg is None and getattr(word.value, "id", "") == name for word in call.keywords):
            continue
        found = _lookup(call.func.id, source)
        fields = None if found is None else _fields(*found)
        if found is None or fields is None or not isinstance(found[0], ast.FunctionDef):
            return None
        taken = {argument.arg for argument in found[0].args.args[: len(call.args)]}
        taken |= {word.arg for word in call.keywords}
        return tuple(field for field in fields if field.name not in taken)
    return None


def _inner(annotation: ast.expr | None, source: Source) -> tuple[Field, ...]:
    """The settings of a dataclass of ours that an annotation names."""
    for name in ast.walk(annotation) if annotation is not None else ():
        if isinstance(name, ast.Name) and name.id[:1].isupper() and is_ours(source.name):
            found = _lookup(name.id, source)
            if found is not None and isinstance(found[0], ast.ClassDef) and _is_dataclass(found[0]):
                return _fields(*found) or ()
    return ()


def _is_no_argument(node: ast.expr | None) -> bool:
    """Whether it is a `field(init=False)`."""
    return isinstance(node, ast.Call) and any(
        word.arg == "init" and ast.unparse(word.value) == "False" for word in node.keywords
    )


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).split("(")[0].endswith("dataclass") for decorator in node.decorator_list)


def _value(node: ast.expr | None, source: Source) -> Any:
    """The default that an expression stands for; tuples as lists, as a YAML has them."""
    if node is None:
        return REQUIRED
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("field"):
        words = {word.arg: word.value for word in node.keywords}
        if "default" in words:
            return _value(words["default"], source)
        if "default_factory" not in words:
            return REQUIRED
        factory = words["default_factory"]
        if isinstance(factory, ast.Lambda):
            return _value(factory.body, source)
        return [] if ast.unparse(factory) == "list" else {}
    if isinstance(node, ast.Name):
        assigned = [
            entry.value
            for entry in source.body
            if isinstance(entry, ast.Assign) and getattr(entry.targets[0], "id", "") == node.id
        ]
        return _value(assigned[-1], source) if assigned else OPAQUE
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return OPAQUE
    return list(value) if isinstance(value, tuple) else value


def _described(docstring: str | None) -> dict[str, str]:
    """name -> text of the `Args:` of a docstring; "a, b: text" describes both."""
    lines = (docstring or "").splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() == "Args:"), None)
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in lines[start + 1 :] if start is not None else ():
        if line.strip() and not line.startswith("    "):
            break
        if found := re.match(r"    (\w+(?:, \w+)*): (.*)", line):
            names = found.group(1).split(", ")
            texts |= dict.fromkeys(names, found.group(2))
        elif line.strip():
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return {name: _line(text) for name, text in texts.items()}


def _line(text: str) -> str:
    return " ".join(text.split())


def _find(target: str) -> tuple[ast.stmt, Source] | None:
    """The class or function behind a dotted name, or file.py:name, and the module that defines it."""
    if is_in_file(target):
        path, _, name = target.rpartition(":")
        return _lookup(name, Source(Path(path).stem, Path(path).expanduser().resolve()))
    words = target.split(".")
    for count in range(len(words) - 1, 0, -1):
        source = _module(".".join(words[:count]))
        if source is not None:
            return _lookup(words[count], source) if count == len(words) - 1 else None
    return None


def _lookup(name: str, source: Source) -> tuple[ast.stmt, Source] | None:
    for entry in source.body:
        if isinstance(entry, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and entry.name == name:
            return entry, source
        if not isinstance(entry, ast.ImportFrom):
            continue
        for alias in entry.names:
            if (alias.asname or alias.name) == name:
                package = source.name.split(".")
                package = package if source.path.name == "__init__.py" else package[:-1]
                above = package[: len(package) - entry.level + 1] if entry.level else []
                return _find(".".join([*above, *([entry.module] if entry.module else []), alias.name]))
    return None


@lru_cache(maxsize=1024)
def _module(name: str) -> Source | None:
    """The file of a module. Packages above it are not imported either."""
    first, *rest = name.split(".")
    if first in PACKAGES:
        folders = [ROOT]
    else:
        spec = find_spec(first)
        places = [Path(place).parent for place in (spec.submodule_search_locations or [])] if spec else []
        folders = [*places, *([Path(spec.origin).parent] if spec and spec.origin else []), Path.cwd()]
    for folder in folders:
        inner = folder.joinpath(first, *rest)
        for path in (inner.with_suffix(".py"), inner / "__init__.py"):
            if path.is_file():
                return Source(name, path)
    return None


@lru_cache(maxsize=256)
def _parsed(path: Path, modified: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
