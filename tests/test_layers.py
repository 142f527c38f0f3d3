"""Rules of the floor plan: no circles among files, no private names across files, Hydra where it belongs, folders that fit a page."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("userio", "credit", "rewards", "tasks", "sampling", "configs", "trainers", "lab", "compare")
MOST_ENTRIES = 18
# Not rooms but lists: a file for each strategy, a YAML for each command and a folder for each of its choices; and the top,
# whose names are given.
LISTS = (".", "configs", "configs/credit", "configs/credit/spread", "docs/strategies")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True).stdout.split()
    return [Path(name) for name in listed if (ROOT / name).exists()]


FILES = {
    path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in tracked(*(f"{package}/*.py" for package in PACKAGES))
}


def imported(module: str) -> list[tuple[str, str | None]]:
    """(module of ours, name taken from it or None) of every import in a file, those inside functions too."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse((ROOT / FILES[module]).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names if alias.name in FILES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in FILES:
                    found.append((inner, None))
                elif node.module in FILES:
                    found.append((node.module, alias.name))
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that reach each other (strongly connected components with more than one member)."""
    reach = {start: _reachable(graph, start) for start in graph}
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in graph}
    return [list(group) for group in groups if len(group) > 1]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, todo = {start}, [start]
    while todo:
        new = graph[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def test_no_circle_among_files():
    graph = {module: {other for other, _ in imported(module)} - {module} for module in FILES}
    # A package's __init__ re-exports its files; the arrow from a file to its own package's __init__ would be a circle.
    assert not circles(graph)


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_private_name_is_imported_from_another_file(package):
    private = {
        f"{module}: {other}.{name}"
        for module in FILES
        if module.split(".")[0] == package
        for other, name in imported(module)
        if name and name.startswith("_") and not name.startswith("__")
    }
    assert not private


# Who composes configurations: configs/ itself, the words of a command, the sweep, which reads choices and launchers, and
# `rewards.score` with its builder, which composes a reward without a training.
HYDRA = (
    "configs/",
    "trainers/command/",
    "trainers/run/",
    "compare/sweep/",
    "compare/view/__main__.py",
    "rewards/build.py",
)


def test_hydra_stays_where_configurations_are_composed():
    for module, path in FILES.items():
        text = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        names = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in ast.walk(text)
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        if {name.split(".")[0] for name in names} & {"hydra", "omegaconf"}:
            assert path.as_posix().startswith(HYDRA), module


def test_a_folder_has_at_most_eighteen_entries():
    entries: Counter[str] = Counter()
    seen = set()
    for path in tracked():
        for inner in [path, *path.parents][:-1]:
            if inner not in seen and inner.name not in ("__init__.py", "py.typed"):
                seen.add(inner)
                entries[inner.parent.as_posix()] += 1
    full = {folder: count for folder, count in entries.items() if count > MOST_ENTRIES and folder not in LISTS}
    assert not full


def test_every_name_that_one_of_our_files_takes_from_another_is_there():
    """Scripts and tests too, which nobody imports: read, not run."""
    roots = {**FILES, **{_module(path): path for path in tracked("tests/support/*.py")}}
    for path in tracked("*.py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in roots:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    there = inner in roots or alias.name in _names(roots[node.module])
                    assert there or alias.name == "*", f"{path} takes {alias.name} from {node.module}"


def test_every_file_of_ours_that_is_imported_is_in_git():
    """A folder may be ignored (runs/), and then works here alone."""
    packages = {name.split(".")[0] for name in FILES}
    for module, path in FILES.items():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in packages:
                assert node.module in FILES, f"{module} imports {node.module}, which git does not keep"


def _module(path: Path) -> str:
    return path.relative_to("tests").with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


@cache
def _names(path: Path) -> set[str]:
    """Everything that a file binds, at whatever depth; a module `__getattr__` gives all."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found
