"""Which batches to look at, with what probability: all of them where that fits, else a sample.

Texts that a strategy cannot tell apart are one *item* (same prompt, reward and mask); batches that differ only in the
order within a group are one batch with a multinomial probability. Both are exact: inside an item, means and variances
of the scores are known (`Items`).

Shapes: n batches, R rows of a batch, G rows of a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lab.exact.quantities import Exact


@dataclass
class Items:
    """Texts a strategy cannot tell apart, put together. `scores` belong to the learner, probabilities to the sampler.

    Attributes:
        text_I: one text of each item. prompt_I, prob_I: its prompt, its probability within the prompt.
        item_N: the item of each text.
        mean_ITD: expected score of each token. spread_ITT: expected inner product of the deviations from it.
        ideal_NT: A* of each text; ideal_IT, ideal_square_IT: expected A* and A*^2 of an item.
        deciding_IT: probability that the token is a deciding one.
        mask_IT: bool.
    """

    text_I: Tensor
    prompt_I: Tensor
    prob_I: Tensor
    item_N: Tensor
    share_N: Tensor
    mean_ITD: Tensor
    spread_ITT: Tensor
    ideal_NT: Tensor
    ideal_IT: Tensor
    ideal_square_IT: Tensor
    deciding_IT: Tensor
    mask_IT: Tensor

    def of_prompt(self, prompt: int) -> Tensor:
        """Item indices of one prompt."""
        return torch.nonzero(self.prompt_I == prompt).flatten()


def itemise(learner: Exact, sampler: Exact, tell_texts_apart: bool) -> Items:
    """Items of a world; each text its own item if `tell_texts_apart`."""
    tree = learner.tree
    texts, width = tree.mask_NT.shape
    if tell_texts_apart:
        item_N = torch.arange(texts)
    else:
        look = torch.cat([tree.prompt_N[:, None].double(), tree.rewards_NK, tree.mask_NT.double()], dim=1)
        # Rewards that differ by rounding only look the same.
        item_N = torch.unique(look.mul(2**32).round(), dim=0, return_inverse=True)[1]
    items = int(item_N.max()) + 1
    prob_I = torch.zeros(items, dtype=torch.float64).index_add_(0, item_N, sampler.probs_N)
    share_N = sampler.probs_N / prob_I[item_N]
    text_I = torch.full((items,), texts).scatter_reduce_(0, item_N, torch.arange(texts), "amin")

    def expected(values_N: Tensor) -> Tensor:
        weighted_N = values_N * share_N.view(-1, *[1] * (values_N.dim() - 1))
        return torch.zeros(items, *values_N.shape[1:], dtype=torch.float64).index_add_(0, item_N, weighted_N)

    if tell_texts_apart:
        mean_ITD, spread_ITT = learner.scores_NTD, torch.zeros(texts, width, width, dtype=torch.float64)
    else:
        mean_ITD, spread_ITT = learner.expected_scores(item_N, share_N, items)
    return Items(
        text_I=text_I,
        prompt_I=tree.prompt_N[text_I],
        prob_I=prob_I,
        item_N=item_N,
        share_N=share_N,
        mean_ITD=mean_ITD,
        spread_ITT=spread_ITT,
        ideal_NT=learner.advantages_NT,
        ideal_IT=expected(learner.advantages_NT),
        ideal_square_IT=expected(learner.advantages_NT.square()),
        deciding_IT=expected(tree.deciding_NT.double()),
        mask_IT=tree.mask_NT[text_I],
    )


@dataclass
class Block:
    """Batches of independent rows. The gradient estimate of a batch is the sum over the blocks of a plan.

    Attributes:
        items_nR: item of each row. prob_n: probability, summing to 1. group_R: prompt group of each row.
        share: part of the whole batch's rows that this block holds (one group of P: 1 / P).
        copies: how many such independent pieces the batch holds.
    """

    items_nR: Tensor
    prob_n: Tensor
    group_R: Tensor
    share: float
    copies: int = 1


def enumerated_groups(items: Items, prompt: int, size: int) -> tuple[Tensor, Tensor]:
    """All multisets of `size` items of a prompt, (n, size), and their multinomial probabilities."""
    pool = items.of_prompt(prompt)
    index_nG = multisets(len(pool), size)
    log_prob_nG = items.prob_I[pool].log()[index_nG]
    repeats = (index_nG[:, :, None] == index_nG[:, None, :]).sum(dim=-1)
    # prod over distinct items of 1 / count! = exp(-sum over rows of lgamma(count + 1) / count)
    log_ways_n = math.lgamma(size + 1) - (torch.lgamma(repeats.double() + 1) / repeats).sum(dim=1)
    return pool[index_nG], (log_prob_nG.sum(dim=1) + log_ways_n).exp()


def count_groups(items: Items, prompt: int, size: int) -> int:
    """How many multisets `enumerated_groups` returns."""
    return math.comb(len(items.of_prompt(prompt)) + size - 1, size)


def multisets(count: int, size: int) -> Tensor:
    """(n, size) all non-decreasing index vectors."""
    rows = np.arange(count)[:, None]
    for _ in range(size - 1):
        repeat = count - rows[:, -1]
        start = np.repeat(rows[:, -1], repeat)
        offset = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        rows = np.concatenate([np.repeat(rows, repeat, axis=0), (start + offset)[:, None]], axis=1)
    return torch.from_numpy(rows)


def every_row(items: Items, prompts: int, size: int) -> list[Block]:
    """One block for each prompt, of single rows: for strategies whose rows do not look at each other."""
    alone = torch.zeros(1, dtype=torch.long)
    pools = [items.of_prompt(prompt) for prompt in range(prompts)]
    return [Block(pool[:, None], items.prob_I[pool], alone, 1 / (prompts * size), size) for pool in pools]


def every_group(items: Items, prompts: int, size: int) -> list[Block]:
    """One block for each prompt: for strategies without coupling between groups."""
    group_R = torch.zeros(size, dtype=torch.long)
    return [Block(*enumerated_groups(items, prompt, size), group_R, 1 / prompts) for prompt in range(prompts)]


def every_batch(items: Items, prompts: int, size: int) -> list[Block]:
    """One block of whole batches: all combinations of the prompts' groups. Rows are interleaved."""
    items_nR, prob_n = torch.zeros(1, 0, dtype=torch.long), torch.ones(1, dtype=torch.float64)
    for prompt in range(prompts):
        group_mG, prob_m = enumerated_groups(items, prompt, size)
        before, after = len(prob_n), len(prob_m)
        left = items_nR.repeat_interleave(after, dim=0)
        items_nR = torch.cat([left, group_mG.repeat(before, 1)], dim=1)
        prob_n = (prob_n[:, None] * prob_m).flatten()
    return [_interleaved(items_nR, prob_n, prompts, size)]


def sampled_batches(items: Items, prompts: int, size: int, number: int, seed: int, coupled: bool) -> list[Block]:
    """Batches drawn from the sampler, text by text the same for every strategy (common random numbers)."""
    generator = torch.Generator().manual_seed(seed)
    prob_N, prompt_N = items.prob_I[items.item_N] * items.share_N, items.prompt_I[items.item_N]
    groups = []
    for prompt in range(prompts):
        weights_N = prob_N.masked_fill(prompt_N != prompt, 0.0)
        draw = torch.multinomial(weights_N, number * size, replacement=True, generator=generator)
        groups.append(items.item_N[draw].view(number, size))
    prob_n = torch.full((number,), 1 / number, dtype=torch.float64)
    if coupled:
        return [_interleaved(torch.cat(groups, dim=1), prob_n, prompts, size)]
    group_R = torch.zeros(size, dtype=torch.long)
    return [Block(group_nG, prob_n, group_R, 1 / prompts) for group_nG in groups]


def _interleaved(items_nR: Tensor, prob_n: Tensor, prompts: int, size: int) -> Block:
    items_nR = items_nR.view(-1, prompts, size).transpose(1, 2).flatten(1)
    return Block(items_nR, prob_n, torch.arange(prompts).repeat(size), 1.0)
