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


def test_rates_at_equal_ratios_have_the_ends_that_were_given():
    (axis,) = sweep.parse(["trainer.learning_rate=log(1e-5,1e-3,5)"]).axes
    assert [float(value) for value in axis.values] == [1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3]
    assert [float(v) for v in sweep.parse(["trainer.beta=log(0.5,8,5)"]).axes[0].values] == [0.5, 1, 2, 4, 8]


def rates_of(*arguments):
    """arm -> its learning rates, as the cells are given them."""
    found: dict[str, list[str]] = {}
    for cell in cells_of(*arguments):
        credit, rate = (next(o for o in cell.overrides if o.startswith(key)) for key in ("credit=", "trainer."))
        found.setdefault(credit[7:], []).append(rate.partition("=")[2])
    return found


def test_each_strategy_may_have_rates_of_its_own():
    rates = "trainer.learning_rate={uniform:1e-4,dr_grpo:[3e-4,1e-3]}"
    cells = cells_of("credit=uniform,dr_grpo", rates, "seed=0,1")
    assert [cell.arm for cell in cells[:3]] == [
        "uniform",
        "dr_grpo,learning_rate=0.0003",
        "dr_grpo,learning_rate=0.001",
    ]
    assert [cell.seed for cell in cells] == [0, 0, 0, 1, 1, 1] and len({cell.id for cell in cells}) == 6
    assert rates_of(rates, "credit=uniform,dr_grpo") == {"uniform": ["0.0001"], "dr_grpo": ["0.0003", "0.001"]}
    rest = rates_of("credit=uniform,value,spans", "trainer.learning_rate={value:log(1e-4,1e-2,3),*:3e-4}")
    assert rest == {"uniform": ["0.0003"], "value": ["0.0001", "0.001", "0.01"], "spans": ["0.0003"]}


def test_mapping_that_names_no_value_of_another_axis_is_a_mapping():
    cells = cells_of("credit=uniform,dr_grpo", "trainer.chat_template_kwargs={enable_thinking:false}")
    assert [cell.overrides[1] for cell in cells] == ["trainer.chat_template_kwargs={enable_thinking:false}"] * 2


def test_file_of_arms_gives_each_a_name_and_settings_of_its_own(tmp_path):
    file = tmp_path / "arms.yaml"
    file.write_text(
        "plain: credit=uniform trainer.learning_rate=1e-4\n"
        "long: {credit: dr_grpo, credit/weight: seq_mean, trainer.learning_rate: '1e-4,3e-4', trainer.bf16: false}\n"
    )
    parsed = sweep.parse([f"arms={file}", "seed=0,1", "task=chain"])
    cells = sweep.cells_of(parsed)
    assert [(c.arm, c.seed) for c in cells] == [
        (arm, seed) for seed in (0, 1) for arm in ("plain", "long,learning_rate=0.0001", "long,learning_rate=0.0003")
    ]
    assert cells[0].overrides == ("credit=uniform", "trainer.learning_rate=1e-4", "seed=0", "task=chain")
    assert "trainer.bf16=false" in cells[1].overrides and "credit/weight=seq_mean" in cells[1].overrides
    before = parsed.folder.path
    file.write_text(file.read_text().replace("3e-4", "1e-3"))
    assert sweep.parse([f"arms={file}", "seed=0,1", "task=chain"]).folder.path != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plain: credit=unifrom", "plain: credit=unifrom.*Did you mean `uniform`"),
        ("plain: 3", "written as on a command line"),
        ("[credit=uniform]", "a line for each arm"),
        ("plain: credit=uniform seed=0", "given twice .arm plain"),
        ("plain: [", "cannot be read"),
    ],
)
def test_file_of_arms_that_cannot_work_is_refused_by_arm(text, message, tmp_path):
    (tmp_path / "arms.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        cells = sweep.parse([f"arms={tmp_path / 'arms.yaml'}", "seed=0,1"])
        sweep.cells_of(cells)


def test_own_config_folder_adds_choices(tmp_path):
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "mine.yaml").write_text("# mine\n")
    axes = sweep.parse(["credit=glob(mine*)"], [str(tmp_path)]).axes
    assert axes[0].values == ("mine",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["credit=unifrom"], "There is: .*uniform"),
        (["credit=uniform,seqnorm"], "Did you mean `seq_norm`"),
        (["jbos=2", "seed=0,1"], "neither the sweep nor train_grpo.py.*Did you mean `jobs`"),
        (["seeds=0,1"], "Did you mean `seed`"),
        (["trainr.max_steps=1,2"], "Did you mean `trainer`"),
        (["arms=nowhere.yaml"], "no such file"),
        (["trainer.learning_rate=log(1e-3,1e-5,5)"], "0 < low < high"),
        (["trainer.learning_rate=log(0,1e-5,5)"], "0 < low < high"),
        (["credit=uniform,value", "trainer.learning_rate={uniform:1e-4}"], "Add `value:...`"),
        (["credit=uniform,value", "trainer.learning_rate={uniform:1e-4,valeu:1}"], "Did you mean `value`"),
        (["credit=uniform,value", "trainer.learning_rate={unifrm:1e-4,vlue:1}"], "Did you mean `uniform`"),
        (["credit=uniform,value", "trainer.learning_rate={uniform:[1e-4,0.0001],*:1}"], "are the same"),
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
