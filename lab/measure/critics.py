"""Critics for strategies that ask for `values_BT`: the exact value, an arbitrary one, a fitted one, none.

A baseline V(s_t) must leave the gradient's direction alone whatever the critic; how much noise it
removes depends on it.
Each maps an `Exact` to values_NT: (N, T) float64, a function of the prompt and the tokens before t, 0 at masked positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lab.exact.quantities import Exact


def perfect(exact: Exact) -> Tensor:
    """V(s_t) of the policy itself."""
    return exact.values_NT


def random(exact: Exact, seed: int = 1) -> Tensor:
    """An arbitrary number for each prefix, of the size of the rewards' spread."""
    rewards_N = exact.tree.rewards_N
    noise = torch.randn(exact.tree.nodes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values_NT = rewards_N.mean() + rewards_N.std() * noise[exact.tree.before_NT.clamp(min=0)]
    return values_NT.masked_fill(~exact.tree.mask_NT, 0.0)


def fitted(exact: Exact) -> Tensor:
    """Least squares of the reward on prompt, position and last token: what a small critic can know."""
    tree = exact.tree
    texts, width = tree.mask_NT.shape
    vocabulary, prompts = len(tree.world.vocabulary), exact.prompts
    last_NT = torch.cat([torch.full((texts, 1), vocabulary), tree.token_ids_NT[:, :-1]], dim=1)
    one_hot = torch.nn.functional.one_hot
    features = torch.cat(
        [
            one_hot(tree.prompt_N, prompts)[:, None].expand(-1, width, -1),
            one_hot(torch.arange(width), width)[None].expand(texts, -1, -1),
            one_hot(last_NT, vocabulary + 1),
        ],
        dim=-1,
    ).double()
    root = (exact.probs_N[:, None] * tree.mask_NT).sqrt()[..., None]
    target = (tree.rewards_N[:, None, None] * root).flatten(0, 1)
    weights = torch.linalg.lstsq((features * root).flatten(0, 1), target, driver="gelsd").solution
    return (features @ weights).squeeze(-1).masked_fill(~tree.mask_NT, 0.0)


def zero(exact: Exact) -> Tensor:
    """No critic at all."""
    return torch.zeros_like(exact.values_NT)


CRITICS: dict[str, Callable[[Exact], Tensor]] = {"perfect": perfect, "random": random, "fitted": fitted, "zero": zero}
