"""Runs killed by SIGKILL at random moments, again and again, and resumed: the same weights, metrics and records as the run
that nobody touched. Over strategies, critics, several epochs, LoRA, likelihood training and LHTS."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from support.killing import ForkServer, RealCommands, random_doom
from support.runs import LIVELY, SMALL, lasting_rows
from trainers.run.files import read_metrics

KILLS = 8  # of each arm: 14 arms, 112 kills; and 4 of each of the two that start a new interpreter for every life
# 2 prompts a step of 8: epochs of 4 steps, three of them and a half.
ONLINE = [
    *[each for each in SMALL if not each.startswith("task.n_train")],
    LIVELY,
    "task.n_train=8",
    "trainer.max_steps=14",
    "trainer.save_steps=2",
    "trainer.save_total_limit=1",
    "trainer.eval_strategy=steps",
    "trainer.eval_steps=5",
    "trainer.learning_rate=1e-2",
    "record.every=3",
]
TEXTS = [
    "model.hidden=16",
    "model.layers=1",
    "model.heads=2",
    "model.intermediate=16",
    "model.pretrain.steps=2",
    "task.n_train=40",
    "trainer.max_steps=14",
    "trainer.save_steps=2",
    "trainer.per_device_train_batch_size=8",
    "probe=2",
    "show=0",
]
HELD_OUT = ["trainer.eval_strategy=steps", "trainer.eval_steps=5", "eval_examples=4"]
ONE = "trainer.gradient_accumulation_steps=1"
ARMS = {
    "uniform": ["credit=uniform"],
    "dr_grpo, batches of several steps": [
        "credit=dr_grpo",
        "trainer.steps_per_generation=2",
        "trainer.logging_steps=3",
    ],
    "seq_norm, two passes": ["credit=seq_norm", "trainer.num_iterations=2", "trainer.gradient_accumulation_steps=2"],
    "opo, rows of metrics over three steps": ["credit=opo", "trainer.logging_steps=3", "trainer.beta=0.05"],
    "a strategy that remembers": ["credit=remembering"],
    "value head": ["credit=value", "credit.critic.learning_rate=1e-2", "credit.critic_warmup_steps=3"],
    "value of prompts, a model of its own": ["credit=value_prompt", "credit/critic=separate"],
    "ridge": ["credit=value", "credit/critic=ridge"],
    "decomposition": ["credit=decomposition"],
    "adapter": ["credit=value", "credit/critic=adapter", "model=hf", "model/peft=lora", ONE],
    "likelihood": ["train_sft.py", "weight=seq_mean", "trainer.logging_steps=3", *HELD_OUT],
    "likelihood, packed": ["train_sft.py", "weight=token_mean", "trainer.packing=true", "trainer.max_length=64"],
    "LHTS": ["train_lhts.py", "tau=0.6", "max_new_tokens=12"],
    "LHTS over a range of tau": ["train_lhts.py", "tau=[0.5,1.0]", "max_new_tokens=12"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPORTION_CACHE", str(tmp_path_factory.mktemp("cache")))
        with ForkServer() as server:
            yield server


@pytest.fixture(scope="module")
def base(server, tmp_path_factory) -> Path:
    """A model folder for the arms that start from one."""
    folder = tmp_path_factory.mktemp("base")
    command = [*ONLINE, "credit=dr_grpo", "trainer.max_steps=1", f"run_dir={folder / 'run'}"]
    assert server.live("train_grpo.py", command, folder / "log") == 0, (folder / "log").read_text()[-3000:]
    return folder / "run" / "model"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arm", ARMS)
def test_a_run_killed_again_and_again_is_the_run_that_nobody_touched(arm, server, base, tmp_path):
    script, choices = _command(arm, base, tmp_path)
    _die_again_and_again(arm, server, script, choices, tmp_path, KILLS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks", [1, 2])
def test_so_is_the_command_in_an_interpreter_of_its_own(ranks, base, tmp_path, monkeypatch):
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "cache"))
    script, choices = _command("a strategy that remembers", base, tmp_path)
    choices += ["trainer.per_device_train_batch_size=4"] if ranks == 2 else []
    _die_again_and_again(f"{ranks} interpreters", RealCommands(ranks), script, choices, tmp_path, 4)


def _die_again_and_again(arm: str, lives, script: str, choices: list[str], folder: Path, wanted: int) -> None:
    whole = folder / "whole"
    seconds = _timed(lambda: _alive(lives, script, [*choices, f"run_dir={whole}"], folder / "whole.log"))
    dice = random.Random(arm)  # the moments follow from the name
    kills, run, deaths = 0, 0, []
    while kills < wanted:
        run += 1
        cut, log = folder / f"cut{run}", folder / f"cut{run}.log"
        command = [*choices, f"run_dir={cut}", "resume=true"]
        for _ in range(min(3, wanted - kills)):
            status = lives.live(script, command, log, random_doom(dice, cut, seconds))
            if status == 0:
                break  # it was finished before its moment came
            assert status == -9, log.read_text()[-3000:]
            kills += 1
            deaths.append(_stage(cut))
        if not (cut / "summary.json").exists():
            _alive(lives, script, command, log)
        assert run < 4 * wanted, "runs end before they can be killed"
        _assert_same(whole, cut)
    print(f"{arm}: {kills} kills of {run} runs, seed {arm!r}, at {deaths}")


def _command(arm: str, base: Path, folder: Path) -> tuple[str, list[str]]:
    chosen = ARMS[arm]
    if chosen[0].endswith(".py"):
        return chosen[0], [*TEXTS, *chosen[1:]]
    general = ONLINE
    if "model=hf" in chosen:
        general = [*(each for each in ONLINE if not each.startswith("model.")), f"model.name={base}"]
    if arm == "a strategy that remembers":
        credit = folder / "mine" / "credit"
        credit.mkdir(parents=True)
        text = "# mine\ndefaults: [dr_grpo, _self_]\nname: mine\nbaseline:\n  _target_: tests.remembering.RunningMean\n"
        (credit / "remembering.yaml").write_text(text)
        return "train_grpo.py", [*general, *chosen, "--config-dir", str(folder / "mine")]
    return "train_grpo.py", [*general, *chosen]


def _alive(lives, script: str, command: list[str], log: Path) -> None:
    assert lives.live(script, command, log) == 0, log.read_text()[-3000:]


def _timed(action) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _stage(folder: Path) -> str:
    """How far a run had come when it died."""
    if (folder / "summary.json").exists():
        return "done"
    if (folder / "model").is_dir():
        return "ending"
    rows = read_metrics(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
    return f"step {rows[-1]['step']}" if rows else "start"


def _assert_same(whole: Path, cut: Path) -> None:
    assert lasting_rows(whole) == lasting_rows(cut)
    assert any(row.get("grad_norm", 0) > 0 for row in lasting_rows(whole)), "nothing was learnt"
    files = sorted(path.relative_to(whole) for path in (whole / "model").rglob("*.safetensors"))
    assert files and files == sorted(path.relative_to(cut) for path in (cut / "model").rglob("*.safetensors"))
    for name in files:
        ours, theirs = load_file(whole / name), load_file(cut / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    records = sorted(path.name for path in (whole / "records").glob("*.parquet"))
    assert records == sorted(path.name for path in (cut / "records").glob("*.parquet"))
    assert all(
        pq.read_table(whole / "records" / name).equals(pq.read_table(cut / "records" / name)) for name in records
    )
