"""python -m configs.fields.page   Writes the settings into the docs: docs/all_settings.md, and tables in other pages.

A table in another page stands between `<!-- settings: task=jsonl -->` and `<!-- end -->`; a choice of a group, a command
(`train_lhts`) or a place (`reward.guard`) can be named. All of it is made from where the settings are declared; never edited.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

from configs.fields.declared import ROOT
from configs.fields.defaults import COMMANDS, PLACES, fields_of_place, script_of
from configs.fields.help import choices_of, groups_of
from configs.fields.listing import (
    Setting,
    blocks,
    once,
    settings_of_choice,
    settings_of_command,
    settings_of_fields,
    shown,
)
from userio.words import word_of

DOCS = ROOT / "docs"
PAGE = DOCS / "all_settings.md"
MARK = re.compile(r"(<!-- settings: ([\w./=]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = """\
# All settings

Made by `python -m configs.fields.page` from the docstrings where each setting is declared; do not edit. `--help` shows
the same, and `--help task=jsonl` one choice alone. How settings are written: [settings](running/settings.md).
"""


def pages() -> dict[Path, str]:
    """Every page that has settings on it, as it should be."""
    made = {PAGE: whole_page()}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if path != PAGE and MARK.search(text):
            made[path] = MARK.sub(
                lambda found: f"{found.group(1)}\n{_table_of(found.group(2))}\n\n{found.group(3)}", text
            )
    return made


def whole_page() -> str:
    """All settings of all commands, each once."""
    parts = [_HEAD, "## The commands"]
    for who, settings in once({name: settings_of_command(name) for name in COMMANDS}):
        parts += [", ".join(f"`{script_of(name)}`" for name in who), table(settings)]
    groups: dict[str, str] = {}
    for name in [name for name in COMMANDS if name != "sweep"]:
        groups |= {group: name for group in groups_of(name) if group not in (*groups, "trainer", "experiment")}
    parts.append("## The choices")
    for group, name in groups.items():
        # `weight=` of likelihood training has the members of `credit/weight=`, at another place.
        found = blocks(group, list(choices_of(name, group)))
        parts += [f"### {group}="] if found else []
        for who, settings in found:
            parts += [fill(", ".join(f"`{choice}`" for choice in who), 120), table(settings)]
    return "\n\n".join(parts) + "\n"


def table(settings: Iterable[Setting], prefix: str = "") -> str:
    """In Markdown. `prefix`: left out of the keys."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for one in settings:
        default = "must be given" if shown(one.default) == "..." else f"`{shown(one.default)}`"
        text = one.text.replace("|", "\\|").replace("<", "&lt;")
        rows.append(f"| `{one.key.removeprefix(prefix)}` | {default} | {text} |")
    return "\n".join(rows)


def _table_of(named: str) -> str:
    if "=" in named:
        group, choice = word_of(named)
        return table(settings_of_choice(group, choice or ""), f"{group.replace('/', '.')}.")
    return table(_at_place(named), f"{named}.") if named in PLACES else table(settings_of_command(named))


def _at_place(place: str) -> list[Setting]:
    return list(settings_of_fields(fields_of_place(place, None) or (), f"{place}."))


if __name__ == "__main__":
    from userio.commands import asks_for_help
    from userio.terminal import steady_output

    steady_output()
    if asks_for_help(sys.argv[1:]):
        print(__doc__)
        raise SystemExit
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)
