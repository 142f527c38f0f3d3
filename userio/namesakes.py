"""A file of the user's that is not found, because something else has the name."""

from __future__ import annotations

import sys
from pathlib import Path


def taken(name: str, folder: Path) -> str:
    """A remark where a file in `folder` has the name of a module that was loaded from elsewhere: a `tasks.py` of the
    user's, where `tasks` is our package. Else an empty text."""
    name = name.split(".")[0]
    loaded = getattr(sys.modules.get(name), "__file__", None)
    own = next((path for path in (folder / name / "__init__.py", folder / f"{name}.py") if path.is_file()), None)
    if not name or not loaded or own is None or own.samefile(loaded):
        return ""
    return f" (`{name}` is {loaded} here, and not {own}: rename yours, or name what is in it by its file)"


def taken_by(error: BaseException | None, folder: Path) -> str:
    """As `taken`, for the module that a failed import wanted."""
    while error is not None:
        if isinstance(error, ImportError) and error.name:
            return taken(error.name, folder)
        error = error.__cause__ or error.__context__
    return ""
