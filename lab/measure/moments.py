"""Mean and variance of a strategy's gradient estimate over the batches of a plan.

The estimate of one batch is g = sum over rows and tokens of c[b,t] S[b,t], S the score. Given the items of a batch, its
conditional mean and the variance that remains inside the items are known, so both are exact for enumerated plans and
of lower variance for sampled ones.

Shapes: n batches, R rows of each, M entries (one for each learning token of each batch), U items of one prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lab.measure.batches import Block, Items
from lab.measure.scoring import Coupling, Scorer

CHUNK_ROWS = 1 << 14
CHUNK_NUMBERS = 1 << 25  # 256 MiB of gradient estimates at a time
MAX_COVARIANCE = 400


@dataclass
class Moments:
    """What a plan gave.

    Attributes:
        mean_D: expected gradient estimate. variance: trace of its covariance.
        covariance_DD: the covariance itself, where asked for.
        credit_M, item_M, token_M, prob_M: one entry per learning token of each batch: its credit A, its item and position,
            its probability (summing to 1). push_IT: expected |c| by item and position.
        estimates: for sampled plans, per block the conditional means (n, D).
        batches: how many batches (or groups, for strategies without coupling) were looked at.
    """

    mean_D: Tensor
    variance: float
    covariance_DD: Tensor | None
    credit_M: Tensor
    item_M: Tensor
    token_M: Tensor
    prob_M: Tensor
    push_IT: Tensor
    batches: int
    estimates: list[Tensor] = field(default_factory=list)


def moments(
    scorer: Scorer,
    items: Items,
    blocks: list[Block],
    coupling: Coupling,
    covariance: bool = False,
    keep_estimates: bool = False,
) -> Moments:
    """Runs the strategy on every batch of the plan.

    Args:
        coupling: what `Scorer.coupling` said.
        covariance: also the full matrix (at most MAX_COVARIANCE parameters).
        keep_estimates: keep each batch's conditional mean, for standard errors.
    """
    count, width, parameters = items.mean_ITD.shape
    mean_D = torch.zeros(parameters, dtype=torch.float64)
    square = 0.0
    wants_matrix = covariance and parameters <= MAX_COVARIANCE
    matrix_DD = torch.zeros(parameters, parameters, dtype=torch.float64) if wants_matrix else None
    push_IT = torch.zeros(count, width, dtype=torch.float64)
    entries, estimates, batches = [], [], 0
    for block in blocks:
        block_mean_D, block_square = torch.zeros_like(mean_D), 0.0
        block_DD = torch.zeros_like(matrix_DD) if matrix_DD is not None else None
        kept = []
        rows = block.items_nR.shape[1]
        at_once = max(1, min(CHUNK_ROWS // rows, CHUNK_NUMBERS // parameters))
        for start in range(0, len(block.prob_n), at_once):
            chunk = slice(start, start + at_once)
            items_nR, prob_n = block.items_nR[chunk], block.prob_n[chunk]
            credit_nRT, coefficients_nRT = _score(scorer, items, block, items_nR, coupling)
            estimate_nD = _conditional_mean(items, items_nR, coefficients_nRT)
            inner_nR = (coefficients_nRT[..., None, :] @ items.spread_ITT[items_nR] @ coefficients_nRT[..., None]).sum(
                dim=(2, 3)
            )
            block_mean_D += prob_n @ estimate_nD
            block_square += float(prob_n @ (estimate_nD.square().sum(dim=1) + inner_nR.sum(dim=1)))
            if block_DD is not None:
                block_DD += estimate_nD.T @ (estimate_nD * prob_n[:, None])
                block_DD += _inner_covariance(scorer, items, items_nR, coefficients_nRT, prob_n)
            size_nRT = coefficients_nRT.abs() * prob_n[:, None, None] * block.copies
            push_IT.index_add_(0, items_nR.flatten(), size_nRT.flatten(0, 1))
            entries.append(_entries(items, items_nR, credit_nRT, prob_n))
            if keep_estimates:
                kept.append(estimate_nD)
        square += block.copies * (block_square - float(block_mean_D.square().sum()))
        if matrix_DD is not None:
            matrix_DD += block.copies * (block_DD - torch.outer(block_mean_D, block_mean_D))
        mean_D += block.copies * block_mean_D
        batches += len(block.prob_n)
        if keep_estimates:
            estimates.append(torch.cat(kept))
    credit_M, item_M, token_M, prob_M = (torch.cat(column) for column in zip(*entries, strict=True))
    return Moments(
        mean_D=mean_D,
        variance=max(square, 0.0),
        covariance_DD=matrix_DD,
        credit_M=credit_M,
        item_M=item_M,
        token_M=token_M,
        prob_M=prob_M / prob_M.sum(),
        push_IT=push_IT,
        batches=batches,
        estimates=estimates,
    )


def _score(scorer: Scorer, items: Items, block: Block, items_nR: Tensor, coupling: Coupling) -> tuple[Tensor, Tensor]:
    texts_nR = items.text_I[items_nR]
    if coupling.level == "batch":
        assert block.share == 1.0, "coupled strategies need whole batches"
        return scorer.separate(texts_nR, block.group_R)
    credit_nRT, coefficients_nRT = scorer.stacked(texts_nR, block.group_R)
    return credit_nRT, coefficients_nRT * (len(items_nR) * block.share if coupling.per_batch else 1.0)


def _conditional_mean(items: Items, items_nR: Tensor, coefficients_nRT: Tensor) -> Tensor:
    """(n, D) expected estimate of each batch given its items."""
    _, width, parameters = items.mean_ITD.shape
    first, last = int(items_nR.min()), int(items_nR.max())  # items of a prompt stand together
    table_nUT = torch.zeros(len(items_nR), last - first + 1, width, dtype=torch.float64)
    table_nUT.scatter_add_(1, (items_nR - first)[..., None].expand(-1, -1, width), coefficients_nRT)
    return table_nUT.flatten(1) @ items.mean_ITD[first : last + 1].view(-1, parameters)


def _inner_covariance(
    scorer: Scorer, items: Items, items_nR: Tensor, coefficients_nRT: Tensor, prob_n: Tensor
) -> Tensor:
    """(D, D) covariance that remains inside the items."""
    count, width, _ = items.mean_ITD.shape
    pairs_nRTT = coefficients_nRT[..., None] * coefficients_nRT[..., None, :] * prob_n[:, None, None, None]
    pairs_ITT = torch.zeros(count, width, width, dtype=torch.float64)
    pairs_ITT.index_add_(0, items_nR.flatten(), pairs_nRTT.flatten(0, 1))
    deviation_NTD = scorer.learner.scores_NTD - items.mean_ITD[items.item_N]
    pairs_NTT = pairs_ITT[items.item_N] * items.share_N[:, None, None]
    return torch.einsum("nsd,nst,nte->de", deviation_NTD, pairs_NTT, deviation_NTD)


def _entries(items: Items, items_nR: Tensor, credit_nRT: Tensor, prob_n: Tensor) -> tuple[Tensor, ...]:
    mask_nRT = items.mask_IT[items_nR]
    width = mask_nRT.shape[-1]
    item_nRT = items_nR[..., None].expand_as(mask_nRT)
    token_nRT = torch.arange(width).expand_as(mask_nRT)
    prob_nRT = prob_n[:, None, None].expand_as(mask_nRT)
    return credit_nRT[mask_nRT], item_nRT[mask_nRT], token_nRT[mask_nRT], prob_nRT[mask_nRT]
