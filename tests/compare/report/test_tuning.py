"""The best of each strategy: chosen on some seeds, compared on others."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from compare.read import read_study
from compare.report import __main__ as cli
from compare.report.analysis import Options, analyse
from compare.report.design import Design, design_of
from compare.report.tuning import split_seeds, tune
from compare.report.words import cautions, conclusions
from compare.statistics import paired_difference
from support.reports import write_grpo

RATES = ("1e-5", "1e-4", "1e-3")


def grid_design(names: tuple[str, ...] = ("a", "b"), rates: tuple[str, ...] = RATES) -> Design:
    settings = {f"{n} {r}": {"credit.name": n, "trainer.learning_rate": r} for n in names for r in rates}
    design = design_of(settings)
    assert design is not None
    return design


@pytest.mark.parametrize(("count", "tuning"), [(1, 1), (2, 1), (3, 1), (5, 1), (6, 1), (8, 3), (10, 5), (20, 10)])
def test_tuning_takes_half_of_the_seeds_unless_fewer_than_five_would_be_left(count, tuning):
    chosen, test = split_seeds(range(count))
    assert len(chosen) == tuning and [*chosen, *test] == list(range(count))


def test_seeds_asked_for_choose_and_strange_ones_are_refused():
    assert split_seeds([0, 1, 2], [2]) == ((2,), (0, 1))
    with pytest.raises(ValueError, match="tuning_seeds=7: no run has that seed; there are 0, 1, 2"):
        split_seeds([0, 1, 2], [7])


def test_best_of_noise_is_not_taken_for_better_than_it_is():
    """Ten strategies that are one, at five rates that do nothing: the winner's own seeds flatter it, the others do not."""
    names, rates, seeds = tuple("abcdefghij"), tuple(f"{r}e-5" for r in range(1, 6)), range(10)
    design, flattered, honest = grid_design(names, rates), [], []
    for draw in range(25):
        noise = np.random.default_rng(draw)
        values = {arm: {"t": {s: float(noise.normal()) for s in seeds}} for arm in design.of}
        tuned = tune(design, values, seeds, "a")
        assert set(tuned.tuning) | set(tuned.test) == set(seeds) and not set(tuned.tuning) & set(tuned.test)
        flattered += list(tuned.found.values())
        honest += [np.mean(list(tasks["t"].values())) for tasks in tuned.table(values).values()]
    assert np.mean(flattered) > 0.4
    assert abs(np.mean(honest)) < 4 * np.std(honest) / np.sqrt(len(honest))


def test_choice_reads_the_tuning_seeds_only_and_the_comparison_the_others_only():
    design = grid_design()
    values = {arm: {"t": dict.fromkeys(range(4), 0.0)} for arm in design.of}
    values["a 1e-4"]["t"] |= {0: 1.0, 1: 1.0, 2: -5.0, 3: -5.0}
    tuned = tune(design, values, range(4), "a", asked=(0, 1))
    assert tuned.chosen == {"a": "a 1e-4", "b": "b 1e-5"}, "of equals the first"
    assert tuned.table(values)["a"] == {"t": {2: -5.0, 3: -5.0}} and tuned.levels["a"].value == -5
    low = tune(design, values, range(4), "a", lower_is_better=True, asked=(2, 3))
    assert low.chosen["a"] == "a 1e-4"


def test_rate_that_lacks_a_tuning_run_is_no_candidate():
    design = grid_design()
    values = {arm: {"t": dict.fromkeys(range(4), 0.0)} for arm in design.of}
    values["a 1e-3"]["t"] = {1: 9.0, 2: 9.0, 3: 9.0}
    tuned = tune(design, values, range(4), "a", asked=(0, 1))
    assert tuned.chosen["a"] == "a 1e-5" and tuned.tried == {"a": 2, "b": 3}


def test_best_at_an_end_of_what_was_tried_is_said():
    design = grid_design()
    height = {"1e-5": 0.0, "1e-4": 1.0, "1e-3": 2.0}
    values = {
        arm: {"t": {s: height[arm[2:]] if arm[0] == "a" else -abs(height[arm[2:]] - 1) for s in (0, 1)}}
        for arm in design.of
    }
    tuned = tune(design, values, (0, 1), "a")
    assert tuned.edges == {"a": "the highest learning_rate tried"}


def test_main_effect_is_the_paired_difference_averaged_over_what_both_were_run_at():
    design = grid_design()
    noise = np.random.default_rng(0)
    values = {arm: {"t": {s: float(noise.normal()) for s in range(6)}} for arm in design.of}
    del design.of["b 1e-3"], values["b 1e-3"]  # type: ignore[attr-defined]
    effects = {(one.factor.name, one.level): one for one in tune(design, values, range(6), "a").effects}
    ours = np.mean([[values[f"b {r}"]["t"][s] for s in range(6)] for r in RATES[:2]], axis=0)
    theirs = np.mean([[values[f"a {r}"]["t"][s] for s in range(6)] for r in RATES[:2]], axis=0)
    wanted, found = paired_difference([ours], [theirs]), effects["strategy", "b"]
    assert found.settings == 2 and (found.difference.value, found.difference.low) == pytest.approx(
        (wanted.value, wanted.low)
    )
    assert effects["learning_rate", "1e-3"].settings == 1 and effects["learning_rate", "1e-4"].settings == 2


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Two strategies at three rates and seven seeds: the best rates differ, and so do the strategies at them."""
    root = tmp_path_factory.mktemp("runs")
    best = {"uniform": {"1e-5": 0.5, "1e-4": 0.9, "1e-3": 0.4}, "dr_grpo": {"1e-5": 0.95, "1e-4": 0.8, "1e-3": 0.2}}
    for name, rates in best.items():
        for rate, top in rates.items():
            for seed in range(7):
                own = np.random.default_rng([seed, len(name), int(top * 100)]).normal(0, 0.004)
                folder = root / "chain" / f"{name}--learning_rate-{rate}" / f"seed{seed}"
                write_grpo(folder, f"credit={name}", f"trainer.learning_rate={rate}", f"seed={seed}", top=top + own)
    return root


def test_strategies_are_compared_at_rates_of_their_own_whatever_the_folders_are_called(sweep, tmp_path):
    study = read_study([sweep])
    analysis = analyse(study, Options())
    tuned = analysis.tuned
    assert tuned is not None and (tuned.tuning, tuned.test) == ((0, 1), (2, 3, 4, 5, 6))
    assert {name: tuned.design.of[arm][1] for name, arm in tuned.chosen.items()} == {
        "uniform": "0.0001",
        "dr_grpo": "1e-05",
    }
    assert analysis.reference == tuned.chosen["uniform"] and analysis.against == "uniform"
    (row,) = analysis.declaring
    assert row.arm == "dr_grpo" and row.declared and row.difference.value == pytest.approx(0.05, abs=0.01)
    assert [seed for _, seed, _ in row.pairs] == [2, 3, 4, 5, 6]
    said = " ".join(conclusions(study, analysis))
    assert "at its best learning_rate, chosen on seeds 0, 1 and compared on seeds 2 to 6" in said
    assert "dr_grpo differs from uniform" in said and "dr_grpo: the best is the lowest learning_rate tried" in said
    assert "tune the learning rate" not in " ".join(cautions(study, analysis))


def test_reference_is_named_by_its_strategy_and_other_seeds_may_choose(sweep):
    study = read_study([sweep])
    analysis = analyse(study, Options(reference="dr_grpo", tuning_seeds=(5, 6)))
    assert analysis.against == "dr_grpo" and analysis.tuned is not None and analysis.tuned.test == (0, 1, 2, 3, 4)
    turned = analyse(study, Options(compare="learning_rate")).tuned
    assert turned is not None and turned.design.compared.levels == ("1e-05", "0.0001", "0.001")


def test_one_seed_chooses_and_compares_nothing(sweep, tmp_path):
    for arm in (sweep / "chain").iterdir():
        (tmp_path / "chain" / arm.name).mkdir(parents=True)
        (tmp_path / "chain" / arm.name / "seed0").symlink_to(arm / "seed0")
    study = read_study([*(tmp_path / "chain").glob("*/seed0")])
    analysis = analyse(study, Options())
    assert analysis.tuned is not None and analysis.declaring == () and analysis.tuned.chosen
    assert "No other seed is left to compare on" in conclusions(study, analysis)[0]


def test_page_of_factors_sums_up_before_the_pictures(sweep, tmp_path, capsys):
    assert cli.main([str(sweep), f"out={tmp_path}", "tuning_seeds=0,1"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.index("best learning_rate") < page.index("What can be concluded") < page.index("<img")
    assert all(
        (tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("heat", "effects", "differences", "learning")
    )
    rows = {row["credit.name"]: row for row in csv.DictReader((tmp_path / "tuned.csv").open())}
    assert rows["dr_grpo"]["trainer.learning_rate"] == "1e-05" and rows["dr_grpo"]["declared"] == "true"
    assert rows["uniform"]["tuning_seeds"] == "0 1" and rows["uniform"]["test_seeds"] == "2 3 4 5 6"
    flat = list(csv.DictReader((tmp_path / "comparisons.csv").open()))
    assert {row["declared"] for row in flat} == {""}, "arms one by one declare nothing"
    effects = {(row["factor"], row["level"]) for row in csv.DictReader((tmp_path / "effects.csv").open())}
    assert ("credit.name", "dr_grpo") in effects and len(effects) == 3


@pytest.mark.parametrize(
    ("option", "message"),
    [("tuning_seeds=x", "must be seeds"), ("bounds=1,0", "must be the smaller"), ("bounds=a", "two numbers"),
     ("compare=beta", "there is strategy, learning_rate"), ("tuning_seeds=99", "no run has that seed")],
)  # fmt: skip
def test_options_of_factors_that_cannot_be_are_refused(option, message, sweep, tmp_path, capsys):
    assert cli.main([str(sweep), option, f"out={tmp_path / 'none'}"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "none").exists()
