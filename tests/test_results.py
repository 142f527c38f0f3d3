"""No page publishes a number that its data do not hold."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from support.published import DOCS, Block, blocks_of, holds, intervals, records_of, shown_numbers

ROOT = DOCS.parent
# Cards are made by `python -m lab.card` and held against their strategies by tests/lab/test_card.py.
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "strategies")]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
MARKED = [block for block in BLOCKS if block.source and not block.source.startswith(("none", "made"))]


@pytest.mark.parametrize("block", MARKED, ids=str)
def test_every_published_number_is_in_its_data(block):
    records = records_of(block.source)
    flat = [number for record in records for number in record]
    for shown in shown_numbers(block.plain):
        assert holds(flat, shown), f"{block}: {shown} is not in {block.source}"
    for triple in intervals(block.plain):
        together = any(all(holds(record, number) for number in triple) for record in records)
        assert together, f"{block}: no record of {block.source} holds {triple}"


def is_result(block: Block) -> bool:
    """An interval, or a table with several decimals in its rows."""
    rows = [line for line in block.plain.splitlines() if line.startswith("|")]
    return bool(intervals(block.plain)) or sum(len(re.findall(r"\d\.\d{2,}", row)) for row in rows) > 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_results_names_its_data(page):
    bare = [str(block) for block in blocks_of(page) if block.source is None and is_result(block)]
    assert not bare, "put <!-- numbers: FILE --> before it (tests/support/published.py)"


def test_every_file_of_results_names_command_commit_and_versions():
    about = json.loads((DOCS / "results" / "provenance.json").read_text(encoding="utf-8"))
    tracked = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    data = {name.removeprefix("docs/") for name in tracked if Path(name).suffix in (".json", ".csv")}
    assert data - {"results/provenance.json", "results/recorded.json"} == set(about)
    recorded = json.loads((DOCS / "results" / "recorded.json").read_text(encoding="utf-8"))
    del recorded["about"]
    for name, entry in {**about, **recorded}.items():
        assert entry["command"].startswith(("python ", "PYTHONPATH=. python ", "pytest ")), name
        assert re.fullmatch(r"[0-9a-f]{7,40}", entry["commit"]) and entry["versions"], name


def test_the_table_of_length_bias_is_the_one_its_data_give():
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "length_bias_benchmark", ROOT / "benchmarks" / "stages" / "length_bias.py"
    )
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    done = json.loads((DOCS / "results" / "stages" / "length_bias.json").read_text(encoding="utf-8"))
    text = benchmark.report(done, sorted({run["seed"] for run in done}))
    page = (DOCS / "stages" / "likelihood.md").read_text(encoding="utf-8")
    plain = " ".join(page.split())  # lines of prose are wrapped
    assert all(" ".join(line.split()) in plain for line in text.splitlines())


def test_a_number_that_has_parted_from_its_data_is_seen():
    records = [[0.46637, 0.41534, 0.52368], [4530.4], [0.2]]
    flat = [number for record in records for number in record]
    assert holds(flat, "0.47") and holds(flat, "4,530") and holds(flat, "4.5k") and holds(flat, "20.0%")
    assert not holds(flat, "0.48") and not holds(flat, "4,531")
    text = "spans need 0.47 [0.42, 0.52] of `9.99`, 4,530 of 12"
    assert intervals(text) == [("0.47", "0.42", "0.52")] and shown_numbers(text.replace("`9.99`", "it")) == ["4,530"]
    assert any(all(holds(record, number) for number in ("0.47", "0.42", "0.52")) for record in records)
    assert not any(all(holds(record, number) for number in ("0.47", "0.42", "0.53")) for record in records)
