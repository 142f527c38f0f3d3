"""What a strategy remembers when it is measured: the state it has after it has seen the world's prompts for a while.

Shapes: N texts of a world, R rows of a batch, n batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.strategy import Strategy
from lab.exact.quantities import Exact

BATCHES, GROUP_SIZE = 64, 4


def remembers(strategy: Strategy) -> bool:
    """Whether a member says that it keeps state, by `state_dict` and `load_state_dict`."""
    members = (strategy.baseline, strategy.spread, strategy.weight, strategy.ratio)
    return any(callable(getattr(each, "load_state_dict", None)) for each in members)


def earlier_batches(policy: Exact, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Texts of `BATCHES` batches that the policy might have written before, and the groups of their rows."""
    tree, generator = policy.tree, torch.Generator().manual_seed(seed)
    prompt_R = torch.arange(policy.prompts).repeat(GROUP_SIZE)
    prob_RN = policy.probs_N * (tree.prompt_N == prompt_R[:, None])
    drawn_Rn = torch.multinomial(prob_RN, BATCHES, replacement=True, generator=generator)
    return list(drawn_Rn.T), prompt_R
