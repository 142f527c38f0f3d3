from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.sweep import command as sweep
from compare.sweep.cells import plan_cells, sweep_name
from compare.sweep.launch import Launch, cores_of_slot

DEFAULTS = {"credit": "seq_norm", "task": "chain"}


def cells_of(*arguments):
    return plan_cells(sweep.parse(arguments).axes, DEFAULTS)


def test_every_combination_is_one_cell_and_seeds_vary_slowest():
    cells = cells_of("credit=uniform,seq_norm", "seed=0,1", "task=chain")
    assert [cell.id for cell in cells] == [
        "credit-uniform--seed-0",
        "credit-seq_norm--seed-0",
        "credit-uniform--seed-1",
        "credit-seq_norm--seed-1",
    ]
    assert cells[0].overrides == ("credit=uniform", "seed=0", "task=chain")
    assert {(cell.arm, cell.task) for cell in cells} == {("uniform", "chain"), ("seq_norm", "chain")}


def test_hydras_ranges_and_globs_are_understood():
    assert [cell.seed for cell in cells_of("seed=range(0,3)")] == [0, 1, 2]
    arms = {cell.arm for cell in cells_of("credit=glob(*)")}
    assert {"uniform", "seq_norm", "dr_grpo"} <= arms
    assert {cell.arm for cell in cells_of("credit=glob(*,exclude=[u*,s*])")} == {a for a in arms if a[0] not in "us"}
    assert len(cells_of("trainer.learning_rate=choice(1e-4,3e-4)")) == 2


def test_lists_inside_brackets_are_one_value():
    (cell,) = cells_of("reward.funcs=[a.py:f,b.py:g]")
    assert cell.overrides == ("reward.funcs=[a.py:f,b.py:g]",)


def test_arms_are_named_by_what_is_swept_beside_task_and_seed():
    assert [c.arm for c in cells_of("credit=dr_grpo", "credit/weight=constant,seq_mean", "seed=0,1")][:2] == [
        "weight=constant",
        "weight=seq_mean",
    ]
    assert cells_of("credit=uniform,dr_grpo", "trainer.beta=0,0.1")[1].arm == "uniform,beta=0.1"
    assert cells_of("seed=0,1")[0].arm == "seq_norm"


def test_an_experiment_says_the_task_of_its_cells():
    cells = sweep.cells_of(sweep.parse(["experiment=doors", "credit=uniform,spans", "seed=0,1"]))
    assert {(cell.task, cell.arm) for cell in cells} == {("doors", "uniform"), ("doors", "spans")}
    assert sweep.cells_of(sweep.parse(["experiment=doors", "task=chain"]))[0].task == "chain"


def test_commands_that_are_shown_can_be_copied():
    words = ["python", "train.py", "run_dir='a b/credit=x,seed=0'", "reward.funcs=[a.py:f]", 'odd="$HOME"', "it's $5"]
    assert shlex.split(sweep.in_shell(words)) == words
    assert "\"run_dir='a b/credit=x,seed=0'\"" in sweep.in_shell(words)


def test_cells_of_one_task_and_model_share_a_start_whatever_their_credit_and_seed():
    models = {
        (c.task, c.model) for c in cells_of("credit=uniform,dr_grpo", "seed=0,1", "task=chain,doors", "model.hidden=64")
    }
    assert models == {("chain", "model.hidden=64,task=chain"), ("doors", "model.hidden=64,task=doors")}


def test_own_config_folder_adds_choices(tmp_path):
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "mine.yaml").write_text("# mine\n")
    axes = sweep.parse(["credit=glob(m*)"], [str(tmp_path)]).axes
    assert axes[0].values == ("mine",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["credit=unifrom"], "There is: .*uniform"),
        (["credit=glob(zzz*)"], "matches nothing"),
        (["credit=uniform", "credit=dr_grpo"], "given twice"),
        (["seed=a,b"], "whole numbers"),
        (["seed=0", "jobs=0"], "at least 1"),
        (["seed=0", "jobs=two"], "whole number"),
        (["seed=0", "jobs=1,2"], "one value"),
        (["seed=0", "launch.cfg=x"], "config, args"),
        (["seed=0", "launch.config=nowhere.yaml"], "configs/accelerate"),
        (["seed=0", "launch.script=nowhere.py"], "no such file"),
        (["seed=0", "jobs=3", "launch.devices=[0,1,2,3]"], "divisor"),
        (["seed=0", "run_dir=x"], "sweep_dir"),
        (["seed=0", "resume=true"], "resumes"),
        (["seed=interval(0,1)"], "only lists"),
        (["seed=(("], "."),
        (["seed=0", "hydra.run.dir=x"], "sweep_dir"),
        (["seed=0,00"], "seed=0 and seed=00 are the same"),
        (["seed=0,1,0"], "are the same"),
        (["trainer.learning_rate=1e-4,0.0001"], "two cells would be one run"),
        (["trainer.beta=choice(0,0.0)"], "are the same"),
        (["credit=uniform,'uniform'"], "are the same"),
        (["trainer.bf16=true,True"], "are the same"),
        (["reward.funcs=[a.py:f],[a.py:f]"], "are the same"),
        (["task.answer_marker=####", "seed=0"], "task.answer_marker='####'"),
    ],
)
def test_commands_that_cannot_work_are_refused_with_the_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        cells_of(*arguments)


def test_values_that_only_look_alike_are_cells_of_their_own():
    for arguments in (
        "trainer.bf16=true,1",
        "task.name=1,'1'",
        "trainer.beta=1e-4,1e-5",
        "trainer.report_to=none,null",
    ):
        assert len(cells_of(arguments)) == 2


def test_the_same_command_gets_the_same_folder_and_another_one_does_not():
    def name(*arguments):
        return sweep_name(sweep.parse(arguments).axes, "train_grpo.py")

    assert name("credit=uniform,dr_grpo", "seed=0,1") == name("seed=0,1", "credit=uniform,dr_grpo").replace(
        "seed-credit", "credit-seed"
    )
    assert len({name("credit=uniform", f"seed={s}", f"trainer.max_steps={n}") for s in "01" for n in "12"}) == 4


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=4, unique=True))
def test_ids_are_different_and_safe_as_file_names(values):
    from compare.sweep.cells import Axis

    cells = plan_cells([Axis("key", tuple(values), tuple(values))], DEFAULTS)
    ids = [cell.id for cell in cells]
    assert len(set(ids)) == len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{,100}", i) for i in ids)


@given(st.integers(1, 12), st.integers(1, 16))
def test_cores_are_dealt_out_without_overlap_and_without_rest(jobs, count):
    shares = [cores_of_slot(slot, jobs, range(count)) for slot in range(jobs)]
    assert all(shares)
    if jobs <= count:
        assert sorted(core for share in shares for core in share) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_launch_options_reach_accelerate_and_cells_side_by_side_get_ports_of_their_own(tmp_path):
    launch = Launch(config="configs/accelerate/cpu_2.yaml", args=("--debug",))
    first, second = (launch.command(("seed=0",), tmp_path / "a,b=c") for _ in range(2))
    assert first[first.index("--config_file") + 1] == "configs/accelerate/cpu_2.yaml"
    assert first[first.index("--main_process_port") + 1] != second[second.index("--main_process_port") + 1]
    assert first.index("--debug") < first.index("train_grpo.py") < first.index("seed=0")
    assert f"run_dir='{tmp_path}/a,b=c'" in first and first[-1] == "resume=true"
    assert "--main_process_port" not in Launch(config="configs/accelerate/cpu.yaml").command((), tmp_path)


def test_gpus_are_dealt_out_to_the_jobs():
    launch = Launch(devices=("0", "1", "2", "3"))
    assert [launch.environment(slot, 2, [0])["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["0,1", "2,3"]


def test_broken_state_of_a_neighbouring_sweep_stops_no_estimate(tmp_path):
    from compare.sweep.check import _seconds_per_cell
    from compare.sweep.folder import SweepFolder

    for name, text in {"cut": '{"state": "fin', "list": "[]", "words": '{"state": "finished", "seconds": "x"}',
                       "good": '{"state": "finished", "seconds": 7}'}.items():  # fmt: skip
        (tmp_path / name / "state").mkdir(parents=True)
        (tmp_path / name / "state" / "a.json").write_text(text)
    assert _seconds_per_cell(SweepFolder(tmp_path / "mine")) == (7.0, "cells of neighbouring sweeps")
