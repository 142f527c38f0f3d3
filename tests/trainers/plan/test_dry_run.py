"""`--dry-run` says what would be done, and does nothing."""

from __future__ import annotations

import pytest

from support.runs import ROOT
from trainers.command import cli

VERBS = {
    "train_grpo": ("trainers.run.grpo:run_grpo", "trainers.run.grpo:register_schema"),
    "train_sft": ("trainers.run.likelihood:run_sft", "trainers.run.likelihood:register_schema"),
    "train_lhts": ("trainers.run.likelihood:run_lhts", "trainers.run.likelihood:register_schema"),
    "sample": ("trainers.run.sample:run_sample",),
    "eval_model": ("trainers.run.eval_model:run_eval_model", "trainers.run.grpo:register_schema"),
}


@pytest.fixture
def dry(monkeypatch, tmp_path, capsys):
    """A verb with `--dry-run` in an empty folder, in which nothing is to be found afterwards -> what it printed."""
    monkeypatch.setattr("trainers.command.build.build_policy", lambda *_: pytest.fail("a model was made"))
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *words: str) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        monkeypatch.setattr("sys.argv", [f"{verb}.py", "--dry-run", *words])
        cli.run_verb(verb, *VERBS[verb])
        assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.startswith("train")])
def test_every_training_command_says_batch_steps_epochs_and_tokens(verb, dry):
    said = dry(verb)
    for word in ("batch ", "steps ", "epoch(s)", "tokens ", "nothing was trained or written"):
        assert word in said


def test_sampling_and_evaluation_say_how_much_they_would_write(dry, capsys):
    said = dry("sample", "num_samples=3", "limit=2", "max_length=10", "sampler=smc")
    assert "2 prompts of chain, 3 text(s)" in said and "60 in all" in said and "sampler  smc" in said
    said = dry("eval_model", "n=4", "limit=8", "seed=1")
    assert "8 prompts" in said and "32 completions to come" in said and "no model was loaded" in said
    for verb, word in (("sample", "max_length=0"), ("eval_model", "split=evaluatoin")):
        with pytest.raises(SystemExit) as ended:
            dry(verb, word)
        assert ended.value.code == 2 and word.partition("=")[0] in capsys.readouterr().err


def test_the_numbers_are_those_of_the_command(dry):
    said = dry(
        "train_grpo",
        "processes=4",
        "trainer.per_device_train_batch_size=2",
        "trainer.num_generations=8",
        "trainer.gradient_accumulation_steps=3",
        "trainer.num_train_epochs=2",
        "trainer.max_completion_length=10",
        "task.n_train=100",
    )
    # 24 rows are 3 prompts: 33 batches an epoch, one prompt left over
    assert "24 completions a step = 4 process(es) x 3 micro-batch(es) x 2" in said
    assert "66 steps = 2 epoch(s)" in said and f"{66 * 24 * 10:,} in all" in said


def test_what_a_run_refuses_is_refused(dry, capsys):
    with pytest.raises(SystemExit) as ended:
        dry("train_grpo", "trainer.num_generations=5")
    assert ended.value.code == 2 and "num_generations" in capsys.readouterr().err


def test_the_flag_is_no_setting(dry, capsys):
    with pytest.raises(SystemExit):
        dry("train_grpo", "dry_run=true")
    assert "Write --dry-run" in capsys.readouterr().err
    assert "--dry-run" in (ROOT / "docs" / "running" / "runs.md").read_text()


def test_a_folder_that_is_not_there_is_refused_as_by_a_run(dry, capsys):
    with pytest.raises(SystemExit) as ended:
        dry("train_grpo", "model=hf", "model.name=./no/such/folder")
    assert ended.value.code == 2 and "no such folder" in capsys.readouterr().err


def test_parameters_and_memory_are_said_without_a_weight(dry):
    said = dry("train_grpo")
    assert "0.28 M parameters, all trained, in float32" in said and "memory   about" in said
