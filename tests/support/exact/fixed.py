"""Fixed rollouts for trainer tests, and the loop twin of the gradient they must give."""

from __future__ import annotations

import random

import torch

from support.exact.replay import FixedRollouts, flat, replay_gradient
from support.tiny import LETTERS, tiny_model, tiny_tokenizer

TOKENS = range(3, 3 + len(LETTERS))
EOS = 1


def made_rollouts(seed: int, prompts: int = 4, generations: int = 4, longest: int = 7) -> FixedRollouts:
    """Ragged prompts and completions, binary and graded rewards, one unscorable row, one flat group."""
    rng = random.Random(seed)
    rows = prompts * generations
    rewards: list[float | None] = [rng.choice((0.0, 1.0, round(rng.random(), 2))) for _ in range(rows)]
    rewards[rng.randrange(rows)] = None
    flat_group = rng.randrange(prompts) * generations
    rewards[flat_group : flat_group + generations] = [0.2] * generations
    return FixedRollouts(
        prompt_ids=[[rng.choice(TOKENS) for _ in range(rng.randint(1, 4))] for _ in range(prompts)],
        completion_ids=[[rng.choice(TOKENS) for _ in range(rng.randint(0, longest))] + [EOS] for _ in range(rows)],
        rewards=rewards,
    )


def gradient(rollouts: FixedRollouts, credit, accumulation: int = 1, **options) -> torch.Tensor:
    return flat(replay_gradient(tiny_model(), tiny_tokenizer(), rollouts, credit, accumulation, **options))


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative difference; against the larger, so that two zero gradients are equal."""
    size = max(one.norm().item(), other.norm().item())
    return (one - other).norm().item() / size if size else 0.0
