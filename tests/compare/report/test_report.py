from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.read import metric_columns, read_run, read_study, token_column
from compare.report import __main__ as cli
from compare.report.analysis import MEASURES, MIN_PAIRS, Options, analyse, compare, mean_curve
from compare.report.words import cautions, conclusions, number, with_interval
from compare.statistics import Estimate
from support.reports import straight, write_run


def write_arms(root: Path, seeds: int, **tops: float) -> Path:
    """Runs whose final reward is `top` plus what the seed does to every arm plus a little of their own."""
    for k, (arm, top) in enumerate(tops.items()):
        for seed in range(seeds):
            own = np.random.default_rng([seed, k]).normal(0, 0.01)
            shared = np.random.default_rng(seed).normal(0, 0.1)
            write_run(root / "chain" / arm / f"seed{seed}", straight(top + shared + own))
    return root


def test_step_logged_twice_counts_once_the_last_time_and_broken_lines_do_not(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "reward": 1}\n{"step": 2, "reward": 2}\n{"step": 2, "reward": 5, "x": null}\n{"step": 3, "rew'
    )
    columns = metric_columns(path)
    assert columns["step"].tolist() == [1, 2] and columns["reward"].tolist() == [1, 5]


def test_lines_of_one_step_are_merged_and_gaps_are_nan(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "reward": 1}\n{"step": 1, "eval_reward": 3}\n{"step": 2, "reward": 2}\n')
    columns = metric_columns(path)
    assert columns["eval_reward"][0] == 3 and np.isnan(columns["eval_reward"][1])


def test_path_says_task_arm_and_seed_and_the_summary_does_where_the_path_does_not(tmp_path):
    run = read_run(write_run(tmp_path / "chain" / "dr_grpo" / "seed7", straight(1.0)))
    assert (run.task, run.arm, run.seed) == ("chain", "dr_grpo", 7)
    run = read_run(write_run(tmp_path / "elsewhere", straight(1.0), task="doors", credit="mine", seed=3))
    assert (run.task, run.arm, run.seed) == ("doors", "mine", 3)


def test_two_runs_in_one_place_count_once_and_both_are_named(tmp_path):
    for root, top in (("one", 1.0), ("two", 1.0), ("three", 0.9)):
        write_run(tmp_path / root / "t" / "a" / "seed0", straight(top))
    analysis = analyse(read_study([tmp_path / "two", tmp_path / "one", tmp_path / "three"]), Options())
    assert [run.folder.parts[-4] for run in analysis.used] == ["two"]
    assert ["but other numbers" in one.reason for one in analysis.apart] == [False, True]
    assert len(read_study([tmp_path / "one", tmp_path / "one" / "t"]).runs) == 1


def test_every_arm_is_read_at_the_budget_that_all_runs_reached(tmp_path):
    write_run(tmp_path / "t" / "short" / "seed0", straight(1.0, tokens=50))
    write_run(tmp_path / "t" / "long" / "seed0", straight(1.0, tokens=100))
    analysis = analyse(read_study([tmp_path]), Options(reference="short", window=1))
    assert analysis.budget == {"t": 1000}
    assert analysis.values["final"]["short"]["t"][0] == pytest.approx(1.0)
    assert analysis.values["final"]["long"]["t"][0] == pytest.approx(0.5)
    assert analysis.values["final_steps"]["long"]["t"][0] == pytest.approx(1.0)


def test_run_that_never_reaches_the_threshold_counts_with_the_whole_budget(tmp_path):
    for seed in range(2):
        write_run(tmp_path / "t" / "good" / f"seed{seed}", straight(1.0))
        write_run(tmp_path / "t" / "bad" / f"seed{seed}", straight(0.2))
    analysis = analyse(read_study([tmp_path]), Options(reference="good", window=1, threshold=0.5))
    assert analysis.values["tokens"]["good"]["t"] == {0: 1000, 1: 1000}
    assert analysis.values["tokens"]["bad"]["t"] == {0: 2000, 1: 2000}
    assert analysis.arrivals["bad"]["t"].reached == 0 and analysis.arrivals["good"]["t"].reached == 1


def test_reference_that_does_not_rise_sets_no_threshold(tmp_path):
    for seed in range(2):
        write_run(tmp_path / "t" / "a" / f"seed{seed}", straight(-1.0))
        write_run(tmp_path / "t" / "b" / f"seed{seed}", straight(1.0))
    study = read_study([tmp_path])
    result = analyse(study, Options())
    assert np.isnan(result.threshold["t"]) and result.arrivals["b"]["t"].reached == 0
    assert any("did not rise on t" in line for line in cautions(study, result))
    assert analyse(study, Options(threshold=0.5)).arrivals["b"]["t"].reached == 1


def test_generated_tokens_are_the_axis_where_every_run_counts_them(tmp_path):
    write_run(tmp_path / "t" / "a" / "seed0", straight(1.0, generated_tokens=5))
    assert token_column(read_study([tmp_path]).runs) == "generated_tokens"
    write_run(tmp_path / "t" / "b" / "seed0", straight(1.0))
    assert token_column(read_study([tmp_path]).runs) == "num_tokens"
    write_run(tmp_path / "t" / "c" / "seed0", [{"step": 1, "reward": 1.0}])
    assert token_column(read_study([tmp_path]).runs) == "step"


def test_held_out_reward_is_a_measure_where_every_run_has_one(tmp_path):
    write_run(tmp_path / "t" / "a" / "seed0", straight(1.0), eval_reward_after=0.3)
    assert analyse(read_study([tmp_path]), Options()).levels["held_out"]["a"].value == 0.3
    write_run(tmp_path / "t" / "b" / "seed0", straight(1.0))
    assert "held_out" not in analyse(read_study([tmp_path]), Options()).values


def test_clear_difference_is_declared_and_a_small_one_is_not(tmp_path):
    study = read_study([write_arms(tmp_path, 10, uniform=0.5, better=0.7, same=0.5)])
    analysis = analyse(study, Options())
    declared = {row.arm: row.declared for row in analysis.comparisons["final"]}
    assert analysis.reference == "uniform" and declared == {"better": True, "same": False}
    text = " ".join(conclusions(study, analysis))
    assert "better differs from uniform" in text and "same and uniform cannot be told apart" in text


def test_three_seeds_declare_nothing_and_say_what_they_could_not_see(tmp_path):
    study = read_study([write_arms(tmp_path, 3, uniform=0.5, better=0.7)])
    analysis = analyse(study, Options())
    (row,) = analysis.comparisons["final"]
    assert row.difference.p < 0.05 and not row.declared
    (first, second) = conclusions(study, analysis)
    assert "No arm is declared different" in first and "not evidence that they are equal" in first
    assert (
        f"With 3 paired runs nothing below a difference of {number(row.smallest, row.smallest)} can be told apart"
        in second
    )
    assert any("smoke test" in line for line in cautions(study, analysis))


def test_few_pairs_never_declare_however_clear_they_look():
    for pairs in range(2, MIN_PAIRS):
        table = {"a": {"t": dict.fromkeys(range(pairs), 0.0)}, "b": {"t": {s: 1.0 + s / 1e6 for s in range(pairs)}}}
        assert not compare(table, "a")[0].declared


def test_seeds_that_only_one_arm_has_stay_out_of_the_difference():
    table = {"a": {"t": {0: 0.0, 1: 0.0, 2: 50.0}}, "b": {"t": {0: 1.0, 1: 2.0, 9: -50.0}}}
    (row,) = compare(table, "a")
    assert row.difference.value == pytest.approx(1.5) and [pair[1] for pair in row.pairs] == [0, 1]


def test_fewer_tokens_is_the_improvement():
    table = {"a": {"t": {0: 10.0, 1: 10.0}}, "b": {"t": {0: 5.0, 1: 6.0}}}
    assert compare(table, "a", "tokens")[0].improvement.value == 1
    assert compare(table, "a", "final")[0].improvement.value == 0


def test_identical_arms_are_said_to_be_identical(tmp_path):
    for arm in ("uniform", "copy"):
        for seed in range(6):
            write_run(tmp_path / "t" / arm / f"seed{seed}", straight(0.5 + seed / 10))
    study = read_study([tmp_path])
    analysis = analyse(study, Options())
    assert "gave the same number" in " ".join(conclusions(study, analysis))


def test_unfinished_runs_are_left_out_and_named(tmp_path):
    write_arms(tmp_path, 5, uniform=0.5, other=0.6)
    write_run(tmp_path / "chain" / "other" / "seed5", straight(9.0, steps=3), finished=False)
    study = read_study([tmp_path])
    analysis = analyse(study, Options())
    assert len(analysis.used) == 10 and max(analysis.values["final"]["other"]["chain"].values()) < 2
    assert any("chain/other/seed5" in line for line in cautions(study, analysis))


def test_band_of_the_mean_curve_is_the_t_interval_at_every_point():
    x = np.arange(1.0, 6.0)
    curves = [(x, np.full(5, height)) for height in (1.0, 2.0, 6.0)]
    grid, mean, half = mean_curve(curves, 5.0, window=1)
    assert (grid[0], grid[-1]) == (1, 5) and mean == pytest.approx(np.full(200, 3.0))
    assert half == pytest.approx(np.full(200, 4.302653 * np.std([1, 2, 6], ddof=1) / np.sqrt(3)), rel=1e-6)


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [(0.12345, None, "0.123"), (1234.5, None, "1234"), (532_111, None, "532k"), (2.5e6, None, "2.5M"), (0.0, None, "0"),
     (0.12345, 0.05, "0.123"), (0.12345, 3.0, "0.1"), (-6930.0, 98_700.0, "\u22127k"), (-0.001, 0.2, "\u22120.001"),
     (3.0, 20_000.0, "3"), (-0.0, 0.2, "0.00"), (1e-9, 1.0, "1.0e\u221209"), (float("nan"), None, "n/a")],
)  # fmt: skip
def test_numbers_carry_as_many_digits_as_their_interval_supports(value, scale, text):
    assert number(value, scale) == text


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_no_difference_is_rounded_away_by_the_width_of_its_interval(value, half):
    shown, low, high = re.fullmatch(
        r"(\S+)\u00a0\[(\S+),\u00a0(\S+)\]", with_interval(Estimate(value, value - half, value + half, 5))
    ).groups()  # fmt: skip
    numbers = [_read(shown), _read(low), _read(high)]
    for said, true in zip(numbers, (value, value - half, value + half), strict=True):
        assert (said > 0) == (true > 0) and (said < 0) == (true < 0)
    assert numbers[0] == pytest.approx(value, rel=0.051, abs=1e-300)


def _read(text: str) -> float:
    """The number that `number` wrote."""
    unit = {"k": 1e3, "M": 1e6}.get(text[-1], 1.0)
    return float(text.replace("\u2212", "-").rstrip("kM")) * unit


def test_value_and_interval_share_their_digits():
    assert with_interval(Estimate(0.03, -0.6, 0.7, 5), sign=True) == "+0.030\u00a0[\u22120.6,\u00a0+0.7]"
    assert with_interval(Estimate(0.77531, 0.7371, 0.8216, 5)) == "0.775\u00a0[0.737,\u00a00.822]"
    assert "no\u00a0interval" in with_interval(Estimate(0.5, float("nan"), float("nan"), 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "at least one folder"),
        (["runs", "referense=x"], "reference, metric"),
        (["runs", "threshold=high"], "must be a number"),
        (["runs", "level=95"], "between"),
        (["runs", "window=0"], "at least 1"),
    ],
)
def test_commands_that_are_not_understood_name_the_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        cli.parse(arguments)


def test_what_cannot_be_reported_is_said_in_one_line(tmp_path, capsys):
    assert cli.main([str(tmp_path)]) == 2
    assert "No run with" in capsys.readouterr().err
    write_run(tmp_path / "t" / "a" / "seed0", straight(1.0))
    assert cli.main([str(tmp_path), "metric=accuracy"]) == 2
    assert "no `accuracy`. It logged:" in capsys.readouterr().err
    assert cli.main([str(tmp_path), "reference=b"]) == 2
    assert "there are: a" in capsys.readouterr().err


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report over a sweep with two tasks, an arm with a hostile name, and a failed cell."""
    folder = tmp_path_factory.mktemp("sweep")
    hostile = "<img src=x onerror=alert(1)>|*a*"
    cells = []
    for task in ("chain", "doors"):
        for arm in ("uniform", hostile):
            for seed in range(3):
                id = f"{task}{len(cells)}"
                cells.append({"id": id, "task": task, "arm": arm, "seed": seed})
                rows = straight(0.5 + (0.1, -0.1, 0.01)[seed] * (arm == hostile), **{"completions/mean_length": 9.0})
                if id != "doors11":
                    write_run(folder / "cells" / id, rows, versions={"trl": "9.9"}, seconds=3.0, eval_reward_after=0.5)
    (folder / "state").mkdir()
    (folder / "state" / "doors11.json").write_text(
        json.dumps({"state": "failed", "error": "Traceback <script>boom</script>"})
    )
    (folder / "sweep.json").write_text(json.dumps({"cells": cells, "command": "sweep.py <x>", "commit": "abc123"}))
    assert cli.main([str(folder)]) == 0
    return folder / "report", hostile


def test_page_is_self_contained_and_reads_names_as_text(written):
    out, hostile = written
    page = _Page()
    page.feed((out / "report.html").read_text())
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert hostile in page.text and "Traceback <script>boom</script>" in page.text


def test_report_says_what_was_run_and_what_is_missing(written):
    out, _ = written
    text = (out / "report.md").read_text()
    for expected in (
        "abc123",
        "trl 9.9",
        "1 cell without a finished run: doors11 (failed)",
        "3 seeds",
        "cannot be told apart",
    ):
        assert expected in text, expected


def test_markdown_names_only_pictures_that_are_there(written):
    out, _ = written
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (out / "report.md").read_text())
    assert {"learning_chain.png", "learning_doors.png", "final.png", "differences.png"} <= set(pictures)
    assert all((out / picture).stat().st_size > 5000 for picture in pictures)


def test_tables_hold_every_run_and_every_comparison_in_full(written):
    out, hostile = written
    runs = list(csv.DictReader((out / "runs.csv").open()))
    assert len(runs) == 11 and {row["arm"] for row in runs} == {"uniform", hostile}
    comparisons = list(csv.DictReader((out / "comparisons.csv").open()))
    assert {row["measure"] for row in comparisons} == set(MEASURES)
    (final,) = [row for row in comparisons if row["measure"] == "final"]
    assert final["pairs"] == "5" and float(final["low"]) < float(final["difference"]) < float(final["high"])
