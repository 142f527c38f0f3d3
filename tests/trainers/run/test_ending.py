"""After training nothing may cost the model: it is saved first, what fails afterwards is told, and the run is whole."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from support.runs import RANKS, SMALL, command, run_ranks, train
from trainers.command.cli import compose_command
from trainers.run.common import before_and_after
from trainers.run.ending import Ending, PatientHandler
from trainers.run.files import read_metrics
from trainers.run.grpo import register_schema, run_grpo


class Tracker(TrainerCallback):
    """Closes when training ends, as trackio does, and fails when it is asked for more; writes down what it hears."""

    heard: list[str] = []  # noqa: RUF012  (transformers makes the object)

    def __init__(self):
        self.is_open = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.is_open = True

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not self.is_open:
            raise RuntimeError("Call trackio.init() before trackio.log().")
        self.heard += [key for key in ("reward", "eval_reward", "train_runtime") if key in (logs or {})]

    def on_train_end(self, args, state, control, **kwargs):
        self.is_open = False
        self.heard.append("end")
        raise OSError("the server is gone")


def run(folder: Path, *overrides: str) -> dict:
    register_schema()
    given = [*SMALL, "trainer.use_cpu=true", "trainer.max_steps=2", *overrides]
    run_grpo(compose_command("train_grpo", [*given, f"run_dir={folder}"]))
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A run in which everything after training fails but the evaluation: trackers, pictures, the table."""
    folder = tmp_path_factory.mktemp("spoilt") / "run"

    def fails(*args, **kwargs):
        raise ZeroDivisionError("no picture today")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "fussy", Tracker)
        patch.setattr("trainers.run.grpo.draw_curves", fails)
        patch.setattr("trainers.run.grpo.results_table", fails)
        Tracker.heard.clear()
        return folder, run(folder, "trainer.report_to=[fussy]"), list(Tracker.heard)


def test_a_run_says_what_it_was_started_with(spoilt):
    folder, summary, _ = spoilt
    (start,) = map(json.loads, (folder / "started.jsonl").read_text().splitlines())
    assert start["strategy"] == "dr_grpo" and start["members"]["weight"] == "constant" and start["after_step"] == 0
    assert {key: start[key] for key in ("commit", "commit_dirty", "versions")} == {
        key: summary[key] for key in ("commit", "commit_dirty", "versions")
    }
    assert len(start["commit"]) == 12 and start["commit_dirty"] in (True, False)
    assert re.fullmatch(r"chain/dr_grpo--[\w.-]+/seed0", start["run"])
    assert summary["trainable_parameters"] == summary["parameters"] > 0


def test_a_run_whose_end_fails_is_whole_and_says_what_failed(spoilt):
    folder, summary, _ = spoilt
    assert summary["steps"] == 2 and (folder / "model" / "model.safetensors").exists()
    failed = summary["failed_after_training"]
    assert set(failed) == {"Tracker.on_train_end", "curves.png", "the table of results"}
    assert failed["Tracker.on_train_end"] == "OSError: the server is gone"
    log = (folder / "error.log").read_text()
    assert log.count("Traceback") == 3 and "no picture today" in log and "test_ending.py" in log


def test_trackers_hear_of_the_end_after_the_last_evaluation(spoilt):
    _, summary, heard = spoilt
    assert heard == ["eval_reward", "reward", "reward", "train_runtime", "eval_reward", "end"]
    assert summary["eval_reward_before"] is not None and summary["eval_reward_after"] is not None


def test_resume_after_such_an_end_finds_nothing_left_to_do(spoilt, capsys):
    folder, *_ = spoilt
    given = [*SMALL, "trainer.use_cpu=true", "trainer.max_steps=2", "trainer.report_to=[fussy]", "resume=true"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run_grpo(compose_command("train_grpo", [*given, f"run_dir={folder}"]))
    assert "nothing left to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_last_evaluation_that_fails_is_not_replaced_by_the_first(tmp_path, monkeypatch):
    from trainers.grpo import CreditGRPOTrainer

    evaluate = CreditGRPOTrainer.evaluate

    def fails_late(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise ValueError("cannot reshape")
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(CreditGRPOTrainer, "evaluate", fails_late)
    summary = run(tmp_path / "run", "trainer.logging_strategy=no")  # and where nothing was logged, steps still count
    assert summary["failed_after_training"] == {"the last evaluation": "ValueError: cannot reshape"}
    assert summary["eval_reward_before"] is not None and summary["eval_reward_after"] is None
    assert summary["steps"] == 2 and (tmp_path / "run" / "curves.png").exists()


def test_an_evaluation_counts_as_the_last_only_at_the_last_step():
    rows = [{"step": 0, "eval_reward": 0.1}, {"step": 2, "reward": 1.0}, {"step": 4, "eval_reward": 0.5}]
    assert before_and_after(rows, "eval_reward", 4) == (0.1, 0.5)
    assert before_and_after(rows, "eval_reward", 6) == (0.1, None)
    assert before_and_after(rows[2:], "eval_reward", 4) == (None, 0.5)
    assert before_and_after([], "eval_reward", 4) == (None, None)


def test_metrics_that_were_never_written_are_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


class Failing(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise RuntimeError(f"step {state.global_step}")


def handler(*callbacks, part=None):
    inner = CallbackHandler([DefaultFlowCallback(), *callbacks], None, None, None, None)
    failed = []

    class Part:
        def __init__(self, what):
            self.what = what

        def __enter__(self):
            return None

        def __exit__(self, kind, error, trace):
            failed.append(self.what) if error else None
            return kind is not None

    return PatientHandler(inner, Part), failed


ARGUMENTS = SimpleNamespace(
    logging_strategy="no", eval_strategy="no", save_strategy="no", logging_first_step=False, eval_delay=0
)


@pytest.mark.parametrize("last", [True, False])
def test_a_callback_has_power_over_a_run_until_its_last_step_is_done(last):
    patient, failed = handler(Failing())
    state = SimpleNamespace(global_step=4 if last else 3, max_steps=4, logging_steps=1, eval_steps=1, save_steps=1)
    control = SimpleNamespace(should_training_stop=False)
    if last:
        assert patient.on_step_end(ARGUMENTS, state, control).should_training_stop
        assert failed == ["Failing.on_step_end"] and len(patient.callbacks) == 2
    else:
        with pytest.raises(RuntimeError, match="step 3"):
            patient.on_step_end(ARGUMENTS, state, control)


def test_an_early_stop_is_an_end_too():
    patient, _ = handler(Failing())
    state = SimpleNamespace(global_step=3, max_steps=40)
    assert not patient.is_over(state)
    patient.on_train_end(ARGUMENTS, state, SimpleNamespace())
    assert patient.is_over(state)


class Trainer:
    """As much of a trainer as an ending needs; its training fails at `at` of 4 steps."""

    is_fsdp_enabled = is_deepspeed_enabled = False

    def __init__(self, at: int):
        self.state, self.at = SimpleNamespace(global_step=0, max_steps=4), at
        self.callback_handler = CallbackHandler([DefaultFlowCallback()], None, None, None, None)

    def train(self, resume_from_checkpoint):
        self.state.global_step = self.at
        raise OSError("No space left on device")


def test_only_a_failure_before_the_last_step_is_one_of_training(tmp_path, capsys):
    ending = Ending(Trainer(at=4), tmp_path)
    ending.train(None)
    assert ending.note() == {"failed_after_training": {"the end of training": "OSError: No space left on device"}}
    assert "After training, the end of training failed" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space"):
        Ending(Trainer(at=3), tmp_path).train(None)
    assert (tmp_path / "error.log").read_text().count("No space left on device") >= 2


def test_a_model_that_the_disk_does_not_take_is_no_finished_run(tmp_path):
    trainer = Trainer(at=4)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    trainer.save_model = full
    with pytest.raises(ValueError, match=r"No space left on device.*resume=true"):
        Ending(trainer, tmp_path).save(tmp_path / "model")
    assert "saving the model" in (tmp_path / "error.log").read_text()


@pytest.mark.parametrize("shown", [True, False])
def test_weights_are_written_without_bars_between_the_lines_of_a_run_and_bars_are_as_before(shown, tmp_path):
    trainer, seen = Trainer(at=4), []
    trainer.save_model = lambda *args, **kwargs: seen.append(is_progress_bar_enabled())
    trainer.args = SimpleNamespace(push_to_hub=False)
    before = is_progress_bar_enabled()
    try:
        enable_progress_bar() if shown else disable_progress_bar()
        Ending(trainer, tmp_path).save(tmp_path / "model")
        assert seen == [False] and is_progress_bar_enabled() == shown
    finally:
        enable_progress_bar() if before else disable_progress_bar()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_poor_terminal_or_a_reader_that_leaves_costs_no_run(encoding, tmp_path):
    """Completions with characters that the terminal lacks, printed into `head -1`."""
    import subprocess

    folder = tmp_path / "run"
    (tmp_path / "odd.py").write_text("def odd(prompts, completions, **columns):\n    return [0.0] * len(prompts)\n")
    rows = [json.dumps({"prompt": f"δ長✓ {i}", "answer": "✓"}, ensure_ascii=False) + "\n" for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    given = [*(part for part in SMALL if not part.startswith("task.")), "trainer.max_steps=2", f"run_dir={folder}"]
    given += ["trainer.log_completions=true", f"reward.funcs=[{tmp_path / 'odd.py'}:odd]", "show=3"]
    words = " ".join(f"'{word}'" for word in command(*given))
    environment = os.environ | {"PYTHONIOENCODING": encoding, "ACCELERATE_USE_CPU": "true", "TQDM_DISABLE": "1"}
    done = subprocess.run(["bash", "-c", f"{words} | head -1; exit ${{PIPESTATUS[0]}}"], env=environment, timeout=400)
    assert done.returncode == 0 and "failed_after_training" not in json.loads((folder / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("where", ["callback", "evaluation", "evaluation on the other rank", "table"])
def test_a_failure_on_one_of_two_ranks_leaves_the_run_whole_and_hangs_nobody(where, tmp_path):
    run_ranks(RANKS / "ending.py", tmp_path / "run", where.replace(" ", "_"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["world_size"] == 2 and summary["failed_after_training"]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


@pytest.mark.slow
def test_two_ranks_find_a_finished_run_finished(tmp_path):
    given = [*SMALL, "trainer.per_device_train_batch_size=4", "trainer.max_steps=1", f"run_dir={tmp_path / 'run'}"]
    train(*given, ranks=2)
    again = train(*given, "resume=true", ranks=2)
    assert again.stdout.count("nothing left to do") == 1
