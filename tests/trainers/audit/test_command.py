"""What is wrong with the words of an audit is said before a model is loaded."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from trainers.audit.measure import refuse_other_audit
from trainers.command.audit.prepare import prepare_audit
from trainers.command.audit.words import words_apart
from trainers.command.build import to_train
from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema


@pytest.fixture(scope="module", autouse=True)
def schema():
    register_schema()


def job(*words: str, dirs=()):
    return prepare_audit(compose_command("audit", list(words), dirs))


def refused(*words: str) -> str:
    with pytest.raises(ValueError) as error:
        job(*words)
    return str(error.value)


def test_strategies_stand_side_by_side_with_the_reference():
    found = job("credit=dr_grpo,spans", "credit/weight=seq_mean,constant", "task.n_train=16")
    names = [
        "dr_grpo weight=seq_mean",
        "dr_grpo weight=constant",
        "spans weight=seq_mean",
        "spans weight=constant",
        "rloo",
    ]
    assert list(found.strategies) == names
    assert found.args.generation_batch_size == 128 and found.args.steps_per_generation == 1


def test_a_strategy_of_ones_own_may_refer_to_settings_of_the_command(tmp_path):
    (tmp_path / "credit").mkdir()
    text = "defaults: [dr_grpo, _self_]\nname: of_${task.n_train}\n"
    (tmp_path / "credit" / "mine.yaml").write_text(text)
    found = job("credit=mine,rloo", "task.n_train=16", dirs=[tmp_path])
    assert found.nodes["mine"]["name"] == "of_16"
    (tmp_path / "credit" / "mine.yaml").write_text(text.replace("n_train", "n_trian"))
    with pytest.raises(ValueError, match=r"credit=mine: .*n_trian"):
        job("credit=mine,rloo", "task.n_train=16", dirs=[tmp_path])


def test_rows_cut_the_same_generation_batch():
    found = job("rows=16", "task.n_train=64", "trainer.num_iterations=3", "trainer.gradient_checkpointing=true")
    args = found.args
    assert (args.per_device_train_batch_size, args.steps_per_generation, args.generation_batch_size) == (16, 8, 128)
    assert args.gradient_accumulation_steps == 8 and args.num_iterations == 1 and not args.gradient_checkpointing


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["credit=seq_norn"], "Did you mean `seq_norm`"),
        (["batches=3"], "batches=32"),
        (["rows=100"], "Possible: 1, 2, 4, 8"),
        (["parameters='(q_proj'"], "no regular expression"),
        (["trainer.entropy_coef=0.1"], "trainer.entropy_coef=0"),
        (["credit=rloo,rloo"], "named twice"),
        (["run=nowhere"], "no folder of a run"),
        (["trainer.per_device_train_batch_size=65536"], "generation batch takes"),
        (["trainer.loss_type=bnpo"], "loss_type='dr_grpo'"),
    ],
)
def test_what_cannot_be_audited_is_refused_with_the_remedy(words, remedy):
    assert remedy in refused("task.n_train=16", *words)


def test_a_run_brings_its_task_its_trainer_and_its_strategy(tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}")
    trained = compose_command(
        "train_grpo", ["credit=spans", "task.n_train=32", "trainer.num_generations=4", "trainer.temperature=0.9"]
    )
    (run / "config.yaml").write_text(OmegaConf.to_yaml(trained.config))
    found = job(f"run={run}", "trainer.per_device_train_batch_size=32", "task.n_train=48")
    assert list(found.strategies) == ["spans", "rloo"]
    assert len(found.task.train) == 48
    assert (found.args.num_generations, found.args.temperature, found.args.generation_batch_size) == (4, 0.9, 32)
    assert found.command.config.model.name == str(run / "model")
    assert to_train(found.command.config).model.dtype == "float32"
    assert "Did you mean `task.n_train`" in refused(f"run={run}", "task.n_trian=8")
    other = job(f"run={run}", "credit=dr_grpo", "task=doors", "trainer.per_device_train_batch_size=32")
    assert other.task.name == "doors" and list(other.strategies) == ["dr_grpo", "rloo"]


def test_words_about_credit_and_about_what_a_run_brings_stand_apart():
    words = ["credit=a,b", "credit.spread.power=2", "task.limit=3", "batches=8"]
    assert words_apart(words) == (["task.limit=3", "batches=8"], ["credit=a,b", "credit.spread.power=2"])
    assert words_apart(["run=x", "task.limit=3"]) == (["run=x"], ["task.limit=3"])
    assert words_apart(["run=x", "task=jsonl", "task.limit=3"])[1] == []


def test_a_file_in_the_place_of_its_folder_is_told_with_the_setting_that_names_it(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=r"is no folder; name another out=\.\.\."):
        refuse_other_audit(job("task.n_train=16", f"out={tmp_path / 'rows.jsonl'}"))


def test_an_audit_of_something_else_has_another_folder():
    one, more, other = (job("task.n_train=16", word) for word in ("batches=8", "batches=16", "seed=1"))
    assert one.folder == more.folder != other.folder


def test_numbers_that_are_kept_in_another_order_of_strategies_are_not_taken_for_these():
    one, turned = (job("task.n_train=16", f"credit={names}") for names in ("spans,seq_norm", "seq_norm,spans"))
    assert one.folder != turned.folder and one.facts["strategies"] != turned.facts["strategies"]
