"""docs/api.md is what docs/make_api.py makes of the docstrings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import apportion

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
assert _spec and _spec.loader
make_api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_api)


def test_the_page_is_up_to_date():
    assert make_api.PAGE.read_text(encoding="utf-8") == make_api.page(), "run python docs/make_api.py"


def test_every_public_name_has_an_entry_with_something_to_read():
    page = make_api.PAGE.read_text(encoding="utf-8")
    entries = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", page, re.S | re.M))
    assert list(entries) == list(apportion.PUBLIC)
    assert all(len(re.sub(r"```.*\n|\[.*|\s", "", text)) > 40 for text in entries.values())


def test_signatures_name_functions_and_leave_out_addresses():
    def scale(reward, *, by: float = 1.0, how=len, table=object()):  # noqa: B008
        """Scales."""

    assert make_api.signature("scale", scale) == "def scale(reward, *, by: float = 1.0, how=len, table=...)"
    assert " at 0x" not in make_api.PAGE.read_text(encoding="utf-8")
