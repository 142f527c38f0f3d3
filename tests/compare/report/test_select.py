"""What a report compares, what it sets apart, and what it says about both."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from trl import GRPOConfig

from compare.read import read_study
from compare.report import __main__ as cli
from compare.report.analysis import Options, analyse
from compare.report.factors import is_logging, is_measured
from compare.report.words import cautions, conclusions
from support.reports import straight, write_grpo, write_run


def made(folder: Path, **options):
    """(analysis, conclusions, cautions) of a folder."""
    study = read_study([folder])
    analysis = analyse(study, Options(**options))
    return analysis, " ".join(conclusions(study, analysis)), " ".join(cautions(study, analysis))


def pair(root: Path, *changes: str, seeds: int = 2, **more) -> Path:
    """uniform, and another arm with dr_grpo's credit and `changes`."""
    for seed in range(seeds):
        write_grpo(root / "chain" / "uniform" / f"seed{seed}", "credit=uniform", f"seed={seed}", top=0.5 + seed / 9)
        place = root / "chain" / ",".join(["dr_grpo", *changes]).replace("/", "_") / f"seed{seed}"
        write_grpo(place, "credit=dr_grpo", f"seed={seed}", *changes, top=0.6 + seed / 7, **more)
    return root


MEASURED = [
    ("task.terms=[2,9]", "task.terms is [2, 9], uniform's [2, 5]"),
    ("task.n_train=64", "task.n_train is 64"),
    ("task=doors", "task._target_ is tasks.doors.doors"),
    ("reward=concise", "reward.funcs is [{"),
    ("reward.weights=[1.0,0.0]", "reward.weights is [1.0, 0.0], uniform's null"),
    ("trainer.reward_weights=[1.0,0.0]", "trainer.reward_weights is [1.0, 0.0]"),
]


@pytest.mark.parametrize(("change", "reason"), MEASURED)
def test_arms_that_measure_something_else_are_set_apart_with_the_reason(change, reason, tmp_path):
    analysis, said, more = made(pair(tmp_path, change))
    assert analysis.arms == ("uniform",) and len(analysis.apart) == 2
    assert "cannot be told apart" not in said and "Nothing to compare" in said
    assert "is not compared with uniform: its `reward` measures something else" in said and reason in said
    assert "Set apart, since they measure something else than uniform: chain/dr_grpo" in more


def test_setting_that_was_meant_to_differ_is_let_through_by_name_and_said(tmp_path):
    pair(tmp_path, "task.n_train=64", "reward.weights=[1.0,0.0]")
    assert made(tmp_path, allow=("task.n_train",))[0].arms == ("uniform",)
    analysis, said, _ = made(tmp_path, allow=("task", "reward.weights"))
    assert len(analysis.arms) == 2
    assert (
        "Besides credit they differ in `reward.weights` ([1.0, 0.0] against null), `task.n_train` (64 against 2048)"
        in said
    )


FACTORS = [
    ("model.hidden=32", {}, "`model.hidden` (32 against 96)"),
    ("trainer.learning_rate=1e-4", {}, "`trainer.learning_rate` (0.0001 against 0.0003)"),
    ("trainer.per_device_train_batch_size=64", {"summary": {"completions_per_step": 64}}, "`completions per step` (64 against 128)"),
    ("trainer.gradient_accumulation_steps=2", {"summary": {"world_size": 2}}, "`processes run` (2 against 1)"),
    ("trainer.max_steps=30", {"steps": 30}, "`trainer.max_steps` (30 against 80)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "more", "said"), FACTORS)
def test_whatever_else_arms_differ_in_stands_beside_the_conclusion_and_in_the_table(change, more, said, tmp_path):
    analysis, text, _ = made(pair(tmp_path, change, **more))
    assert len(analysis.arms) == 2
    assert "cannot be told apart" in text and "Besides credit they differ in" in text and said in text
    assert f"`{analysis.selection.factors[-1]}`" in text
    assert {"credit.weight._target_"} <= set(analysis.selection.factors)


def test_arms_with_the_same_credit_are_said_to_differ_in_something_else(tmp_path):
    for seed in range(2):
        for rate in ("3e-4", "1e-4"):
            folder = tmp_path / "chain" / f"uniform,learning_rate={rate}" / f"seed{seed}"
            write_grpo(
                folder, "credit=uniform", f"seed={seed}", f"trainer.learning_rate={rate}", top=0.5 + float(rate) * seed
            )
    analysis, said, _ = made(tmp_path)
    assert analysis.selection.factors == ("trainer.learning_rate",)
    assert "Their credit is the same; they differ in `trainer.learning_rate`" in said


LOGGING = ["record.every=5", "trainer.logging_steps=2", "trainer.report_to=tensorboard", "show=0", "trainer.save_steps=7",
           "trainer.disable_tqdm=true", "trainer.run_name=mine", "trainer.log_completions=true", "trainer.save_total_limit=9",
           "trainer.eval_on_start=false", "trainer.dataloader_num_workers=1", "runs=elsewhere"]  # fmt: skip


def test_runs_that_differ_in_what_they_log_or_save_only_are_one_arm(tmp_path):
    for seed, change in enumerate(LOGGING):
        write_grpo(tmp_path / "chain" / f"uniform,{change}" / f"seed{seed}", "credit=uniform", f"seed={seed}", change)
        write_grpo(
            tmp_path / "chain" / "dr_grpo" / f"seed{seed}", "credit=dr_grpo", f"seed={seed}", top=0.6 + seed / 99
        )
    write_grpo(tmp_path / "chain" / "uniform" / "seed99", "credit=uniform", "seed=99")
    analysis, _, more = made(tmp_path)
    assert analysis.arms == ("uniform", "dr_grpo") and not analysis.apart
    assert len(analysis.comparisons["final"][0].pairs) == len(LOGGING)
    assert (
        "uniform has several names here, which differ in nothing but what is logged or saved: uniform, uniform,record.every=5"
        in more
    )


def test_names_make_arms_where_a_config_says_nothing_of_credit(tmp_path):
    for arm in ("uniform", "mine"):
        folder = write_run(tmp_path / "t" / arm / "seed0", straight(0.5))
        (folder / "config.yaml").write_text("trainer: {max_steps: 20}\n")
    assert made(tmp_path)[0].arms == ("uniform", "mine")


def test_rows_logged_every_other_step_are_averaged_over_the_same_steps(tmp_path):
    whole, sparse = straight(1.0, steps=40), []
    for a, b in zip(whole[::2], whole[1::2], strict=True):
        sparse.append({**b, "reward": (a["reward"] + b["reward"]) / 2})
    write_run(tmp_path / "t" / "each" / "seed0", whole)
    write_run(tmp_path / "t" / "other" / "seed0", sparse)
    analysis = analyse(read_study([tmp_path]), Options())
    final = analysis.values["final"]
    assert analysis.window == 4 and final["each"]["t"][0] == pytest.approx(final["other"]["t"][0])


def test_runs_told_different_things_under_one_name_are_different_arms(tmp_path):
    for seed, rate in enumerate(("3e-4", "3e-4", "1e-4", "1e-4")):
        write_grpo(
            tmp_path / "chain" / "uniform" / f"seed{seed}",
            "credit=uniform",
            f"seed={seed}",
            f"trainer.learning_rate={rate}",
        )
    analysis, _, _ = made(tmp_path)
    assert analysis.arms == ("uniform (learning_rate=0.0003)", "uniform (learning_rate=0.0001)")
    assert made(tmp_path, reference="uniform (learning_rate=0.0001)")[0].reference == "uniform (learning_rate=0.0001)"


def test_settings_that_follow_the_task_or_the_seed_do_not_split_an_arm(tmp_path):
    for task in ("chain", "doors"):
        for seed in range(2):
            for credit in ("uniform", "dr_grpo"):
                told = (f"credit={credit}", f"seed={seed}", f"task={task}", f"task.seed={seed}",
                        f"trainer.max_completion_length={32 if task == 'doors' else 64}")  # fmt: skip
                write_grpo(tmp_path / task / credit / f"seed{seed}", *told, summary={"task": task}, top=0.5 + seed / 9)
    analysis, _, _ = made(tmp_path)
    assert analysis.arms == ("uniform", "dr_grpo") and not analysis.apart and len(analysis.used) == 8


def test_folds_of_the_data_by_seed_are_one_measure_for_each_seed(tmp_path):
    for seed in range(2):
        for credit in ("uniform", "dr_grpo"):
            write_grpo(
                tmp_path / "chain" / credit / f"seed{seed}",
                f"credit={credit}",
                f"seed={seed}",
                f"task.n_train={100 + seed}",
            )
    write_grpo(tmp_path / "chain" / "rloo" / "seed1", "credit=rloo", "seed=1", "task.n_train=100")
    analysis, _, _ = made(tmp_path)
    assert analysis.arms == ("uniform", "dr_grpo") and [one.run.arm for one in analysis.apart] == ["rloo"]


def test_run_of_one_step_does_not_cut_the_others_to_its_length(tmp_path):
    pair(tmp_path)
    write_grpo(tmp_path / "chain" / "rloo" / "seed0", "credit=rloo", "trainer.max_steps=1", steps=1)
    analysis, said, more = made(tmp_path)
    assert analysis.budget == {"chain": 1200} and len(analysis.used) == 4
    assert "rloo is not compared with uniform: it ended after step 1, where 20 steps are usual here" in said
    assert "ended far earlier" in more


def test_reference_that_ended_after_one_step_is_no_reference_unless_asked_for(tmp_path):
    write_grpo(tmp_path / "chain" / "uniform" / "seed0", "credit=uniform", "trainer.max_steps=1", steps=1)
    write_grpo(tmp_path / "chain" / "dr_grpo" / "seed0", "credit=dr_grpo")
    assert made(tmp_path)[0].reference == "dr_grpo"
    with pytest.raises(ValueError, match=r"reference=uniform: no run of it can be compared .*ended after step 1"):
        made(tmp_path, reference="uniform")


def test_shorter_runs_are_compared_at_equal_tokens_and_the_rest_is_owned_up_to(tmp_path):
    analysis, _, more = made(pair(tmp_path, "trainer.max_steps=30", steps=30))
    assert analysis.budget == {"chain": 1200}
    assert "all runs are read at 1200, where uniform/seed0 ended; the longest went on to 1800" in more


def test_short_texts_alone_or_large_batches_alone_do_not_make_a_run_short(tmp_path):
    write_run(tmp_path / "t" / "a" / "seed0", straight(1.0, steps=20, tokens=100))
    write_run(tmp_path / "t" / "terse" / "seed0", straight(1.0, steps=20, tokens=10))
    write_run(tmp_path / "t" / "large" / "seed0", straight(1.0, steps=5, tokens=400))
    assert len(made(tmp_path)[0].used) == 3


def test_other_sampling_is_a_caveat(tmp_path):
    for number, setting in enumerate(("trainer.temperature=0.7", "sampling.refill=3")):
        said = made(pair(tmp_path / str(number), setting))[2]
        assert f"sampled in other ways ({setting.partition('=')[0]})" in said


def test_runs_on_a_task_that_the_reference_never_saw_are_set_apart(tmp_path):
    pair(tmp_path)
    write_grpo(tmp_path / "doors" / "rloo" / "seed0", "credit=rloo", "task=doors", summary={"task": "doors"})
    analysis, said, _ = made(tmp_path)
    assert (
        analysis.tasks == ("chain",)
        and "rloo is not compared with uniform: uniform has no run on the task doors" in said
    )


def broken(root: Path) -> None:
    """A folder of each kind that has no place in a comparison."""
    chain = root / "chain"
    sft = [{"step": i, "loss": 1.0, "eval_loss": 1.0, "num_tokens": i} for i in range(1, 9)]
    write_run(chain / "sft_token_mean" / "seed0", sft, task="chain", credit="sft_token_mean", weight="token_mean")
    (chain / "sft_token_mean" / "seed0" / "config.yaml").write_text("weight: {name: token_mean}\n")
    write_run(chain / "lhts" / "seed0", sft, task="chain", credit="lhts_0.7")
    (chain / "lhts" / "seed0" / "config.yaml").write_text("weight: {name: token_mean}\ntau: 0.7\n")
    for name, text in {
        "empty": "", "words": "hello\n[1]\n{}\n7\n", "no steps": '{"reward": 1}\n', "deep": "[" * 9000,
        "no finite": '{"step": 1, "reward": NaN, "num_tokens": 1}\n{"step": 2, "reward": null, "num_tokens": 2}\n',
        "huge": '{"step": 1, "reward": 1' + "0" * 400 + ', "num_tokens": 1}\n{"step": Infinity, "reward": 1}\n',
        "falling": "".join(json.dumps({"step": i, "reward": 1.0, "num_tokens": 90 - i}) + "\n" for i in range(20)),
        "bytes": "\udcff\udcfe\n", "no metric": '{"step": 1, "num_tokens": 1}\n',
    }.items():  # fmt: skip
        folder = write_run(chain / name / "seed0", straight(0.5))
        (folder / "metrics.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    cut = write_run(chain / "cut" / "seed0", straight(0.5))
    (cut / "summary.json").write_text('{"task": "chain", "see')
    odd = write_run(
        chain / "seed" / "run", straight(0.5), seed="x", credit=["a"], task={"name": 3}, seconds="1", versions=[1]
    )
    (odd / "config.yaml").write_text("seed: {a: 1}\ncredit: 7\ntask: [1]\n")
    (chain / "seed" / "nothing here").mkdir()


def test_nothing_that_a_folder_holds_stops_the_report_of_the_others(tmp_path, capsys):
    pair(tmp_path / "runs")
    alone, _, _ = made(tmp_path / "runs")
    broken(tmp_path / "runs")
    shutil.copytree(
        tmp_path / "runs" / "chain" / "uniform" / "seed0", tmp_path / "runs" / "chain" / "uniform" / "seed00"
    )
    analysis, _, more = made(tmp_path / "runs")
    assert analysis.values["final"] == alone.values["final"]
    assert cli.main([str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert "dr_grpo and uniform cannot be told apart" in said
    rows = list(csv.DictReader((tmp_path / "runs" / "report" / "runs.csv").open()))
    reasons = {
        Path(row["folder"]).parent.name + "/" + Path(row["folder"]).name: row["not compared because"] for row in rows
    }
    assert "a run of train_sft.py that logged no `reward`" in reasons["sft_token_mean/seed0"]
    assert "a run of train_lhts.py that logged no `reward`" in reasons["lhts/seed0"]
    assert "with the same numbers" in reasons["uniform/seed00"] and reasons["uniform/seed0"] == ""
    assert "falls from one step to a later one" in reasons["falling/seed0"]
    assert reasons["cut/seed0"] == "it is not finished" and "reward" in reasons["no finite/seed0"]
    page = (tmp_path / "runs" / "report" / "report.html").read_text()
    assert "Not compared" in page and "metrics.jsonl holds no row with a step and numbers" in page
    assert "Left out, since they logged nothing to compare" in more and "Skipped:" in more


def test_runs_of_likelihood_training_are_compared_by_what_they_logged(tmp_path):
    pair(tmp_path)
    broken(tmp_path)
    analysis, _, _ = made(tmp_path, metric="eval_loss")
    assert analysis.arms == ("lhts",)
    (other,) = [one for one in analysis.apart if one.run.arm == "sft_token_mean"]
    assert "command is train_sft.py, lhts's train_lhts.py" in other.reason


def test_one_run_without_held_out_numbers_does_not_refuse_those_of_the_others(tmp_path):
    pair(tmp_path)
    write_grpo(
        tmp_path / "chain" / "dr_grpo" / "seed7",
        "credit=dr_grpo",
        "seed=7",
        summary={"eval_reward_after": float("nan")},
    )
    analysis, _, more = made(tmp_path)
    assert "held_out" not in analysis.values and "No held-out reward is compared, since 1 run without one" in more
    assert len(made(tmp_path, primary="held_out")[0].used) == 4


def test_steps_without_a_finite_reward_are_counted_and_said(tmp_path):
    pair(tmp_path)
    rows = straight(0.5, generated_tokens=1)
    for row in rows:
        row["generated_tokens"] = 60 * row["step"]
        row["reward"] = row["reward"] if row["step"] < 15 else float("nan")
    (tmp_path / "chain" / "uniform" / "seed0" / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )
    assert "logged no finite `reward` in 6 of 20 steps, its last among them" in made(tmp_path)[2]


def test_versions_that_differ_are_said(tmp_path):
    pair(tmp_path, summary={"versions": {"trl": "1.8.0"}})
    for seed in range(2):
        file = tmp_path / "chain" / "uniform" / f"seed{seed}" / "summary.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"versions": {"trl": "1.16.0"}}))
    assert "different versions: trl 1.16.0, 1.8.0" in made(tmp_path)[2]


@pytest.mark.parametrize("manifest", ['{"cells": [{"id": "../../x", "task": "t", "arm": "a", "seed": 0}]}', '{"cells": [{}]}',
                                      '{"cells": 3}', '{"cel', "[]"])  # fmt: skip
def test_manifest_that_is_broken_or_leads_elsewhere_is_not_followed(manifest, tmp_path):
    write_run(tmp_path / "x", straight(9.0))
    write_run(tmp_path / "sweep" / "inner" / "cells" / "one", straight(0.5), task="t", credit="a", seed=0)
    (tmp_path / "sweep" / "inner" / "sweep.json").write_text(manifest)
    study = read_study([tmp_path / "sweep" / "inner"])
    assert [run.folder.name for run in study.runs] == ["one"] and "sweep.json" in study.skipped[0].reason


def test_runs_below_a_folder_called_report_are_found(tmp_path):
    pair(tmp_path / "report" / "runs")
    (tmp_path / "report" / "runs" / "report").mkdir()
    (tmp_path / "report" / "runs" / "report" / "metrics.jsonl").write_text('{"step": 1, "reward": 1}')
    assert len(read_study([tmp_path / "report" / "runs"]).runs) == 4


def test_every_field_of_the_trainer_is_a_factor_or_only_logs():
    only_logs = {name for name in (f.name for f in dataclasses.fields(GRPOConfig)) if is_logging(f"trainer.{name}")}
    assert {"logging_steps", "report_to", "run_name", "save_steps", "disable_tqdm", "hub_token", "log_completions",
            "output_dir", "eval_steps"} <= only_logs  # fmt: skip
    for name in ("learning_rate", "max_steps", "num_train_epochs", "beta", "temperature", "per_device_train_batch_size", "bf16",
                 "loss_type", "lr_scheduler_type", "use_vllm", "dataloader_drop_last", "optim", "num_generations",
                 "max_completion_length", "scale_rewards", "eval_use", "load_best_model_at_end"):  # fmt: skip
        assert name not in only_logs
    assert is_measured("reward.funcs") and is_measured("task.path") and not is_measured("reward.guard.timeout")
    assert not is_measured("task.path", ["task"]) and is_measured("task.path", ["task.pat"])
