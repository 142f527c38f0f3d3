"""Commands in messages are those of the installation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainers.command.cli import help_text
from trainers.command.world_size import REMEDY, check_launch
from userio import commands, tracebacks


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(commands, "IN_CHECKOUT", False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `python sweep.py credit=a,b`.", "run `apportion sweep credit=a,b`."),
        ("accelerate launch train_grpo.py credit=a", "accelerate launch -m apportion.train_grpo credit=a"),
        ("`torchrun --nproc_per_node 2 train_sft.py ...`", "`torchrun --nproc_per_node 2 -m apportion.train_sft ...`"),
        ("train_lhts.py: sample.py writes texts", "train_lhts.py: sample.py writes texts"),
        ("There is configs/accelerate/.", 'There is "$(apportion configs)"/accelerate/.'),
        ("/a/configs/accelerate/cpu.yaml my_train_grpo.py", "/a/configs/accelerate/cpu.yaml my_train_grpo.py"),
    ],
)
def test_a_command_is_given_as_it_can_be_given(installed, text, shown):
    assert commands.as_installed(text) == shown


def test_nothing_is_rewritten_in_a_checkout():
    assert commands.IN_CHECKOUT and commands.as_installed(REMEDY) is REMEDY


def test_help_and_refusals_are_rewritten(installed):
    said = [help_text(name) for name in ("train_grpo", "train_sft", "train_lhts", "sample")]
    try:
        check_launch(wanted=99)
    except ValueError as error:
        said.append(tracebacks.explain(error.with_traceback(error.__traceback__.tb_next)))  # less our frame
    for text in said:
        assert "apportion" in text and " configs/accelerate" not in text
        assert not any(
            f"{start} {name}.py" in text for start in ("launch", "python") for name in ("train_grpo", "sample")
        )


WORDS = ["credit=value", "overwrite=true", "reward.funcs=[my rewards.py:f]"]


@pytest.mark.parametrize(
    "parent, ours, argv, said",
    [
        ([], ["/usr/bin/python3.12", "train.py", *WORDS], ["train.py", *WORDS], "python train.py"),
        ([], ["/v/bin/python", "/v/bin/apportion", "t", *WORDS], ["apportion t", *WORDS], "apportion t"),
        (["/v/bin/python3", "/v/bin/accelerate", "launch", "--num_processes", "2", "train.py", *WORDS],
         ["/v/bin/python3", "-u", "train.py", *WORDS], ["train.py", *WORDS], "accelerate launch --num_processes 2 train.py"),
        (["python", "-m", "torch.distributed.run", "train.py", *WORDS], ["python", "train.py", *WORDS], ["train.py", *WORDS],
         "python -m torch.distributed.run train.py"),
        (["bash", "launch", "all.sh"], ["python", "train.py", *WORDS], ["train.py", *WORDS], "python train.py"),
    ],
)  # fmt: skip
def test_a_command_is_given_back_with_its_launcher(parent, ours, argv, said, monkeypatch):
    above = SimpleNamespace(cmdline=lambda: parent)
    monkeypatch.setattr("psutil.Process", lambda: SimpleNamespace(parent=lambda: above))
    monkeypatch.setattr("sys.orig_argv", ours)
    monkeypatch.setattr("sys.argv", argv)
    again = commands.this_command(["resume=true"], without=("resume", "overwrite"))
    assert again == f"{said} credit=value 'reward.funcs=[my rewards.py:f]' resume=true"
