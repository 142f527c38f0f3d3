"""Two real gloo processes give the critic, and the policy, of one; and the same critic on both."""

from __future__ import annotations

import pytest
import torch

from support.critics import CASES, farthest, fit_all
from support.runs import RANKS, run_ranks

pytestmark = pytest.mark.slow  # .ci/run has them


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("critics")
    run_ranks(RANKS / "critic.py", folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    return fit_all()


def test_states_are_caught_whole_from_a_policy_that_fsdp2_deals_out():
    """accelerate shards on accelerators only, so FSDP2 itself is tried here, below the trainer."""
    run_ranks(RANKS / "sharded_states.py")


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
