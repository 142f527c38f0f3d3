"""benchmarks/README.md names every script once, with a command that exists and a page that names the script too."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from apportion.packages import NEEDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
ROWS = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("|") and "`python " in line]


def scripts() -> set[str]:
    files = subprocess.run(
        ["git", "ls-files", "benchmarks/*.py"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    return {file for file in files if "__main__" in (ROOT / file).read_text()}


def test_every_script_has_a_row_and_every_row_a_script():
    named = [re.search(r"`python (\S+?\.py)", row)[1] for row in ROWS]
    assert sorted(named) == sorted(scripts())


def test_the_page_of_a_row_names_its_script_or_this_table():
    silent = []
    for row in ROWS:
        script, page = re.search(r"`python (\S+?\.py)", row)[1], re.search(r"\]\((\S+?)\)", row)
        text = (FOLDER / page[1]).resolve().read_text() if page else ""
        if page and script not in text and "benchmarks/README.md" not in text:
            silent.append((script, page[1]))
    assert not silent


def test_every_other_file_is_explained():
    page = (FOLDER / "README.md").read_text()
    for file in FOLDER.rglob("*.py"):
        assert file.name in page or file.parent.name == "oracle", file


def test_no_script_has_the_name_of_a_package_of_ours():
    """Python puts a script's folder first: `benchmarks/cost/rewards.py` would hide `rewards` from all beside it."""
    files = list(FOLDER.rglob("*.py"))
    assert len(files) > 15 and not [file for file in files if file.stem in NEEDS]
