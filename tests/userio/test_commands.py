"""Commands in messages are those of the installation."""

from __future__ import annotations

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
