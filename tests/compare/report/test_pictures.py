"""Names, lines and axes of the pictures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.read import read_study
from compare.report.analysis import Options, analyse
from compare.report.drawing import STYLES, labels_of, letter_of, wrapped
from compare.report.limits import Bounds, bounds_of, within
from compare.report.page import summary_table
from compare.report.plots import draw
from compare.statistics import Estimate
from support.reports import straight, write_run

LONG = "/scratch/somebody/models/Qwen2.5-0.5B-Instruct-finetuned-on-a-lot-of-things"


@given(st.text(alphabet="ab ,/=_-.()", max_size=120), st.integers(1, 30))
def test_wrapping_loses_nothing_but_spaces_at_the_ends_of_lines(text, width):
    lines = wrapped(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_letters_go_on_after_the_alphabet():
    assert [letter_of(i) for i in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def study_of(root, names, seeds=2, top=0.9, **more):
    for k, name in enumerate(names):
        for seed in range(seeds):
            rows = straight(top - 0.01 * k + 0.001 * seed, **more)
            write_run(root / f"{k}" / f"{seed}", rows, task="t", credit=name, seed=seed)
    return read_study([root])


def test_name_that_is_too_long_for_a_picture_is_lettered_and_stands_whole_in_the_table(tmp_path):
    analysis = analyse(study_of(tmp_path, [LONG, "short"]), Options())
    labels = labels_of(analysis)
    assert labels.key == (("A", LONG), ("B", "short")) and labels.of[LONG] == "A"
    header, rows = summary_table(analysis, {arm: letter for letter, arm in labels.key})
    assert header[1] == "in pictures" and [row[:2] for row in rows] == [[LONG, "A"], ["short", "B"]]


def test_up_to_eight_arms_share_a_picture_with_lines_that_differ_and_more_get_a_panel_each(tmp_path):
    for count in (8, 12):
        analysis = analyse(study_of(tmp_path / str(count), [f"arm{i}" for i in range(count)]), Options())
        figure = draw(analysis)["learning"]
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert len(shown) == (1 if count == 8 else count)
        if count == 8:
            lines = [line for line in shown[0].lines if line.get_linewidth() == 2]
            assert len({line.get_color() for line in lines}) == 8 == len(set(STYLES)) == len(lines)
            assert {f"arm{i}" for i in range(8)} <= {text.get_text() for text in shown[0].texts}
        else:
            assert [axes.get_title(loc="left") for axes in shown] == list(analysis.arms)
        plt.close("all")


@pytest.fixture
def near_the_edges(tmp_path):
    """Rewards near 1, lengths and critical batches near 0 that scatter over seeds; the latter logged now and then."""
    for seed, top in enumerate((0.9, 1.0)):
        rows = [
            {"step": i, "reward": top * min(1.0, i / 10), "generated_tokens": 100 * i,
             "completions/mean_length": max(1.0, (30 if seed else 2) - i),
             **({"audit/critical_batch": (9.0 if seed else 1.0) * i} if i % 5 == 1 else {})}
            for i in range(1, 21)
        ]  # fmt: skip
        write_run(tmp_path / "t" / "a" / f"seed{seed}", rows)
    return read_study([tmp_path])


def test_no_axis_shows_and_no_interval_reaches_what_cannot_be(near_the_edges):
    analysis = analyse(near_the_edges, Options())
    level = analysis.levels["final"]["a"]
    assert level.high == 1.0 and level.low >= 0
    assert analysis.levels["tokens"]["a"].high <= analysis.budget["t"] and analysis.levels["tokens"]["a"].low >= 0
    figures = draw(analysis)
    assert {"length", "critical_batch"} <= set(figures)
    for name, figure in figures.items():
        for axes in figure.axes:
            low, high = axes.get_xlim() if name == "final" else axes.get_ylim()
            edge = np.inf if name in ("length", "critical_batch") else 1.0
            assert -0.02 * (high - low) <= low and high <= edge + 0.02 * (high - low), name
            if name != "final":
                assert axes.get_xlim()[0] >= 0
                for band in axes.collections:
                    y = band.get_paths()[0].vertices[:, 1]
                    assert y.min() >= 0 and y.max() <= edge, name
    plt.close("all")
    assert analyse(near_the_edges, Options(bounds=Bounds())).levels["final"]["a"].high > 1


def test_bounds_are_those_given_else_those_of_rewards_never_logged_outside(tmp_path):
    runs = study_of(tmp_path, ["a"], top=0.9).runs
    assert bounds_of("reward", runs) == Bounds(0, 1, assumed=True)
    assert bounds_of("reward", runs, Bounds(0, 2)) == Bounds(0, 2)
    assert bounds_of("completions/mean_length", runs)[:2] == (0, np.inf)
    assert bounds_of("loss", runs) == Bounds() == bounds_of("reward_std", runs)
    assert bounds_of("reward", study_of(tmp_path / "more", ["a"], top=1.2).runs) == Bounds()


@given(st.floats(0, 1), st.floats(0, 5), st.floats(0, 5))
def test_interval_is_cut_where_nothing_can_be_and_keeps_its_value(value, below, above):
    cut = within(Estimate(value, value - below, value + above, 3), 0, 1)
    assert 0 <= cut.low <= cut.value <= cut.high <= 1 and cut.value == value
    assert cut.low == max(0, value - below) and cut.high == min(1, value + above)
