"""Which packages are ours, whether Python would find them, and what a command of ours does where it would not.

The wheel installs top-level names that people give to their own files: `rewards.py`, `tasks/`, `configs/`. Python takes
the first it finds on `sys.path`, which begins with the folder of the script or, after `python -m`, with the folder one
stands in. A process that somebody else owns is told about it (`hidden`, `sentence`). A command of ours makes way
(`make_way`): what hides a package of ours goes behind us on the path, where worker processes find it in the same order,
because multiprocessing hands `sys.path` on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent  # site-packages, or a checkout
# Our packages, and for each the others that its files import; tests/apportion holds this against them and pyproject.toml.
NEEDS: dict[str, tuple[str, ...]] = {
    "userio": (),
    "credit": (),
    "rewards": ("userio",),
    "tasks": ("userio", "rewards"),
    "sampling": (),
    "configs": ("userio", "credit"),
    "trainers": ("userio", "credit", "rewards", "tasks", "sampling", "configs"),
    "lab": ("userio", "credit", "rewards", "sampling", "configs", "trainers", "compare"),
    "compare": ("userio", "credit", "configs", "trainers"),
}


def hidden(names: Iterable[str] = tuple(NEEDS)) -> dict[str, Path | None]:
    """Packages of ours that Python would not find, each with what stands in its place; None: nothing does."""
    found = {name: _found(name) for name in names}
    return {name: place for name, place in found.items() if place != (HOME / name).resolve()}


def needed_by(name: str) -> tuple[str, ...]:
    """The package and all that it needs, directly or not."""
    needed = [name]
    for one in needed:
        needed += [other for other in NEEDS[one] if other not in needed]
    return tuple(needed)


def sentence(places: dict[str, Path | None]) -> str:
    """What hides which package, and what to do about it."""
    hides = [f"`{name}` is {place}" for name, place in places.items() if place]
    gone = [f"`{name}`" for name, place in places.items() if not place]
    words = []
    if hides:
        words.append(
            f"Apportion's packages are hidden by others of the same name: {', '.join(hides)}. Rename what hides them, or "
            "start Python where it is not on the path. The commands (`apportion train_grpo ...`, `python -m "
            "apportion.train_grpo ...`) find ours all the same."
        )
    if gone:
        words.append(f"Packages of Apportion are missing from {HOME}: {', '.join(gone)}. Install it again.")
    return " ".join(words)


def make_way() -> str:
    """For a process of our own, before anything of ours is imported: our packages win, and the folder one stands in is last
    on the path, however the command was started. Returns what to say of files there that have the name of one of ours.

    Raises:
        ImportError: something else has been imported under the name of a package of ours, or one is missing.
    """
    here = Path.cwd()
    namesakes = {name: place for name in NEEDS if (place := _found(name, [str(here)])) not in (None, HOME / name)}
    if sys.path and _is(sys.path[0], here) and here != HOME:
        sys.path.append(sys.path.pop(0))
    sys.path[:] = [entry for entry in sys.path if not _is(entry, HOME / "apportion")]  # a file of it run as a script
    at = next((i for i, entry in enumerate(sys.path) if _is(entry, HOME)), None)
    if at is None:
        at = len(sys.path)
        sys.path.append(str(HOME))
    before = sys.path[:at]
    late = [entry for entry in before if any(_found(name, [entry]) for name in NEEDS)]
    sys.path[: at + 1] = [entry for entry in before if entry not in late] + [sys.path[at], *late]
    if still := hidden():
        raise ImportError(sentence(still))
    if not namesakes:
        return ""
    listed = ", ".join(f"`{name}` ({place})" for name, place in namesakes.items())
    return (
        f"{listed}: these names mean Apportion's packages here. Name what is in a file of yours by the file "
        "(reward.funcs=[rewards.py:polite]), or rename it."
    )


def is_own_command() -> bool:
    """Whether this process was started as one of our commands, which make way for themselves."""
    started = Path(sys.argv[0]) if sys.argv else Path()
    if started == Path("-m"):  # the module is only being looked for
        return any(word.split(".")[0] == "apportion" for word in sys.orig_argv[1:])
    return started.stem == "apportion" or (started.is_file() and started.resolve().parent in (HOME, HOME / "apportion"))


def _found(name: str, path: list[str] | None = None) -> Path | None:
    """The folder of the package, or the file of the module, that `import name` would take; None: there is none, or only
    folders without Python code of their own, which hide nothing."""
    module = sys.modules.get(name) if path is None else None
    if module is not None:
        place = getattr(module, "__file__", None)
    else:
        spec = find_spec(name) if path is None else PathFinder.find_spec(name, path)
        place = spec.origin if spec and spec.has_location else None
    if not place:
        return None
    file = Path(place).resolve()
    return file.parent if file.stem == "__init__" else file


def _is(entry: str, folder: Path) -> bool:
    return Path(entry).resolve() == folder.resolve()
