"""A run among the models of a command brings its task and what belongs to it; the words of the command have the last word."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from trainers.command.behind.agreed import SAMPLED, with_model_of, with_runs
from trainers.command.behind.brings import run_behind
from trainers.command.behind.evaluation import prepare_evaluation
from trainers.command.behind.named import trained_for_another
from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema
from trainers.run.likelihood import register_schema as register_likelihood
from trainers.run.tell.outputs import HIDDEN

GAME = ["task=errands", "task.count=3", "task.n_eval=6", "model.hidden=16", "trainer.max_completion_length=24"]
GAME += ["trainer.max_tool_calling_iterations=3", "trainer.temperature=0.9"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders as runs leave them, without weights."""
    register_schema()
    register_likelihood()
    top = tmp_path_factory.mktemp("runs")
    game = compose_command("train_grpo", GAME).config
    texts = ["task=chain", "task.n_eval=3", "task.n_train=8", "chat_template_kwargs.enable_thinking=false"]
    texts = compose_command("train_sft", texts).config
    weighted = {"task": texts.task, "trainer": game.trainer, "reward": game.reward, "model": texts.model}
    said = {
        "a": (game, {}),
        "b": (game, {"seed": 1}),
        "longer": (game, {"task.count": 4}),
        "larger": (game, {"model.hidden": 32}),
        "weighted": (OmegaConf.create(weighted), {"trainer.reward_weights": [1, 3]}),
        "texts": (texts, {}),
    }
    for name, (config, changes) in said.items():
        (top / name / "model").mkdir(parents=True)
        (top / name / "model" / "config.json").write_text("{}")
        config = config.copy()
        for key, value in changes.items():
            OmegaConf.update(config, key, value, merge=False)
        (top / name / "config.yaml").write_text(OmegaConf.to_yaml(config))
        choice = {"task": "errands" if "count" in config.task else "chain", "model": "embedded"}
        (top / name / "started.jsonl").write_text(json.dumps(choice) + "\n")
    return top


def prepared(*words):
    return prepare_evaluation(compose_command("eval_model", words))


def test_runs_of_one_task_are_measured_on_it_beside_their_start(runs, capsys):
    job = prepared(f"models=[{runs / 'a'},{runs / 'b'}]")
    assert job.task.name == "errands" and job.task.environment().count == 3 and len(job.rows) == 6
    assert job.judges.names == ["errands"] and job.longest == 24
    assert [named.label for named in job.models] == ["embedded", str(runs / "a"), str(runs / "b")]
    config = job.command.config
    assert (config.model.hidden, config.trainer.max_tool_calling_iterations, config.trainer.temperature) == (16, 3, 0.9)
    said = capsys.readouterr().out
    assert f"errands as {runs / 'a'} and 1 more had it" in said and "task=..." in said


def test_the_words_of_the_command_have_the_last_word(runs):
    job = prepared(f"models={runs / 'a'}", "task.n_eval=2", "trainer.temperature=0.5", "reward.guard.timeout=1")
    assert len(job.rows) == 2 and job.task.environment().count == 3
    assert job.command.config.trainer.temperature == 0.5 and job.command.config.reward.guard.timeout == 1
    other = prepared(f"models={runs / 'a'}", "task=chain", "task.n_eval=2", "task.n_train=8")
    assert other.task.name == "chain" and len(other.rows) == 2 and other.command.config.trainer.temperature == 1.0
    with pytest.raises(ValueError, match=r"task\.cuont.*no setting of the run's task.*Did you mean `task\.count`"):
        prepared(f"models={runs / 'a'}", "task.cuont=2")


@pytest.mark.parametrize(
    "names, message",
    [
        (("a", "longer"), r"not trained alike.*task\.count is 3 and 4.*Say which: task=\.\.\. with its settings"),
        (("a", "weighted"), r"task\._target_"),
        (("weighted", "texts"), r"enable_thinking is null and False.*Say which: trainer\.chat_template_kwargs="),
    ],
)
def test_runs_that_disagree_are_refused_with_what_differs(runs, names, message):
    words = [f"models=[{','.join(str(runs / name) for name in names)}]"]
    with pytest.raises(ValueError, match=message):
        prepared(*words)


@pytest.mark.slow  # composes a whole command
def test_a_run_of_likelihood_training_says_nothing_of_rewards(runs):
    words = [f"models=[{runs / 'texts'},{runs / 'weighted'}]", "trainer.chat_template_kwargs.enable_thinking=true"]
    assert list(prepared(*words).judges.weights) == [1.0, 3.0]


def test_runs_that_began_at_different_models_are_compared_with_the_first(runs, capsys):
    job = prepared(f"models=[{runs / 'a'},{runs / 'larger'}]")
    assert [named.label for named in job.models] == [str(runs / "a"), str(runs / "larger")]
    assert "began at different models" in capsys.readouterr().out


@pytest.mark.slow  # composes a whole command
def test_a_run_from_before_a_setting_was_there_agrees_with_its_default(runs, tmp_path):
    (tmp_path / "old" / "model").mkdir(parents=True)
    (tmp_path / "old" / "model" / "config.json").write_text("{}")
    config = OmegaConf.load(runs / "a" / "config.yaml")
    del config.task["keys"]
    (tmp_path / "old" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    assert prepared(f"models=[{tmp_path / 'old'},{runs / 'a'}]").command.config.task["keys"] == 0.0


@pytest.mark.slow  # composes a whole command
def test_a_secret_of_the_run_is_asked_for_again(runs, tmp_path):
    (tmp_path / "judged" / "model").mkdir(parents=True)
    (tmp_path / "judged" / "model" / "config.json").write_text("{}")
    config = OmegaConf.load(runs / "a" / "config.yaml")
    config.reward.funcs = [{"_target_": "my.judge", "api_key": HIDDEN}]
    (tmp_path / "judged" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    with pytest.raises(ValueError, match=r"reward of the run has a secret.*reward=\.\.\."):
        prepared(f"models={tmp_path / 'judged'}")


def test_weights_that_the_trainer_was_given_are_those_of_the_rewards(runs):
    assert list(prepared(f"models={runs / 'weighted'}").judges.weights) == [1.0, 3.0]


def test_what_stands_in_a_run_is_known_as_its(runs, tmp_path):
    (runs / "a" / "checkpoints" / "checkpoint-3").mkdir(parents=True, exist_ok=True)
    for place in ("", "model", "checkpoints/checkpoint-3"):
        assert run_behind(runs / "a" / place) == runs / "a"
    assert run_behind(tmp_path) is None and run_behind(None) is None and run_behind("Qwen/Qwen3-0.6B") is None
    (tmp_path / "config.yaml").touch()
    (tmp_path / "config.json").touch()  # a model that has a file of that name beside it
    assert run_behind(tmp_path) is None


def test_a_model_that_is_no_runs_is_asked_as_before(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    job = prepared(f"models={tmp_path}", "task.n_eval=2", "task.n_train=8")
    assert job.task.name == "chain" and len(job.rows) == 2 and job.models[0].label == "embedded"


def sampled(*words):
    return with_runs(with_model_of(compose_command("sample", words)), SAMPLED)


def test_samples_of_a_run_are_of_its_task(runs):
    of_run = sampled(f"run={runs / 'a'}", "task.n_eval=2")
    assert of_run.config.task.count == 3 and of_run.config.task.n_eval == 2
    assert of_run.config.model.name == str(runs / "a" / "model") and of_run.config.max_length == 24
    by_name = sampled("model=hf", f"model.name={runs / 'texts' / 'model'}")
    assert by_name.config.task.n_train == 8 and by_name.config.chat_template_kwargs == {"enable_thinking": False}
    other = sampled(f"run={runs / 'a'}", "prompts=p.txt", "max_length=5")
    assert other.config.task.get("count") is None and other.config.max_length == 5
    assert other.config.model.name == of_run.config.model.name


def test_a_run_that_is_none_and_two_models_are_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="no folder of a run"):
        sampled(f"run={tmp_path}")
    with pytest.raises(ValueError, match="each name a model"):
        sampled(f"run={runs / 'a'}", "model=embedded")


def test_a_training_that_begins_at_a_run_and_names_no_task_is_told_of_the_runs(runs):
    words = ["model=hf", f"model.name={runs / 'a'}"]
    config = OmegaConf.create({"model": {"name": str(runs / "a")}})
    [said] = trained_for_another("train_grpo", config, {"task": "chain"}, words)
    assert "was trained on task=errands; this one trains on task=chain" in said
    assert not trained_for_another("train_grpo", config, {"task": "errands"}, words)
    assert not trained_for_another("train_grpo", config, {"task": "chain"}, [*words, "task=chain"])
    assert not trained_for_another("eval_model", config, {"task": "chain"}, words)
