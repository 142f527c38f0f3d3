"""Trackers learn which run they track, hear every number, and cannot end a run by not listening."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from trainers.command.trackers import check_trackers
from trainers.model.policy import parameters_in_words
from trainers.run.curves import draw_curves
from trainers.run.progress import MetricsFile, headline
from trainers.run.results import results_table
from trainers.run.tell.outputs import is_about_output, without_secret, without_secrets
from trainers.run.tell.trackers import Trackers, numbers_in

FACTS = {"strategy": "value", "task": "chain", "members": {"spread": "value"}, "commit": "abc", "config": {"seed": 0}}


class TensorBoardCallback(TrainerCallback):
    """Stands for transformers' own, which is known by its name."""

    def __init__(self, fails: bool = False):
        self.logging_dir, self.heard, self.fails = None, {}, fails
        self.tb_writer = SimpleNamespace(add_text=self._hear, add_scalar=self._hear, flush=lambda: None)

    def _hear(self, name, value, *_):
        if self.fails:
            raise OSError("the disk is full")
        self.heard[name] = value

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.heard |= logs


def trainer_with(*callbacks):
    handler = CallbackHandler(list(callbacks), None, None, None, None)
    return SimpleNamespace(callback_handler=handler, add_callback=handler.add_callback)


def begun(tracker, folder):
    trainer, trackers = trainer_with(tracker), Trackers(FACTS)
    trackers.attach(trainer, folder)
    trackers.on_train_begin(None, SimpleNamespace(is_world_process_zero=True), None)
    return trackers


def test_a_tracker_learns_the_strategy_and_how_it_ended(tmp_path):
    tracker = TensorBoardCallback()
    trackers = begun(tracker, tmp_path)
    assert tracker.logging_dir == str(tmp_path / "tensorboard")
    assert json.loads("\n".join(line[4:] for line in tracker.heard["apportion"].split("\n"))) == FACTS
    trackers.finish(
        {"final_reward": 0.5, "seed": 3, "written": {"n": 2}, "task": "chain"}, ["", "last"], [("reward", "0.5")]
    )
    assert tracker.heard["final/final_reward"] == 0.5 and tracker.heard["final/written/n"] == 2
    assert tracker.heard["final/table"] == "| quantity | last |\n| --- | --- |\n| reward | 0.5 |"
    assert "final/seed" not in tracker.heard and "final/task" not in tracker.heard


def test_a_tracker_that_fails_to_listen_costs_a_line(tmp_path, capsys):
    begun(TensorBoardCallback(fails=True), tmp_path).finish({"final_reward": 0.5}, ["", "last"], [])
    assert capsys.readouterr().err.count("OSError: the disk is full") == 2


def test_trackers_hear_of_generated_tokens_and_of_no_missing_numbers(tmp_path):
    tracker, file = TensorBoardCallback(), MetricsFile(tmp_path / "metrics.jsonl")
    trainer = trainer_with(tracker, file)
    file.put_first(trainer)
    args = SimpleNamespace(
        steps_per_generation=1, gradient_accumulation_steps=1, num_iterations=1, generation_batch_size=8
    )
    state = SimpleNamespace(global_step=1, is_world_process_zero=True)
    logs = {"completions/mean_length": 10.5, "credit/mass": None, "reward": 0.5}
    trainer.callback_handler.on_log(args, state, SimpleNamespace(should_log=True), logs)
    assert tracker.heard == {"completions/mean_length": 10.5, "reward": 0.5, "generated_tokens": 84}
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["credit/mass"] is None


def test_secrets_are_told_nobody():
    assert (
        without_secret("trainer.hub_token=hf_x") == "trainer.hub_token=<hidden>"
        and without_secret("trainer.beta=1") == "trainer.beta=1"
    )
    config = {"trainer": {"hub_token": "hf_x", "pad_token": "<pad>"}, "api_key": None, "list": [{"password": "x"}]}
    hidden = {
        "trainer": {"hub_token": "<hidden>", "pad_token": "<pad>"},
        "api_key": None,
        "list": [{"password": "<hidden>"}],
    }
    assert without_secrets(config) == hidden


@pytest.mark.parametrize("name, said", [("wandbb", "Did you mean `wandb`?"), ("clearml", "pip install clearml")])
def test_a_tracker_that_is_not_there_is_one_line_with_the_remedy(name, said):
    with pytest.raises(ValueError, match=f"trainer.report_to={name}") as caught:
        check_trackers(SimpleNamespace(report_to=[name]))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kl", [None, 0.0123])
def test_a_kl_stands_in_line_table_and_picture_where_there_is_one(kl, tmp_path):
    import matplotlib.image

    logs = {"reward": 0.5, "completions/mean_length": 3.0, "entropy": 1.0} | ({} if kl is None else {"kl": kl})
    assert headline(logs, []).endswith("KL 0.0123") is (kl is not None)
    rows = [{"step": step, **logs} for step in (1, 2)]
    summary = dict.fromkeys(("eval_reward_before", "eval_reward_after", "seconds_per_step"))
    summary |= {"credit": "value", "task": "chain", "seed": 0, "tokens": 1, "seconds": 1.0}
    cells = list(results_table(rows, summary, []).columns[0].cells)
    assert ("KL to the reference (nats)" in cells) is (kl is not None)
    draw_curves(rows, "title", tmp_path / "curves.png")
    assert matplotlib.image.imread(tmp_path / "curves.png").shape[1] == 1430 * (1.5 if kl else 1)


def test_trainable_parameters_stand_beside_all():
    model = torch.nn.Sequential(torch.nn.Linear(1000, 1000, bias=False), torch.nn.Linear(10, 1000, bias=False))
    assert parameters_in_words(model) == "1.01 M parameters, all trained"
    model[0].weight.requires_grad = False
    assert parameters_in_words(model) == "1.01 M parameters, 0.01 M of them trained (0.99 %)"


def test_numbers_are_found_by_their_path():
    assert numbers_in({"a": {"b": 1, "c": "x", "d": True}, "e": None, "f": 0.5}) == {"a/b": 1, "f": 0.5}


def test_what_trains_and_what_is_told_are_told_apart():
    told = ["show", "record.every", "trainer.logging_steps", "trainer.report_to", "trainer.save_steps", "run_dir"]
    trains = [
        "seed",
        "trainer.seed",
        "trainer.beta",
        "recorded",
        "trainer.max_steps",
        "task.logging_steps",
        "reward.funcs",
    ]
    assert all(map(is_about_output, told)) and not any(map(is_about_output, trains))
