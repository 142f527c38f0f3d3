"""The bench as a user runs it: table, JSON, picture, user strategies, wrong declarations, bad input."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import pytest

from configs.compose import config_choices
from credit import baseline
from lab.bench import __main__ as bench
from lab.bench.jobs import BenchJob, Spec, run_job, run_jobs, specs_of, split_arguments
from lab.bench.summary import summarise

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FEW = ["worlds=tiny,coin", "group=3", "jobs=1"]


@pytest.fixture
def my_configs(tmp_path, monkeypatch) -> Path:
    """A user's folder with a strategy of their own, which looks at its own row's future and says it does not."""
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "mine.yaml").write_text(
        "# mine, in ten lines\n"
        "_target_: credit.strategy.Strategy\n"
        "name: mine\n"
        "baseline:\n  _target_: support.cheating.peeking\n"
        "weight:\n  _target_: credit.weight.seq_sum\n",
        encoding="utf-8",
    )
    return tmp_path


def test_the_bench_writes_table_json_and_picture(tmp_path, capsys):
    out = tmp_path / "out"
    assert bench.main(["credit=dr_grpo,seq_norm", *FEW, f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "dr_grpo" in printed and "seq_norm, world by world" in printed
    content = json.loads((out / "bench.json").read_text())
    rows = {row["label"]: row for row in content["summary"]["0"]}
    assert rows["dr_grpo"]["bias"] < 1e-9 and rows["seq_norm"]["bias"] > 0.1
    assert rows["dr_grpo"]["verdict"] == rows["seq_norm"]["verdict"] == "agrees"
    assert {cell["world"] for cell in content["cells"]} == {"tiny", "coin"}
    for kind in ("png", "pdf"):
        assert (out / f"bench.{kind}").stat().st_size > 5000


def test_a_users_strategy_that_lies_is_called_wrong_and_the_exit_code_says_so(my_configs, tmp_path, capsys):
    code = bench.main(["credit=mine", *FEW, f"out={tmp_path / 'out'}", "--config-dir", str(my_configs)])
    assert code == 1
    assert "WRONG DECLARATION: mine" in capsys.readouterr().out


def test_a_strategy_that_the_lab_cannot_measure_is_said_with_the_reason(tmp_path, capsys):
    arguments = ["credit=value", "credit.kl_in_reward=true", "critic=zero", "worlds=tiny", "jobs=1"]
    assert bench.main([*arguments, f"out={tmp_path / 'out'}"]) == 0
    assert "[zero]: not measured. " in (printed := capsys.readouterr().out) and "kl_rewards_BT" in printed


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["credit=seq_nrom"], "seq_norm"),
        (["worlds=tinny"], "There is: delayed_key"),
        (["gruop=4"], "Did you mean `group`?"),
        (["group=1"], "at least 2"),
        (["credit"], "key=value"),
        (["credit=rloo", "critic=prefect", "credit.nonsense=1"], "nonsense"),
        (["credit=value", "critic=prefect"], "Did you mean `perfect`?"),
    ],
)
def test_bad_input_is_told_before_anything_is_measured(arguments, hint, capsys, monkeypatch):
    monkeypatch.setattr(bench, "run_jobs", lambda *_: pytest.fail("measured"))
    assert bench.main(arguments) == 2
    assert hint in capsys.readouterr().err


def test_every_shipped_strategy_is_in_the_default_set():
    labels = {spec.label.split(" [")[0] for spec in specs_of([])}
    assert labels == set(config_choices("credit"))


def test_choices_are_combined():
    specs = specs_of(["credit=dr_grpo,rloo", "credit/weight=seq_mean,seq_sum"])
    assert [spec.label for spec in specs] == [
        f"{credit} weight={weight}" for credit in ("dr_grpo", "rloo") for weight in ("seq_mean", "seq_sum")
    ]


def test_settings_and_overrides_are_told_apart():
    settings, overrides = split_arguments(
        ["credit=rloo", "group=8", "credit.baseline.eps=0.1", "credit/weight=constant"]
    )
    assert settings == {"group": "8"} and len(overrides) == 3


def test_off_policy_records_say_how_far_behind_the_sampler_was():
    spec = Spec("rloo", ("credit=rloo",))
    record = run_job(BenchJob(spec, "tiny", 2, lag=3))
    assert record["lag"] == 3 and record["surrogate"] == "clip" and record["metrics"]["cosine"] < 1 - 1e-6
    assert run_job(BenchJob(spec, "tiny", 2))["metrics"]["cosine"] > 1 - 1e-9


@pytest.mark.slow
def test_worker_processes_return_what_one_process_returns():
    jobs = [BenchJob(Spec(name, (f"credit={name}",)), "tiny", 3) for name in ("rloo", "uniform")]
    plain, parallel = (
        sorted(([r["label"], r["metrics"]] for r in run_jobs(jobs, workers)), key=str) for workers in (1, 2)
    )
    assert plain == parallel


def record(bias, exact=True, error=None, declared=True, world="w", critic=None, truth=0.5):
    """A bias of None: nothing was learned, or (`truth` None) there is nothing to learn."""
    names = "cosine scale nsr drift length_push true_length_push success_push true_success_push gain spearman key_share"
    metrics = dict.fromkeys(names.split(), 0.5) | {"relative_bias": bias, "true_length_push": truth}
    return {
        "label": "x",
        "world": world,
        "critic": critic,
        "lag": 0,
        "exact": exact,
        "seconds": 0.0,
        "declared_unbiased": declared,
        "declared_weight_class": None,
        "metrics": metrics,
        "errors": {} if error is None else {"relative_bias": error},
    }


@pytest.mark.parametrize(
    ("records", "measured", "verdict"),
    [
        ([record(0.0)], "unbiased", "agrees"),
        ([record(0.0, declared=False)], "unbiased", "WRONG"),
        ([record(0.0, declared=False, critic="perfect")], "unbiased", "not seen"),
        ([record(0.0, declared=False, critic="random")], "unbiased", "WRONG"),
        ([record(0.02, critic="perfect")], "biased", "WRONG"),
        ([record(0.02)], "biased", "WRONG"),
        ([record(0.02, declared=False)], "biased", "agrees"),
        ([record(0.02, exact=False, error=0.01)], "within error", "agrees so far"),
        ([record(0.0), record(0.02, exact=False, error=0.01)], "within error", "agrees so far"),
        ([record(1e-5), record(0.02, exact=False, error=0.01)], "undecided", "WRONG"),
        ([record(None)], "nothing", "nothing learned"),
        ([record(None, declared=False)], "nothing", "nothing learned"),
        ([record(None), record(None, world="coin", truth=None)], "nothing", "nothing learned"),
        ([record(None, world="coin", truth=None)], "biased", "WRONG"),  # it drifts where there is nothing to learn
        ([record(None), record(0.0, world="a")], "unbiased", "agrees"),
        ([record(None), record(0.02, world="a")], "biased", "WRONG"),
        ([record(0.02, exact=False, error=0.001)], "biased", "WRONG"),
        ([record(0.02, exact=False, error=0.01, declared=False)], "within error", "not seen"),
        ([record(1e-5)], "undecided", "WRONG"),
        ([record(0.02, declared=None)], "biased", "no claim"),
    ],
)
def test_verdicts_of_the_table(records, measured, verdict):
    row = summarise(records, {("w", 0): 0.5})
    assert (row.measured, row.verdict) == (measured, verdict)


def test_the_summary_takes_root_mean_square_bias_and_geometric_mean_noise():
    records = [record(0.3, world="a"), record(0.4, world="b")]
    row = summarise(records, {("a", 0): 0.25, ("b", 0): 1.0})
    # sqrt((0.09 + 0.16) / 2); noise ratios 2 and 1/2
    assert math.isclose(row.bias, math.sqrt(0.125)) and math.isclose(row.noise, 1.0) and row.worst_world == "b"


def test_a_zero_update_and_one_that_points_backwards_enter_no_average():
    records = [record(0.3, world="a"), record(None, world="b"), record(1000.0, world="c"), record(0.3, world="d")]
    row = summarise(records, {})
    assert row.bias == pytest.approx(0.3) and row.nothing == ["b"] and row.backwards == ["c"] and row.worlds == 4
    assert (
        row.worst_world == "c"
        and bench._bias_text(row) == "backwards in 1"
        and bench._percent(row.worst_bias) == "backwards"
    )
    asleep = summarise([record(None, world="a"), record(None, world="b")], {})
    assert bench._bias_text(asleep) == "nothing learned" and bench._percent(asleep.worst_bias) == "-"


def asleep(rewards_B):
    return rewards_B * 0


def against(rewards_B, group_B):
    return baseline.group_mean(rewards_B, group_B) * -1


def broken(rewards_B):
    raise RuntimeError("boom")


def infinite(advantages_B, policy_logps_BT):
    return advantages_B[:, None] / (policy_logps_BT * 0)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """One bench over five strategies, three of which are no good: what it says, and its JSON."""
    folder = tmp_path_factory.mktemp("sleepers")
    (folder / "credit").mkdir()
    (folder / "sleepers.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    for name, axis in {"asleep": "baseline", "against": "baseline", "broken": "baseline", "infinite": "spread"}.items():
        text = (
            f"# {name}: for a test\ndefaults: [dr_grpo, _self_]\nname: {name}\n{axis}: {{_target_: sleepers.{name}}}\n"
        )
        (folder / "credit" / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as text:
        patch.syspath_prepend(str(folder))
        with contextlib.redirect_stdout(text):
            arguments = [
                "credit=asleep,against,broken,infinite,uniform",
                "worlds=tiny,levels,coin",
                "jobs=1",
                "group=3",
            ]
            code = bench.main([*arguments, f"out={folder / 'out'}", "--config-dir", str(folder)])
        assert code == 0
        return text.getvalue(), json.loads((folder / "out" / "bench.json").read_text(encoding="utf-8"))


def test_the_bench_says_that_nothing_was_learned_and_where_it_went_backwards(printed):
    text, content = printed
    assert "asleep: nothing learned in tiny, levels: its mean update is zero there." in text
    assert "against: backwards in tiny, levels: its mean update lowers the reward there." in text
    rows = {row["label"]: row for row in content["summary"]["0"]}
    assert rows["asleep"]["bias"] is None and rows["asleep"]["worst_bias"] == 0.0 and rows["against"]["bias"] is None
    assert "e+0" not in text


def test_the_bench_says_how_many_worlds_were_enumerated_and_how_many_sampled(printed):
    text, content = printed
    row = {row["label"]: row for row in content["summary"]["0"]}["uniform"]
    assert 0 < row["enumerated"] < row["worlds"] == 3
    assert f"{row['enumerated']} of 3" in text and " by enumeration, " in text and " by sampling, " in text


def test_a_member_that_fails_or_returns_nan_is_named_and_takes_no_other_strategy_with_it(printed):
    text, content = printed
    assert (
        "broken: not measured. A member of credit strategy 'broken' failed: RuntimeError in broken (sleepers.py, line "
        in text
    )
    assert "infinite: not measured. The spread infinite of credit strategy 'infinite' returned NaN or inf" in text
    assert {row["label"] for row in content["summary"]["0"]} == {"asleep", "against", "uniform"}
