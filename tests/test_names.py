"""What a name means here: one thing for each word, and a legend for every shape suffix."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "apportion",
    "benchmarks",
    "compare",
    "configs",
    "credit",
    "lab",
    "rewards",
    "sampling",
    "tasks",
    "trainers",
    "userio",
)
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
SUFFIX = re.compile(r"[a-z0-9]_(n?[A-Z][A-Z0-9]*)$")


def legend(file: Path) -> set[str]:
    """The letters that the head of a file explains: "Shapes: B completions, T tokens ...", or a list of them."""
    head = (ast.get_docstring(ast.parse(file.read_text())) or "") if file.exists() else ""
    paragraphs = re.findall(r"\bShape(?:s| suffixes)\b.*?(?=\n\s*\n|\Z)", head, re.DOTALL)
    return {letter for each in paragraphs for letter in re.findall(r"\b([A-Zn])\s+[a-z(]", each)}


def letters(file: Path) -> dict[str, set[str]]:
    """The letters of the shape suffixes in a file, with the names that carry them."""
    found = defaultdict(set)
    for node in ast.walk(ast.parse(file.read_text())):
        name = getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "attr", None)
        if isinstance(name, str) and (match := SUFFIX.search(name)) and not name.isupper():
            for letter in match[1]:
                found[letter].add(name)
    return {letter: names for letter, names in found.items() if not letter.isdigit()}


@pytest.mark.parametrize("file", list(filter(letters, FILES)), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_shape_suffix_stands_in_a_legend(file):
    known = (
        legend(ROOT / "credit" / "batch.py")
        | legend(file)
        | legend(ROOT / file.relative_to(ROOT).parts[0] / "__init__.py")
    )
    unknown = {letter: sorted(names) for letter, names in letters(file).items() if letter not in known}
    assert not unknown, "say what they are in the docstring, in a paragraph `Shapes: X what it counts, ...`"


# What many modules have one of, read with the module in front: `report.main`, `plots.draw`.
COMMON = {"main", "parse", "help_text", "train", "register_schema", "table", "markdown", "draw", "save", "load"}
# The same quantity, of a tensor and of a list.
TWINS = {"repeated_pairs"}


def defined(file: Path) -> set[str]:
    """Public classes, functions and type aliases of a file, in capitals only the latter."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            found |= {name} if name[0].isupper() and not name.isupper() else set()
    return {name for name in found if not name.startswith("_")} - COMMON - TWINS


def test_a_public_name_stands_in_one_file():
    files = defaultdict(list)
    for file in FILES:
        if file.relative_to(ROOT).parts[0] not in {"benchmarks", "apportion"}:
            for name in defined(file):
                files[name].append(str(file.relative_to(ROOT)))
    assert not {name: where for name, where in files.items() if len(where) > 1}
