"""The promise: for a fixed set of rollouts the gradient does not depend on how they are cut into ranks and micro-batches,
padded or ordered. Held by every strategy in configs/credit/, and by yours:

    pytest tests/trainers/seam/test_exactness.py --credit mine --config-dir my_configs
    pytest tests/trainers/seam/test_exactness.py --credit "mine credit.spread.power=3" --config-dir my_configs --set trainer.beta=0.1

What happens in the batches, and what is tried with them, stands in tests/support/exact/exactness.py.
"""

from __future__ import annotations

import pytest

from configs.compose import compose_strategy, config_choices
from support.exact.exactness import BATCHES, RANKS, Found, Whole, broken_ways, compared, message, nothing, on_two_ranks
from support.exact.fixed import distance, gradient, made_rollouts
from support.exact.trainer_options import given_options

# Single members beside the named strategies, so that no member goes untested.
MEMBERS = [
    ["credit=dr_grpo", f"credit/{axis}={choice}"]
    for axis in ("baseline", "weight", "ratio")
    for choice in config_choices(f"credit/{axis}")
]
MORE = [
    ["credit=seq_norm", "credit.unit_mass=true"],
    ["credit=rloo", "credit.kl_in_reward=true"],
    ["credit=dr_grpo", "credit/auxiliary=nll"],
    ["credit=value", "credit.kl_in_reward=true", "credit/ratio=sequence"],
    ["credit=value", "credit/spread=value_whitened", "credit.spread.lambda_=0.9"],
    # Providers of signals of one's own, of every shape, read in the loss and over all ranks.
    [
        "credit=dr_grpo",
        "credit.spread._target_=support.exact.providers.spread_over_all",
        "credit.weight._target_=support.exact.providers.weight_by_share",
        "credit.signals=[{_target_: support.exact.providers.shapes}, {_target_: support.exact.providers.share}]",
    ],
]
WHOLE = Whole()


def _wanted(config) -> list[list[str]]:
    """Overrides of the strategies that were asked for; of all of this repository if none was."""
    asked = config.getoption("--credit")
    words = [name.split() for name in asked or config_choices("credit")]
    named = [[first if "=" in first else f"credit={first}", *rest] for first, *rest in words]
    return named if asked else named + MORE


def pytest_generate_tests(metafunc):
    if "overrides" not in metafunc.fixturenames:
        return
    wanted = _wanted(metafunc.config)
    if not metafunc.config.getoption("--credit") and "on_ranks" in metafunc.fixturenames:
        wanted += MEMBERS
    metafunc.parametrize("overrides", wanted, ids=lambda words: ",".join(words))


@pytest.fixture(scope="session")
def given(request):
    return given_options(request.config.getoption("--set"))


@pytest.fixture
def strategy(overrides, request):
    try:
        return compose_strategy(overrides, request.config.getoption("--config-dir"))
    except ValueError as error:
        wrong = str(error)
    pytest.fail(f"{' '.join(overrides)}: {wrong}", pytrace=False)


def test_accumulation_padding_and_order_are_immaterial(strategy, overrides, given, request):
    label, broken, quick = " ".join(overrides), {}, not request.config.getoption("--credit")
    wholes = {batch: WHOLE(label, batch, strategy, given) for batch in BATCHES}
    if batches := nothing(wholes):
        pytest.fail(
            f"{label} learns nothing in batch {', '.join(map(repr, batches))}: its gradient is zero there, so there was nothing to "
            "compare and nothing was shown. The batches hold graded rewards of several functions (tests/support/exact/); look for "
            "credit that cancels, a condition that is never met, or a factor that is 0.",
            pytrace=False,
        )
    for batch in BATCHES:
        for way, where in broken_ways(batch, strategy, wholes[batch], given, quick).items():
            broken.setdefault(way, []).append(where)
    if broken:
        pytest.fail(message(label, broken), pytrace=False)


@pytest.fixture(scope="module")
def on_ranks(request, given, tmp_path_factory):
    """Gradients of all strategies on two gloo processes, from one launch."""
    config = request.config
    wanted = _wanted(config) + ([] if config.getoption("--credit") else MEMBERS)
    cuts = dict(zip(BATCHES, (1, 3), strict=True))
    few = {"with KL": cuts["with KL"]}
    folders = [str(config.invocation_params.dir / folder) for folder in config.getoption("--config-dir")]
    jobs = [
        {
            "number": number,
            "label": " ".join(overrides),
            "overrides": overrides,
            "config_dirs": folders,
            "batches": few if overrides in MEMBERS else cuts,
            "given": given,
        }
        for number, overrides in enumerate(wanted)
    ]
    return on_two_ranks(jobs, tmp_path_factory.mktemp("ranks"))


@pytest.mark.timeout(3000)  # a strategy that hangs costs its launch only
def test_two_real_ranks_give_the_gradient_of_one(strategy, overrides, given, on_ranks):
    label = " ".join(overrides)
    if isinstance(on_ranks[label], str):
        pytest.fail(f"{label} on two processes: {on_ranks[label]}", pytrace=False)
    broken = []
    for batch, found in on_ranks[label].items():
        broken.append(compared(WHOLE(label, batch, strategy, given), Found(*found), batch, RANKS))
    if any(broken):
        pytest.fail(message(label, {"ranks": [where for where in broken if where]}), pytrace=False)


def test_the_promise_can_be_broken():
    """A weight that looks at its micro-batch only is not even expressible; one that TRL normalises per micro-batch is."""
    rollouts = made_rollouts(0)
    whole, cut = (gradient(rollouts, None, a, loss_type="bnpo") for a in (1, 4))
    assert distance(whole, cut) > 1e-3
