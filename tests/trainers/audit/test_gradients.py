"""The gradient that the audit finds is the one that `loss.backward()` of the real trainer gives, of every shipped strategy."""

from __future__ import annotations

import json
import tempfile
from functools import cache

import pytest
import torch

from configs.compose import compose_strategy, config_choices
from support.exact.audits import audit_trainer, found_on
from support.exact.exactness import fresh, gradients, options_of, reference, rich_rollouts
from support.tiny import tiny_model

DRIFT = 0.05  # away from the reference, so that the KL term has a gradient
SHIPPED = config_choices("credit")
# One of each kind for every run of the tests: whole rows, spans, a critic's live values, a live weight, state between batches.
QUICK = ("seq_norm", "spans", "value", "taco", "prompt_ema")


def options_for(name: str) -> dict:
    options = options_of("with KL", compose_strategy([f"credit={name}"]))
    return {key: value for key, value in options.items() if key not in ("drift", "max_steps", "num_iterations")}


@cache
def audited(options: str, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """All of these strategies that run under these options, in one audit."""
    names = [name for name in names if json.dumps(options_for(name)) == options]
    strategies = {name: fresh(compose_strategy([f"credit={name}"])) for name in names}
    model = tiny_model()
    model.config._name_or_path = reference().name
    with tempfile.TemporaryDirectory() as folder:
        trainer = audit_trainer(strategies, rich_rollouts(1), folder, 2, model, **json.loads(options))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_((DRIFT * noise).to(parameter))
        found = found_on(trainer)
    return dict(zip(names, found.sketches_SK, strict=True))


@pytest.mark.parametrize("name", QUICK)
def test_the_gradient_is_that_of_the_trainers_backward(name):
    assert_same_gradient(name, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in QUICK])
def test_so_is_that_of_every_other_shipped_strategy(name):
    assert_same_gradient(name, tuple(SHIPPED))


def assert_same_gradient(name: str, beside: tuple[str, ...]) -> None:
    """The trainer puts all rows through at once, the audit in two parts."""
    step = dict(num_iterations=1, max_steps=1, drift=(DRIFT,))
    found = gradients("with KL", compose_strategy([f"credit={name}"]), **step)
    (real,), (push,) = found.gradients, found.pushes
    mine = audited(json.dumps(options_for(name)), beside)[name]
    size = max(real.norm().item(), 0.01 * push)
    assert size > 1e-6
    assert (mine + real).norm() / size < 1e-5
