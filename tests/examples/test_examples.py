"""The examples run as they stand, a step or two of each, on a model that was hardly trained."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import trl

import apportion
from compare.view.__main__ import Request, build_view
from configs.compose import compose_strategy
from support.tiny import tiny_model
from trainers.model.embedded import byte_tokenizer, embedded

HOME = Path(apportion.__file__).resolve().parent.parent
EXAMPLES = HOME / "examples"
TRAINED = ["own_reward", "own_strategy", "peft_lora", "viewer_records"]
NEW = [name if name == "own_strategy" else pytest.param(name, marks=pytest.mark.slow) for name in TRAINED]


@pytest.fixture
def here(tmp_path, monkeypatch):
    def hardly(task, **settings):
        return embedded(task, pretrain={"steps": 1, "batch": 4}, cache_dir=tmp_path / "cache")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(apportion, "embedded", hardly)
    return tmp_path


def run(name: str, monkeypatch, *arguments: str):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")["trainer"]


def cells() -> list[str]:
    notebook = json.loads((EXAMPLES / "first_hour.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "saved without outputs"
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name", NEW)
def test_an_example_trains(here, monkeypatch, name):
    trainer = run(name, monkeypatch, "1")
    assert trainer.state.global_step == 1 and trainer.credit.name
    rows = [row for row in trainer.state.log_history if "reward" in row]
    assert rows and all(math.isfinite(row["reward"]) for row in rows)
    if name == "viewer_records":
        assert build_view(Request(here / "runs" / "viewer_records"))["steps"]
    if name == "peft_lora":
        assert (here / "runs" / "peft_lora" / "model" / "adapter_model.safetensors").is_file()
    if name == "own_reward":
        assert "rewards/brief/mean" in rows[0]


def test_every_example_is_tried_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*TRAINED, "tools", "two_processes"}


def test_the_strategy_of_the_example_is_named_by_its_file(monkeypatch):
    monkeypatch.chdir(HOME)
    strategy = compose_strategy(["credit=examples/own_strategy.py:late", "credit.spread.power=2"])
    assert strategy.name == "late" and strategy.spread.keywords == {"power": 2}


def test_the_notebook_shows_what_strategies_disagree_about(here):
    names: dict = {}
    for cell in cells()[:3]:
        exec(cell, names)
    push = names["push"]
    long, short = push["seq_norm"][0, 0], push["seq_norm"][2, 0]
    assert 0 < long < short, "length-normalised: a token of the longer answer counts less"
    assert push["dr_grpo"][0, 0] == push["dr_grpo"][2, 0] != 0
    assert push["late"][0, 0] < push["late"][0, 5]


@pytest.mark.slow
def test_the_notebook_runs_to_its_end(here):
    names: dict = {}
    for cell in cells():
        exec(cell.replace("STEPS = 10", "STEPS = 1"), names)
    assert names["trainer"].state.global_step == 1 and build_view(Request(here / "runs" / "notebook"))["steps"]


@pytest.mark.slow
def test_tools_on_a_model_of_random_weights(here, monkeypatch):
    pytest.importorskip("jmespath")
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    template = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    tiny_model(vocab_size=len(tokenizer), max_position_embeddings=4096, **ends).save_pretrained(here / "model")
    tokenizer.save_pretrained(here / "model")
    assert run("tools", monkeypatch, str(here / "model"), "1").state.global_step == 1


@pytest.mark.slow
def test_two_processes(tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file"]
    launch += [str(HOME / "configs" / "accelerate" / "cpu_2.yaml"), "--main_process_port", "0"]
    environment = os.environ | {"PYTHONPATH": str(HOME), "ACCELERATE_USE_CPU": "true"}
    script = [str(EXAMPLES / "two_processes.py"), "1"]
    done = subprocess.run([*launch, *script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "2 processes, 1 steps" in done.stdout, done.stderr[-2000:]
