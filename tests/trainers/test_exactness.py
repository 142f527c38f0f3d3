"""The promise: for a fixed set of rollouts the gradient does not depend on how they are cut into ranks and micro-batches,
padded or ordered. Held by every strategy in configs/credit/, and by yours:

    pytest tests/trainers/test_exactness.py --credit mine --config-dir my_configs
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixed import distance, gradient, made_rollouts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import run_ranks

from trainers.compose import compose_strategy, config_choices

FLOAT32 = 1e-5
SEEDS = (0, 1)
# Single members beside the named strategies, so that no member goes untested.
MEMBERS = [
    ["credit=dr_grpo", f"credit/{axis}={choice}"]
    for axis in ("baseline", "weight", "ratio")
    for choice in config_choices(f"credit/{axis}")
]


def pytest_generate_tests(metafunc):
    if "overrides" not in metafunc.fixturenames:
        return
    names = metafunc.config.getoption("--credit") or list(config_choices("credit"))
    wanted = [name.split() for name in names]
    wanted = [[words[0] if "=" in words[0] else f"credit={words[0]}", *words[1:]] for words in wanted]
    if not metafunc.config.getoption("--credit") and metafunc.function.__name__ in _ALSO_MEMBERS:
        wanted += MEMBERS + [["credit=seq_norm", "credit.unit_mass=true"]]
    metafunc.parametrize("overrides", wanted, ids=lambda words: ",".join(words))


_ALSO_MEMBERS = {"test_two_real_ranks_give_the_gradient_of_one"}


@pytest.fixture
def strategy(overrides, request):
    return compose_strategy(overrides, request.config.getoption("--config-dir"))


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(10, 10_000))
def test_accumulation_padding_and_order_are_immaterial(strategy, overrides, seed):
    rollouts = made_rollouts(seed)
    whole = gradient(rollouts, strategy)
    for other in (
        gradient(rollouts, strategy, accumulation=4),
        gradient(rollouts, strategy, accumulation=2, pad_to_multiple_of=8),
        gradient(rollouts.permuted([2, 0, 3, 1]), strategy),
    ):
        assert distance(whole, other) < FLOAT32


@pytest.fixture(scope="module")
def on_two_ranks(request, tmp_path_factory):
    """Gradients of all strategies on two gloo processes, from one launch."""
    names = request.config.getoption("--credit") or list(config_choices("credit"))
    wanted = [
        [f"credit={name.split()[0]}" if "=" not in name.split()[0] else name.split()[0], *name.split()[1:]]
        for name in names
    ]
    if not request.config.getoption("--credit"):
        wanted += MEMBERS + [["credit=seq_norm", "credit.unit_mass=true"]]
    job = tmp_path_factory.mktemp("ranks") / "job.json"
    folders = [str(Path(folder).resolve()) for folder in request.config.getoption("--config-dir")]
    job.write_text(json.dumps({"strategies": wanted, "seeds": SEEDS, "accumulations": [1, 2], "config_dirs": folders}))
    run_ranks(Path(__file__).with_name("exactness_ranks.py"), job)
    return torch.load(job.with_suffix(".pt"))


def test_two_real_ranks_give_the_gradient_of_one(strategy, overrides, on_two_ranks):
    for seed in SEEDS:
        alone = gradient(made_rollouts(seed), strategy)
        for accumulation in (1, 2):
            assert distance(alone, on_two_ranks[f"{' '.join(overrides)}|{seed}|{accumulation}"]) < FLOAT32


def test_the_promise_can_be_broken():
    """A weight that looks at its micro-batch only is not even expressible; one that TRL normalises per micro-batch is."""
    rollouts = made_rollouts(0)
    whole, cut = (gradient(rollouts, None, a, loss_type="bnpo") for a in (1, 4))
    assert distance(whole, cut) > 1e-3
