"""docs/api.md is what `python -m apportion.page` makes of the docstrings."""

from __future__ import annotations

import re

import apportion
from apportion import page as api


def test_the_page_is_up_to_date():
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "run python -m apportion.page"


def test_every_public_name_has_an_entry_with_something_to_read():
    page = api.PAGE.read_text(encoding="utf-8")
    entries = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", page, re.S | re.M))
    assert list(entries) == list(apportion.PUBLIC)
    assert all(len(re.sub(r"```.*\n|\[.*|\s", "", text)) > 40 for text in entries.values())


def test_signatures_name_functions_and_leave_out_addresses():
    def scale(reward, *, by: float = 1.0, how=len, table=object()):  # noqa: B008
        """Scales."""

    assert api.signature("scale", scale) == "def scale(reward, *, by: float = 1.0, how=len, table=...)"
    assert " at 0x" not in api.PAGE.read_text(encoding="utf-8")
