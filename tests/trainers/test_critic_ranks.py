"""Two real gloo processes give the critic, and the policy, of one; and the same critic on both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from critics import CASES, farthest, fit_all
from runs import ROOT, environment, run_ranks


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("critics")
    run_ranks(Path(__file__).with_name("critic_ranks.py"), folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    return fit_all()


def test_fsdp2_fits_the_critic_of_one_process_too(alone, tmp_path):
    """The shipped file for FSDP2, on two gloo processes: weights dealt out, states caught whole."""
    text = (ROOT / "configs" / "accelerate" / "fsdp2.yaml").read_text()
    for old, new in {"num_processes: 8": "num_processes: 2", "bf16": "'no'", "use_cpu: false": "use_cpu: true"}.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "fsdp2.yaml").write_text(text)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "fsdp2.yaml")]
    command += ["--main_process_port", "0", str(Path(__file__).with_name("critic_ranks.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        for case, (critic, policy) in torch.load(tmp_path / f"{rank}.pt").items():
            expected, expected_policy = alone[case]
            assert farthest(expected, critic) < 1e-4, case
            assert farthest(expected_policy, policy) < 1e-4, case


@pytest.mark.parametrize("case", [*CASES, "adapter"])
def test_two_ranks_fit_the_critic_of_one_and_hold_it_alike(case, on_two_ranks, alone):
    (critic, policy), (mirror, _), (expected, expected_policy) = (
        on_two_ranks[0][case],
        on_two_ranks[1][case],
        alone[case],
    )
    assert all(torch.equal(critic[name], mirror[name]) for name in critic)
    assert farthest(expected, critic) < 1e-4
    # Names differ by DDP's prefix; the tensors do not.
    ours, theirs = ({n.removeprefix("module."): p for n, p in d.items()} for d in (policy, expected_policy))
    assert farthest(theirs, ours) < 1e-4
