"""An audit of a world whose texts are all written down: batches are drawn as a model would sample them, and the truth is known.

What is drawn and scored here is what `lab.measure` enumerates, in float64 and without TRL: the intervals of an audit are tried on it.

Shapes: n batches, D parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from credit.strategy import Strategy
from lab.exact.quantities import Exact
from lab.measure.batches import itemise, sampled_batches
from lab.measure.estimate import rloo
from lab.measure.moments import moments
from lab.measure.scoring import Scorer
from trainers.audit.collected import Collected

REFERENCE, LENGTH = "rloo", "length"


def drawn(
    learner: Exact,
    strategies: Mapping[str, Strategy],
    batches: int,
    group_size: int = 4,
    critic: str = "perfect",
    seed: int = 0,
) -> Collected:
    """Audits some strategies on the same completions, a group for each prompt of the world in every batch. The reference and the
    push on length are added.

    Raises:
        ValueError: a strategy needs what the lab has not.
    """
    with_reference = {REFERENCE: rloo(), **strategies}
    gradients = {
        name: batch_gradients(learner, strategy, batches, group_size, critic, seed)
        for name, strategy in with_reference.items()
    }
    gradients[LENGTH] = batch_gradients(_paid_by_length(learner), rloo(), batches, group_size, critic, seed)
    return collect(gradients, learner.prompts * group_size, group_size)


def collect(gradients: Mapping[str, Tensor], completions: int, generations: int) -> Collected:
    """The record of gradients of single batches, (n, D) of each strategy."""
    stacked_SnD = torch.stack(list(gradients.values()))
    strategies, batches, parameters = stacked_SnD.shape
    flat = stacked_SnD.flatten(0, 1)
    return Collected(
        strategies=tuple(gradients),
        reference=REFERENCE,
        length=LENGTH if LENGTH in gradients else None,
        gram_SBSB=(flat @ flat.T).view(strategies, batches, strategies, batches),
        completions=completions,
        generations=generations,
        sketch={"kind": "exact", "size": parameters, "parameters": parameters},
    )


def batch_gradients(
    learner: Exact, strategy: Strategy, batches: int, group_size: int = 4, critic: str = "perfect", seed: int = 0
) -> Tensor:
    """(n, D) gradients of batches that the policy drew; the same texts for every strategy and the same seed.

    Raises:
        ValueError: the strategy needs what the lab has not.
    """
    scorer = Scorer(strategy, learner, critic=critic)
    coupling = scorer.coupling(learner.prompts, group_size)
    items = itemise(learner, learner, tell_texts_apart=True)
    coupled = coupling.level == "batch"
    blocks = sampled_batches(items, learner.prompts, group_size, batches, seed, coupled)
    return torch.stack(moments(scorer, items, blocks, coupling, keep_estimates=True).estimates).sum(dim=0)


def length_gradients(learner: Exact, batches: int, group_size: int = 4, seed: int = 0) -> Tensor:
    """(n, D) as `batch_gradients`, of the leave-one-out strategy with the length as its reward."""
    return batch_gradients(_paid_by_length(learner), rloo(), batches, group_size, seed=seed)


def _paid_by_length(learner: Exact) -> Exact:
    """The same policy in a world whose reward is the length."""
    tree = copy.copy(learner.tree)
    tree.rewards_N = tree.lengths_N.double()
    tree.rewards_NK = tree.rewards_N[:, None]
    return Exact(tree, learner.policy, learner.theta)
