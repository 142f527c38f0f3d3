"""A command becomes one frozen thing, without a model, without a folder, and with the cheapest mistake told first."""

from __future__ import annotations

import dataclasses

import pytest

from support.runs import SMALL
from trainers.command.cli import compose_command
from trainers.command.prepare import prepare_grpo, prepare_lhts, prepare_sft
from trainers.lhts import LHTSTrainer
from trainers.run.files import SUMMARY
from trainers.run.grpo import register_schema as register_grpo
from trainers.run.likelihood import register_schema as register_sft
from trainers.sft import CreditSFTTrainer

PREPARE = {"train_grpo": prepare_grpo, "train_sft": prepare_sft, "train_lhts": prepare_lhts}
TEXTS = [word for word in SMALL if not word.startswith(("trainer.num_gen", "trainer.max_comp"))]
# In the order in which they are found; each is told as long as none before it is made. Those of TRL come after our own.
GRPO = {
    "resume=true overwrite=true": "contradict each other",
    "credit.baseline._target_=credit.baseline.nowhere": "cannot be imported",
    "task._target_=tasks.nowhere": "task: .*nowhere",
    "reward.funcs=[nowhere.py:polite]": "nowhere.py",
    "trainer.num_generations=5": "divisible by num_generations",
    "trainer.max_steps=0": "trains nothing",
    "trainer.report_to=[swanlab]": "report_to=swanlab",
}
SFT = {
    "examples=0": "examples=0",
    "resume=true overwrite=true": "contradict each other",
    "weight._target_=credit.weight.nowhere": "credit.weight.nowhere",
    "task._target_=tasks.nowhere": "task: .*nowhere",
    "trainer.label_smoothing_factor=0.1 weight=seq_mean": "label_smoothing_factor",
    "trainer.max_steps=0": "trains nothing",
}


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    register_grpo()
    register_sft()
    monkeypatch.setattr("trainers.command.build.build_policy", lambda *_: pytest.fail("a model was made"))


def prepared(verb: str, *overrides: str):
    return PREPARE[verb](compose_command(verb, [*(SMALL if verb == "train_grpo" else TEXTS), *overrides]))


@pytest.mark.parametrize("verb, mistakes", [("train_grpo", GRPO), ("train_sft", SFT)])
def test_of_several_mistakes_the_cheapest_is_told(verb, mistakes, tmp_path):
    left = list(mistakes)
    while left:
        words = dict(word.partition("=")[::2] for one in reversed(left) for word in one.split())
        with pytest.raises(ValueError, match=mistakes[left[0]]):
            prepared(verb, *map("=".join, words.items()), f"run_dir={tmp_path / 'run'}")
        left.pop(0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", PREPARE)
def test_a_job_is_whole_and_frozen_and_leaves_no_trace(verb, tmp_path):
    job = prepared(verb, f"run_dir={tmp_path / 'run'}")
    assert job.folder.path == tmp_path / "run" and not (tmp_path / "run").exists()
    assert job.args.output_dir == str(tmp_path / "run" / "checkpoints") and job.args.seed == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.strategy = None


def test_a_job_that_is_done_is_none(tmp_path, capsys):
    (tmp_path / SUMMARY).write_text("{}")
    for verb in PREPARE:
        assert prepared(verb, f"run_dir={tmp_path}", "resume=true") is None
        assert "is finished: resume=true has nothing left to do" in capsys.readouterr().out


def test_sft_and_lhts_are_two_values_of_one_kind(tmp_path):
    sft = prepared("train_sft", "weight=token_mean", f"runs={tmp_path}")
    lhts = prepared("train_lhts", "weight=token_mean", "tau=[0.5,0.9]", "horizon=null", f"runs={tmp_path}")
    assert type(sft) is type(lhts)
    assert (sft.trainer, lhts.trainer) == (CreditSFTTrainer, LHTSTrainer)
    assert (sft.has_reference, lhts.has_reference) == (False, True)
    assert (sft.has_comparable_loss, lhts.has_comparable_loss) == (True, False)
    assert lhts.credit == "lhts_tau0.5-0.9_Hall" and lhts.folder.path.parent.name.startswith(f"{lhts.credit}--")
    assert lhts.options["lhts"].max_new_tokens == lhts.task.max_completion_length
    assert not lhts.args.eval_on_start


def test_a_reference_is_kept_where_the_penalty_asks_for_one():
    for beta in (0.0, 0.1):
        job = prepared("train_grpo", f"trainer.beta={beta}")
        assert job.has_reference == job.loads_reference == (beta > 0)
