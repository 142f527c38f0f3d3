"""python -m apportion.page   Writes docs/api.md: every public name with its signature and its docstring, in the order and
under the headings of apportion/__init__.pyi.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import apportion
from configs.fields.declared import fields_of
from userio.commands import asks_for_help
from userio.terminal import steady_output

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
WIDTH = 110
OPENING = """# Python API

    from apportion import CreditGRPOTrainer, Strategy, declares

Every public name of the package `apportion`, with its docstring. Made by `python -m apportion.page`; do not edit. How
`apportion` is installed, and what it says where a file of yours has the name of one of its packages:
[library.md](library.md). Shape suffixes are explained in [credit/batch.py](../credit/batch.py)."""


def page() -> str:
    """The whole page."""
    return "\n\n".join([OPENING, *_sections()]) + "\n"


def _sections() -> Iterator[str]:
    stub = (ROOT / "apportion" / "__init__.pyi").read_text(encoding="utf-8")
    for line in stub.splitlines():
        if heading := re.match(r"# ---- (.+)", line):
            yield f"## {heading[1][0].upper()}{heading[1][1:]}"
        elif found := re.match(r"from \S+ import (\w+) as", line):
            yield entry(found[1], getattr(apportion, found[1]))


def entry(name: str, thing: Any) -> str:
    """Heading, file, signature and docstring of one name; of a module, its functions with what their first line says."""
    file = Path(inspect.getsourcefile(thing) or "") if _has_source(thing) else None
    place = file.resolve().relative_to(ROOT).as_posix() if file else ""
    parts = [f"### `{name}`", f"[{place}](../{place})" if place else "A table; see below."]
    if isinstance(thing, ModuleType):
        parts.append(_prose(thing))
        parts += [f"- `{key}{_short(value)}`  \n  {_first_line(value)}" for key, value in _own(thing)]
        return "\n\n".join(parts[:3]) + "\n\n" + "\n".join(parts[3:])
    if isinstance(thing, dict):
        rows = [f"- `{key}` {value.shape}: {value.meaning}" for key, value in thing.items()]
        return parts[0] + "\n\n" + "\n".join(rows)
    text = "\n\n".join(filter(None, [_prose(thing), _fields(thing)]))
    return "\n\n".join([*parts, f"```python\n{signature(name, thing)}\n```", f"```text\n{text}\n```"])


def _fields(thing: Any) -> str:
    """The docstrings under the fields of a dataclass, in the form of `Args:`."""
    is_one = inspect.isclass(thing) and is_dataclass(thing)
    fields = fields_of(f"{thing.__module__}.{thing.__qualname__}") if is_one else ()
    lines = [
        line
        for field in fields or ()
        for line in textwrap.wrap(
            f"{field.name}: {field.text}", WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8
        )
        if field.text
    ]
    return "\n".join(["Fields:", *lines]) if lines else ""


def signature(name: str, thing: Any) -> str:
    """As it stands in the source, on one line or with a line for each parameter."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"class {name}({thing.__bases__[0].__name__})"
    head = "class " if inspect.isclass(thing) else "def "
    found = inspect.signature(thing)
    words = list(_parameters(found))
    returns = found.empty if inspect.isclass(thing) else found.return_annotation
    ends = "" if returns is found.empty else f" -> {_type(returns)}"
    line = f"{head}{name}({', '.join(words)}){ends}"
    if len(line) <= WIDTH:
        return line
    return f"{head}{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){ends}"


def _parameters(found: inspect.Signature) -> Iterator[str]:
    starred = False
    for one in found.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        hint = "" if one.annotation is one.empty else f": {_type(one.annotation)}"
        default = "" if one.default is one.empty else f"{' = ' if hint else '='}{_value(one.default)}"
        yield f"{star}{one.name}{hint}{default}"


def _type(annotation: Any) -> str:
    text = getattr(annotation, "__forward_arg__", annotation)  # fields of a NamedTuple
    return text if isinstance(text, str) else inspect.formatannotation(text)


def _value(default: Any) -> str:
    if callable(default):
        return default.__name__.replace("_HAS_DEFAULT_FACTORY_CLASS", "...")
    return "..." if repr(default).startswith("<") else repr(default)


def _short(thing: Any) -> str:
    return f"({', '.join(inspect.signature(thing).parameters)})"


def _own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes that the module, or a package's own files, define; in the order of the source."""
    for key, value in vars(module).items():
        is_code = inspect.isclass(value) or inspect.isfunction(value)
        if is_code and not key.startswith("_") and f"{value.__module__}.".startswith(f"{module.__name__}."):
            yield key, value


def _prose(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _first_line(thing: Any) -> str:
    return " ".join(_prose(thing).split("\n\n")[0].split())


def _has_source(thing: Any) -> bool:
    return inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)


if __name__ == "__main__":
    steady_output()
    if asks_for_help(sys.argv[1:]):
        print(__doc__)
    else:
        PAGE.write_text(page(), encoding="utf-8")
        print(PAGE)
