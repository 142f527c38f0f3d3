"""The command line as a user meets it: wrong input is told before anything is written, right input leaves a run behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configs.compose import ConfigError, compose_config, compose_strategy, config_choices
from support.runs import ROOT, SMALL, train
from trainers.command.cli import Command, compose_command, help_text
from trainers.command.world_size import check_launch, processes_asked
from trainers.run.files import read_metrics
from trainers.run.folder import RunFolder, open_folder, run_folder
from trainers.run.grpo import register_schema

register_schema()


def composed(*overrides) -> Command:
    return compose_command("train_grpo", list(overrides))


# ---- names and types


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["credit=seqnorm"], "Did you mean `seq_norm`"),
        (["credit/weight=seqmean"], "Did you mean `seq_mean`"),
        (["task=chian"], "Did you mean `chain`"),
        (["trainer.learnig_rate=1"], "Did you mean `trainer.learning_rate`"),
        (["sed=1"], "Did you mean `seed`"),
        (["credit.weight.gama=1", "credit/weight=length_power"], "Did you mean `credit.weight.gamma`"),
        (["trainer.learning_rate=abc"], "abc"),
        (["trainer.num_generations=many"], "many"),
        (["credit=uniform,seq_norm"], "sweep.py"),
        (["model=hf"], "model.name=..."),
        (["credit=[a"], "."),
    ],
)
def test_a_wrong_name_or_type_dies_when_composed(overrides, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        composed(*overrides)


def test_a_target_that_cannot_be_imported_is_told_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean `group_mean`"):
        compose_strategy(["credit=dr_grpo", "credit.baseline._target_=credit.baseline.group_men"])


def test_a_strategy_of_the_users_own_is_a_function_and_a_yaml(tmp_path, monkeypatch):
    (tmp_path / "my_credit.py").write_text(
        "def late(advantages_B, mask_BT, power=1.0):\n"
        "    return advantages_B[:, None] * (mask_BT.cumsum(1) / mask_BT.shape[1]) ** power\n"
    )
    folder = tmp_path / "my_configs" / "credit"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# later tokens get more\ndefaults:\n  - dr_grpo\n  - _self_\nname: mine\nspread:\n  _target_: my_credit.late\n  power: 2.0\n"
    )
    monkeypatch.chdir(tmp_path)
    strategy = compose_strategy(["credit=mine"], [tmp_path / "my_configs"])
    assert strategy.name == "mine" and strategy.spread.keywords == {"power": 2.0}
    assert "mine" in config_choices("credit", [tmp_path / "my_configs"])


def test_help_says_what_every_choice_means():
    text = help_text("train_grpo")
    for group in ("credit", "credit/weight", "task", "model", "reward"):
        for choice, meaning in config_choices(group).items():
            assert choice in text and meaning and meaning in text, f"configs/{group}/{choice}.yaml has no first line"


def test_only_departures_reach_trl():
    from trl import GRPOConfig

    from trainers.command.build import build_args

    args = build_args(composed("trainer.beta=0.1", "trainer.warmup_steps=3").config, GRPOConfig, output_dir="x")
    assert (
        args.beta == 0.1
        and args.warmup_steps == 3
        and args.epsilon == GRPOConfig("x", report_to="none", bf16=False).epsilon
    )


@pytest.mark.parametrize("asked", ["true", "false"])
def test_the_cpu_that_accelerate_was_told_to_use_is_the_trainers_too(asked, monkeypatch):
    """transformers reads its own option only: on a machine with a GPU, batches went there and the model stayed behind."""
    from trl import GRPOConfig

    from trainers.command.build import build_args

    monkeypatch.setenv("ACCELERATE_USE_CPU", asked)
    assert build_args(composed().config, GRPOConfig, output_dir="x").use_cpu is (asked == "true")


# ---- the run folder


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], "runs/chain/dr_grpo/seed0"),
        (["credit=dr_grpo", "seed=3", "overwrite=true"], "runs/chain/dr_grpo/seed3"),
        (
            ["credit=dr_grpo", "credit/weight=seq_mean", "trainer.learning_rate=1e-4", "seed=3"],
            "runs/chain/dr_grpo--weight-seq_mean--learning_rate-1e-4/seed3",
        ),
        (["run_dir=/elsewhere/x"], "/elsewhere/x"),
        (["run_dir=a b/c,d=1"], "a b/c,d=1"),
        (["runs=2024"], "2024/chain/dr_grpo/seed0"),
        (["record.every=5", "show=0", "trainer.logging_steps=5", "trainer.save_steps=7"], "runs/chain/dr_grpo/seed0"),
    ],
)
def test_the_folder_follows_from_the_choices(overrides, wanted):
    command = composed(*overrides)
    assert str(run_folder(command.config, command.choices, command.overrides).path) == wanted


def test_long_changes_are_shortened_and_stay_distinct():
    paths = set()
    for value in range(3):
        command = composed(
            *(
                f"trainer.{key}={value}.5"
                for key in ("beta", "epsilon", "temperature", "weight_decay", "top_p", "learning_rate", "adam_beta1")
            )
        )
        paths.add(run_folder(command.config, command.choices, command.overrides).path)
    assert len(paths) == 3 and all(len(path.parts[-2]) <= 100 for path in paths)


def test_a_finished_run_is_never_touched_unless_told(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(composed().config, overwrite=False)
    folder.metrics.write_text('{"step": 1}\n')
    folder.summary.write_text("{}")
    with pytest.raises(ValueError, match="overwrite=true"):
        folder.check(composed().config)
    folder.check(composed("overwrite=true").config)
    with pytest.raises(ValueError, match="contradict"):
        folder.check(composed("overwrite=true", "resume=true").config)


def test_resume_on_a_finished_run_has_nothing_left_to_do(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(composed().config, overwrite=False)
    folder.metrics.write_text('{"step": 1}\n')
    config = composed("resume=true").config
    folder.check(config)
    assert not folder.nothing_left(config)
    folder.summary.write_text("{}")
    folder.check(config)
    assert folder.nothing_left(config) and not folder.nothing_left(composed().config)
    with pytest.raises(ValueError, match="other settings"):  # it finished another run than the one asked for
        folder.check(composed("resume=true", "trainer.beta=0.5").config)


def test_settings_that_differ_are_told_from_then_to_now(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(composed("trainer.learning_rate=1e-5", "record.every=3").config, overwrite=False)
    folder.metrics.write_text('{"step": 1}\n')
    told = ["resume=true", "trainer.learning_rate=1e-5", "trainer.logging_steps=7", "show=0"]
    folder.check(composed(*told).config)  # what is only told may change
    with pytest.raises(
        ValueError, match=re.escape(": trainer.learning_rate 1e-05 -> 0.0003, trainer.beta 0.0 -> 0.5. ")
    ) as error:
        folder.check(composed("resume=true", "trainer.beta=0.5").config)
    assert "logging" not in str(error.value)
    with pytest.raises(ValueError, match=r"and \d+ more"):
        folder.check(composed("resume=true", "credit=value", "task=doors").config)


@pytest.mark.parametrize(
    "before, now, said",
    [
        (["trainer.lr_scheduler_type=cosine"], ["trainer.max_steps=500"], "lr_scheduler_type=cosine lays"),
        (
            ["trainer.lr_scheduler_type=constant_with_warmup", "trainer.warmup_steps=0.1"],
            ["trainer.max_steps=500"],
            "warmup",
        ),
        ([], ["trainer.max_steps=80"], None),
        ([], ["trainer.max_steps=79"], "it has made 80 steps"),
        ([], ["trainer.max_steps=500"], None),
        (["trainer.lr_scheduler_type=inverse_sqrt", "trainer.warmup_steps=5"], ["trainer.max_steps=81"], None),
        (
            ["trainer.max_steps=-1", "trainer.num_train_epochs=1"],
            ["trainer.max_steps=-1", "trainer.num_train_epochs=2"],
            None,
        ),
        (
            ["trainer.max_steps=-1", "trainer.num_train_epochs=3"],
            ["trainer.max_steps=-1", "trainer.num_train_epochs=2"],
            "80 steps",
        ),
    ],
)
def test_a_finished_run_goes_on_where_that_is_exact(before, now, said, tmp_path):
    folder, words = RunFolder(tmp_path / "run"), {word.split("=")[0]: word for word in [*before, *now]}
    folder.start(composed(*before).config, overwrite=False)
    for file in (folder.metrics, folder.summary):
        file.write_text('{"step": 80}\n')
    checkpoint = folder.checkpoints / "checkpoint-80"
    checkpoint.mkdir(parents=True)
    for name in ("complete", "rng_state.pth"):
        (checkpoint / name).touch()
    (checkpoint / "trainer_state.json").write_text('{"max_steps": 80}')
    config = composed("resume=true", *words.values()).config
    if said is None:
        folder.check(config)
        if now != ["trainer.max_steps=80"]:
            assert not folder.nothing_left(config)
            assert folder.start(config, overwrite=False) == checkpoint and not folder.is_finished
    else:
        with pytest.raises(ValueError, match=said):
            folder.check(config)
        assert folder.is_finished


def test_resume_with_another_length_says_where_the_shorter_run_is(tmp_path, capsys):
    words = [f"runs={tmp_path}", "credit=value", "resume=true"]
    short = composed(*words)
    folder = open_folder(short.config, short.choices, short.overrides)
    folder.start(short.config, overwrite=False)
    folder.metrics.write_text('{"step": 80}\n')
    assert capsys.readouterr().out == ""
    long = composed(*words, "trainer.max_steps=160")
    assert open_folder(long.config, long.choices, long.overrides).path != folder.path
    assert f"run_dir={folder.path} goes on from that one" in capsys.readouterr().out


def test_a_last_checkpoint_amid_a_batch_of_rollouts_is_passed_over():
    from trainers.run.going_on import samples_anew_after

    trainer = {"num_generations": 4, "gradient_accumulation_steps": 2, "steps_per_generation": 6, "num_iterations": 1}
    assert [step for step in range(1, 8) if samples_anew_after(step, trainer)] == [3, 6]
    assert [step for step in range(1, 8) if samples_anew_after(step, trainer | {"num_iterations": 2})] == [6]
    assert all(samples_anew_after(step, {"gradient_accumulation_steps": 2}) for step in range(1, 8))


def test_a_folder_that_cannot_be_written_is_found_before_anything_else(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "deeper" / "run", Path("/proc/nowhere")):
        with pytest.raises(ValueError, match="run_dir="):
            RunFolder(place).check(composed().config)
    RunFolder(tmp_path / "deep" / "deeper").check(composed().config)
    assert not (tmp_path / "deep").exists() and [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("was_there", [True, False])
def test_what_is_refused_before_the_first_step_leaves_no_folder_and_costs_no_older_run(overwrite, was_there, tmp_path):
    folder = RunFolder(tmp_path / "run")
    if was_there:
        folder.path.mkdir()
        folder.summary.write_text("the older run")
    with pytest.raises(ValueError, match="refused"), folder.as_it_was_if_refused(True):
        folder.start(composed().config, overwrite)
        assert folder.is_finished is (was_there and not overwrite)
        folder.checkpoints.mkdir()
        raise ValueError("refused")
    assert folder.path.exists() is folder.is_finished is was_there
    with folder.as_it_was_if_refused(True):
        folder.start(composed().config, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and folder.is_finished is (was_there and not overwrite)


def test_an_unfinished_run_asks_and_resume_wants_the_same_settings(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(composed().config, overwrite=False)
    folder.metrics.write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match="resume=true continues"):
        folder.check(composed().config)
    folder.check(composed("resume=true").config)
    with pytest.raises(ValueError, match="other settings"):
        folder.check(composed("resume=true", "trainer.beta=0.5").config)


def test_overwrite_does_not_delete_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not a run"):
        RunFolder(tmp_path).check(composed("overwrite=true").config)


def test_a_metrics_line_cut_off_by_a_kill_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "rew')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1}]


# ---- the launch


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("accelerate launch --cpu --num_processes 2 train_grpo.py", 2),
        ("accelerate launch --num_processes=4 train_grpo.py", 4),
        ("python /usr/bin/accelerate launch train_grpo.py trainer.seed=1", None),
        (f"accelerate launch --config_file {ROOT}/configs/accelerate/cpu_2.yaml train_grpo.py", 2),
        ("accelerate launch train_grpo.py --num_processes 9", None),
        ("accelerate launch --num_processes 2 -m apportion.train_grpo seed=1", 2),
        ("accelerate launch -m apportion.train_grpo --num_processes 9", None),
        ("pytest tests", None),
    ],
)
def test_the_number_of_processes_asked_for_is_read_off_the_launcher(line, asked):
    assert processes_asked(line.split()) == asked


def test_fewer_processes_than_asked_for_stop_with_the_remedy(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ValueError, match=r"asked for 2 processes, but 1.*cpu_2.yaml"):
        check_launch(command=["accelerate", "launch", "--cpu", "--num_processes", "2", "train_grpo.py"])
    with pytest.raises(ValueError, match="processes=4"):
        check_launch(4, command=[])
    check_launch(1, command=["accelerate", "launch", "train_grpo.py"])


# ---- whole runs


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["-m", "credit=uniform"], "sweep.py"),
        pytest.param(["trainer.num_generations=7"], "num_generations", marks=pytest.mark.slow),
        pytest.param(["trainer.loss_type=bnpo"], "bnpo", marks=pytest.mark.slow),
        (["reward.funcs=[nosuch.py:polite]"], "nosuch.py"),
    ],
)
def test_bad_input_stops_the_command_before_anything_is_written(overrides, message, server, tmp_path):
    done = server.train(*SMALL, *overrides, f"run_dir={tmp_path / 'run'}", check=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_leaves_behind_what_the_readme_says(ranks, tmp_path):
    folder = tmp_path / "run"
    batch = f"trainer.per_device_train_batch_size={8 // ranks}"
    done = train(*SMALL, batch, "trainer.max_steps=3", f"processes={ranks}", f"run_dir={folder}", ranks=ranks)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["world_size"] == ranks and summary["completions_per_step"] == 8 and summary["steps"] == 3
    assert {"initial_reward", "final_reward", "tokens", "seconds"} <= summary.keys() and summary["tokens"] > 0
    steps = [row["step"] for row in read_metrics(folder / "metrics.jsonl") if "reward" in row]
    assert steps == [1, 2, 3]
    ends = [summary["evaluation"][when]["reward"]["value"] for when in ("before", "after")]
    assert ends == pytest.approx([summary["eval_reward_before"], summary["eval_reward_after"]])
    assert f"= {ranks} process(es)" in done.stdout and "held-out prompts" in done.stdout
    assert (folder / "curves.png").stat().st_size > 10_000
    assert (folder / "model" / "config.json").exists() and (folder / "model" / "tokenizer.json").exists()
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.trainer.max_steps == 3 and saved.credit.name == "dr_grpo"


def test_compose_config_gives_the_choices():
    _, choices = compose_config("train_grpo", ["credit=dr_grpo"], with_choices=True)
    assert choices["credit"] == "dr_grpo" and choices["credit/weight"] == "constant" and choices["task"] == "chain"
