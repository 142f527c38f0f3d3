"""What would train nothing, or fail only after training, is refused with its numbers before a model is loaded."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOConfig

from configs.compose import ConfigError
from support.runs import SMALL
from trainers.command.before import (
    check_disk,
    check_evaluation,
    check_length,
    prompts_left_out,
    say_left_out,
    texts_left_out,
)
from trainers.command.trackers import check_trackers

SHAPES = [
    dict(per_device_train_batch_size=8, num_generations=4),
    dict(per_device_train_batch_size=8, num_generations=4, gradient_accumulation_steps=3),
    dict(per_device_train_batch_size=8, num_generations=4, gradient_accumulation_steps=4, steps_per_generation=2),
    dict(per_device_train_batch_size=4, num_generations=2, generation_batch_size=12, num_iterations=3),
    dict(per_device_train_batch_size=6, num_generations=12, steps_per_generation=4),
]


def grpo(**given) -> GRPOConfig:
    return GRPOConfig("unused", report_to="none", bf16=False, use_cpu=True, **given)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_left_out_is_what_the_sampler_of_trl_does_not_reach(shape):
    from trl.trainer.utils import RepeatSampler

    args = grpo(**shape)
    size = args.generation_batch_size // args.num_generations
    for prompts in range(1, 3 * size + 2):
        repeats = args.num_iterations * args.steps_per_generation
        reached = set(RepeatSampler(range(prompts), args.num_generations, size, repeats, seed=0))
        if reached:
            assert prompts_left_out(args, prompts, "chain") == prompts - len(reached)
        else:
            with pytest.raises(ConfigError, match=rf"chain has {prompts} prompt.* takes {size}: nothing would be"):
                prompts_left_out(args, prompts, "chain")


def test_the_batch_named_in_the_remedy_is_one_that_trains():
    args = grpo(per_device_train_batch_size=64, num_generations=8)
    with pytest.raises(ConfigError, match="Give at least 8 prompts, or a batch of at most 40 completions"):
        prompts_left_out(args, 5, "mine")
    assert prompts_left_out(grpo(per_device_train_batch_size=40, num_generations=8), 5, "mine") == 0


@pytest.mark.parametrize(("steps", "epochs"), [(0, 3.0), (-1, 0.0), (0, 2.0)])
def test_a_length_of_nothing_is_refused(steps, epochs):
    given = dict(max_steps=steps, num_train_epochs=epochs)
    with pytest.raises(ConfigError, match="trains nothing"):
        check_length(grpo(per_device_train_batch_size=8, **given))


def test_epochs_without_a_number_of_steps_are_a_length():
    check_length(grpo(per_device_train_batch_size=8, max_steps=-1, num_train_epochs=0.5))


def likelihood(rows: int, processes: int = 1, drop: bool = False):
    return SimpleNamespace(
        per_device_train_batch_size=rows, world_size=processes, dataloader_drop_last=drop, max_length=9
    )


def test_likelihood_training_leaves_out_texts_only_where_it_is_told_to():
    assert texts_left_out(likelihood(64), 3, "corpus") == 0
    assert texts_left_out(likelihood(4, 2, drop=True), 19, "corpus") == 3
    with pytest.raises(ConfigError, match=r"7 row.*batch of 8"):
        texts_left_out(likelihood(4, 2, drop=True), 7, "corpus")
    with pytest.raises(ConfigError, match="max_length=9"):
        texts_left_out(likelihood(4), 0, "corpus")


@pytest.mark.parametrize("shuffled", [True, False])
def test_the_announcement_says_how_many_are_left_out_and_which(shuffled):
    assert say_left_out(0, 8, "prompts", shuffled) == ""
    said = say_left_out(3, 35, "prompts", shuffled)
    assert "3 of 35 prompts" in said and ("others each time" in said) is shuffled


@pytest.mark.parametrize(("rows", "group", "fine"), [(8, 4, True), (8, 3, False), (6, 4, False), (4, 8, False), (8, 1, True)])  # fmt: skip
def test_an_evaluation_batch_holds_whole_groups_of_all_ranks(rows, group, fine):
    args = grpo(per_device_train_batch_size=8, per_device_eval_batch_size=rows, num_generations_eval=group)
    if fine:
        check_evaluation(args)
    else:
        with pytest.raises(ConfigError, match=f"{rows} completions.*whole groups of {group}"):
            check_evaluation(args)
    two = SimpleNamespace(num_generations_eval=group, per_device_eval_batch_size=rows, world_size=2, num_generations=8)
    assert (2 * rows % group == 0) is not _is_refused(lambda: check_evaluation(two))


def _is_refused(check) -> bool:
    try:
        check()
    except ConfigError:
        return True
    return False


def test_a_tracker_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)
    with pytest.raises(ConfigError, match=r"report_to=wandb.*pip install wandb"):
        check_trackers(SimpleNamespace(report_to=["wandb"]))
    with pytest.raises(ConfigError, match="report_to=wandbb"):
        check_trackers(SimpleNamespace(report_to=["wandbb"]))
    check_trackers(SimpleNamespace(report_to=[]))


def test_a_tracker_that_cannot_begin_is_found_before_a_model_is_loaded(monkeypatch):
    """wandb without a key and without a terminal to ask at; a stand-in for each package."""
    from transformers.integrations import integration_utils

    asked = SimpleNamespace(login=lambda prompt: False)

    def refuses():
        raise RuntimeError("the store is gone\nand more")

    monkeypatch.setitem(sys.modules, "wandb", asked)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=refuses))
    monkeypatch.setattr(sys, "stdin", None)
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, lambda: None)
    with pytest.raises(ConfigError, match=r"no API key.*WANDB_MODE=offline"):
        check_trackers(SimpleNamespace(report_to=["wandb"]))
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(SimpleNamespace(report_to=["wandb"]))
    with pytest.raises(ConfigError, match=r"report_to=mlflow: the store is gone$"):
        check_trackers(SimpleNamespace(report_to=["mlflow"]))


def test_a_disk_that_cannot_hold_the_model_is_told_before_training(tmp_path, monkeypatch):
    model = torch.nn.Linear(1000, 1000)  # 4 MB

    def told(free: int):
        monkeypatch.setattr("trainers.command.before.shutil.disk_usage", lambda path: SimpleNamespace(free=free))
        return check_disk(tmp_path / "new" / "run", model)

    assert told(10**9) is None
    assert "a checkpoint takes about 0.01 GB" in told(10**7)
    with pytest.raises(ConfigError, match="could not be saved"):
        told(10**6)


@pytest.mark.parametrize(
    ("script", "overrides", "message"),
    [
        ("train_grpo.py", ["task.n_train=1"], "nothing would be trained"),
        pytest.param("train_grpo.py", ["trainer.num_generations_eval=3"], "whole groups of 3", marks=pytest.mark.slow),
    ],
)
def test_it_is_refused_before_a_folder_is_made(script, overrides, message, server, tmp_path):
    done = server.train(*SMALL, *overrides, f"run_dir={tmp_path / 'run'}", script=script, check=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_texts_that_do_not_fit_cost_neither_a_folder_nor_an_older_run(tmp_path, monkeypatch):
    from trainers.command.cli import compose_command
    from trainers.run.likelihood import register_schema, run_sft

    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "cache"))
    register_schema()
    tiny = ["model.hidden=16", "model.layers=1", "model.heads=2", "model.intermediate=16", "probe=0", "show=0"]
    given = ["task.n_train=24", "task.n_eval=0", "eval_examples=0", "trainer.use_cpu=true", "task=chain"]
    given += [*tiny, "trainer.max_length=1", "model.pretrain.steps=0", f"run_dir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    (tmp_path / "run" / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="no text is left"):
        run_sft(compose_command("train_sft", [*given, "overwrite=true"]))
    assert (tmp_path / "run" / "summary.json").exists()
