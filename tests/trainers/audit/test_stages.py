"""Which models of a run `checkpoints=` stands for, and where in its training a folder of weights stands."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from trainers.command.audit.prepare import prepare_audits
from trainers.command.audit.stages import run_of, stage_at, stage_of_run, stages_of
from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    register_schema()
    folder = tmp_path_factory.mktemp("runs") / "run"
    for name in ("checkpoints/checkpoint-5", "checkpoints/checkpoint-20", "model"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "checkpoints" / "checkpoint-30").mkdir()  # cut off before there was a model in it
    (folder / "checkpoints" / "README.md").write_text("")
    (folder / "summary.json").write_text(json.dumps({"steps": 25}))
    trained = compose_command("train_grpo", ["credit=prompt_ema", "task.n_train=64", "model.hidden=48"])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(trained.config))
    return folder


def test_all_are_the_start_the_checkpoints_with_a_model_and_the_finished_one(run):
    stages = stages_of(str(run), "all")
    assert [stage.step for stage in stages] == [0, 5, 20, 25]
    assert [stage.place and stage.place.removeprefix(f"{run}/") for stage in stages] == [
        *(None, "checkpoints/checkpoint-5", "checkpoints/checkpoint-20"),
        "model",
    ]
    assert {stage.run for stage in stages} == {str(run)}


@pytest.mark.parametrize("asked", ["20,0", [20, 0], ["0", "20", "20"], "0, 20"])
def test_steps_stand_in_their_order_each_once(run, asked):
    assert [stage.step for stage in stages_of(str(run), asked)] == [0, 20]


REFUSED = {"7,5": "step 7. It has kept 5, 20, 25", "-1": "0,20,40", "": "or all", "5.0": "or all", "true": "or all"}


@pytest.mark.parametrize(("asked", "said"), REFUSED.items())
def test_what_is_no_step_that_the_run_has_kept_is_refused(run, asked, said):
    with pytest.raises(ValueError, match=said):
        stages_of(str(run), asked)


def test_of_a_folder_that_is_no_run_no_step_is_missed(tmp_path):
    with pytest.raises(ValueError, match=r"it is no folder of a run of train_grpo\.py"):
        stages_of(str(tmp_path / "nowhere"), "0,20")


def test_a_checkpoint_is_of_its_run_at_its_step(run, tmp_path):
    checkpoint = run / "checkpoints" / "checkpoint-5"
    assert stage_of_run(str(checkpoint)) == stage_at(str(checkpoint)) == stages_of(str(run), 5)[0]
    assert run_of(str(checkpoint)) == run_of(str(run)) == run_of(str(run / "model")) == str(run)
    assert stage_of_run(str(run)).step == 25 and stage_of_run(str(run)).place == str(run / "model")
    foreign = tmp_path / "trl_output" / "checkpoint-40"  # of TRL's own trainer
    foreign.mkdir(parents=True)
    assert stage_at(str(foreign)).step == 40 and stage_at(str(foreign)).run == str(foreign.parent)
    assert stage_at("some/hub-id") is stage_at(str(tmp_path)) is None


def jobs(*words):
    return prepare_audits(compose_command("audit", list(words)))


def test_each_checkpoint_has_an_audit_of_its_own_in_one_folder(run):
    start, middle, end = jobs(f"run={run}", "checkpoints=0,5,25")
    assert [job.model for job in (start, middle, end)] == [f"{run} at step {step}" for step in (0, 5, 25)]
    assert [job.folder.name for job in (start, middle, end)] == ["step0", "step5", "step25"]
    assert start.folder.parent == middle.folder.parent == end.folder.parent
    assert start.command.config.model.hidden == 48  # what the run began with
    assert middle.command.config.model.name == str(run / "checkpoints" / "checkpoint-5")
    assert end.command.config.model.name == str(run / "model")
    assert start.strategies["prompt_ema"] is not middle.strategies["prompt_ema"]  # it learns
    assert start.args is not middle.args and start.args.output_dir != middle.args.output_dir
    assert start.facts != middle.facts != end.facts
    (again,) = jobs(f"run={run}", "checkpoints=5", "batches=64")  # goes on there
    assert again.folder == middle.folder


def test_an_audit_of_one_model_says_its_step_too(run):
    (job,) = jobs(f"run={run}/checkpoints/checkpoint-20")
    assert (job.stage.run, job.stage.step) == (str(run), 20) and job.command.config.task.n_train == 64


@pytest.mark.parametrize("words", [["checkpoints=all"], ["run={run}", "checkpoints=5", "model.name=x"]])
def test_checkpoints_are_those_of_a_run_and_no_other_model(run, words):
    with pytest.raises(ValueError, match="checkpoints="):
        jobs(*(word.format(run=run) for word in words))
