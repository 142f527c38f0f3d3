"""Strategies with critics whose values are not all the same, and one optimiser step on rollouts that are given."""

from __future__ import annotations

import tempfile

import torch
from peft import LoraConfig

from credit import Strategy
from credit.baseline import none
from credit.critic import AdapterSpec, CriticSpec, DecompositionSpec, HeadSpec, RidgeSpec, SeparateSpec
from credit.spread import Value, ValueWhitened
from credit.weight import constant
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.tiny import tiny_model, tiny_tokenizer

# Random first weights, so that values differ from token to token from the first step on.
HEAD = HeadSpec(init_std=0.5, learning_rate=0.1)
RUNNING = HeadSpec(init_std=0.5, running=True, level=True, mlp=6, learning_rate=0.1)
BOUNDED = HeadSpec(init_std=0.5, level=True, loss="cross_entropy", learning_rate=0.1)
PROMPT = HeadSpec(init_std=0.5, at="prompt", learning_rate=0.1)
SEPARATE = SeparateSpec(init_std=0.5, learning_rate=0.01)
ADAPTER = AdapterSpec(init_std=0.5, learning_rate=0.1, rank=2)
RIDGE = RidgeSpec(running=True)
DECOMPOSITION = DecompositionSpec(features=32)


def value(critic: CriticSpec = HEAD, **options) -> Strategy:
    return Strategy(constant, none, options.pop("spread", Value()), critic=critic, name="value", **options)


def whitened(critic: CriticSpec = HEAD) -> Strategy:
    return value(critic, spread=ValueWhitened(lambda_=0.9))


CASES = {
    "head": lambda: value(HEAD),
    "lambda": lambda: value(HEAD, spread=Value(lambda_=0.9, gamma=0.99)),
    "running": lambda: value(RUNNING),
    "bounded": lambda: value(BOUNDED),
    "prompt": lambda: value(PROMPT),
    "separate": lambda: value(SEPARATE),
    "whitened": lambda: whitened(HEAD),
    "ridge": lambda: value(RIDGE),
    "decomposition": lambda: value(DECOMPOSITION),
    "shared": lambda: value(HeadSpec(init_std=0.5, learning_rate=0.1, detach=False, coefficient=0.5)),
}


def fit(strategy: Strategy, accumulation: int = 1, seed: int = 0, **options):
    """One or more optimiser steps on `rollouts`, default `made_rollouts(seed)`; returns the trainer, after training."""
    rollouts = options.pop("rollouts", None) or made_rollouts(seed)
    model, observe = options.pop("model", None) or tiny_model(), options.pop("observe", None)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (model, tiny_tokenizer(), rollouts, strategy, folder, accumulation)
        trainer = replay_trainer(*arguments, **({"learning_rate": 1e-2} | options))
        if observe:
            trainer.credit_observers.append(observe)
        trainer.train()
    return trainer


def learned(trainer) -> dict[str, torch.Tensor]:
    """The critic's tensors after training."""
    return {name: tensor.detach().clone() for name, tensor in trainer.critic.tensors.items()}


def farthest(one: dict, other: dict) -> float:
    """Largest relative difference between tensors of the same name."""
    assert one.keys() == other.keys()
    return max(
        ((one[name] - other[name]).double().norm() / one[name].double().norm().clamp(min=1e-12)).item() for name in one
    )


def fit_all() -> dict[str, tuple[dict, dict]]:
    """Two optimiser steps with each kind of critic: name -> (the critic's tensors, the policy's parameters)."""
    found = {}
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    for name, made in {**CASES, "adapter": lambda: value(ADAPTER)}.items():
        options = {"peft_config": lora} if name == "adapter" else {}
        trainer = fit(made(), accumulation=2, max_steps=2, seed=3, **options)
        found[name] = learned(trainer), {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    return found
