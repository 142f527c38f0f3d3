"""Returns: what is still to come at each token, and GAE, the returns less a critic's values V(s_t).

    A[b,t] = sum_{k>=0} (gamma lambda)^k delta[b,t+k],     delta[b,t] = r[b,t] + gamma V(s_{t+1}) - V(s_t)

over the learning tokens of a row; tool text and padding are skipped as if they were not there, and V after the last
learning token is 0. With gamma = lambda = 1 this is R - V(s_t): unbiased whatever the critic, because V(s_t) knows only
what came before token t.
Source: GAE, Schulman et al. 2015, arXiv 1506.02438, equation 16.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 32  # tokens that one small matrix product discounts at once
_CACHED = 1 << 19  # elements a CPU works on at once, so that intermediate results stay in its cache


def last_token_rewards(advantages_B: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T): `advantages_B` at each row's last learning token, 0 elsewhere. A row without learning tokens is all 0."""
    positions_T = torch.arange(1, mask_BT.shape[1] + 1, device=mask_BT.device)
    last_B1 = (mask_BT * positions_T).amax(dim=1, keepdim=True)
    return torch.where(
        (positions_T == last_B1) & mask_BT, advantages_B[:, None], torch.zeros_like(advantages_B[:, None])
    )


def first_token(mask_BT: Tensor) -> Tensor:
    """(B, 1) position of each row's first learning token; 0 in a row without any."""
    return mask_BT.to(torch.uint8).argmax(dim=1, keepdim=True)


def gae(
    token_rewards_BT: Tensor,
    values_BT: Tensor,
    mask_BT: Tensor,
    gamma: float = 1.0,
    lambda_: float | Tensor = 1.0,
) -> Tensor:
    """Generalised advantage estimates, without a loop over tokens.

    Args:
        token_rewards_BT: reward at each token. values_BT: V before each token. Both: any content at masked positions.
        mask_BT: bool, learning tokens; holes (tool text) are skipped.
        gamma: discount per learning token, in [0, 1]. lambda_: in [0, 1], one number or one for each row, (B,).

    Returns:
        (B, T), dtype of the rewards; 0 at masked positions.
    """
    rows, width = mask_BT.shape
    many = rows if mask_BT.is_cuda else max(1, _CACHED // max(width, 1))
    if rows <= many:
        return _gae_of_rows(token_rewards_BT, values_BT, mask_BT, gamma, lambda_)
    advantages_BT = torch.empty_like(token_rewards_BT)
    for start in range(0, rows, many):
        these = slice(start, start + many)
        lambda_b = lambda_[these] if isinstance(lambda_, Tensor) and lambda_.dim() else lambda_
        advantages_BT[these] = _gae_of_rows(token_rewards_BT[these], values_BT[these], mask_BT[these], gamma, lambda_b)
    return advantages_BT


def gae_loop(
    token_rewards_BT: Tensor,
    values_BT: Tensor,
    mask_BT: Tensor,
    gamma: float = 1.0,
    lambda_: float | Tensor = 1.0,
) -> Tensor:
    """`gae` as the textbook writes it, one token at a time: the twin that tests compare with."""
    advantages_BT = torch.zeros_like(token_rewards_BT)
    next_value_B = torch.zeros_like(token_rewards_BT[:, 0])
    running_B = torch.zeros_like(next_value_B)
    for t in reversed(range(mask_BT.shape[1])):
        alive_B = mask_BT[:, t]
        delta_B = token_rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        running_B = torch.where(alive_B, delta_B + gamma * lambda_ * running_B, running_B)
        next_value_B = torch.where(alive_B, values_BT[:, t], next_value_B)
        advantages_BT[:, t] = torch.where(alive_B, running_B, torch.zeros_like(running_B))
    return advantages_BT


def discounted_suffix_sums(values_BT: Tensor, factor: float | Tensor) -> Tensor:
    """y[b,t] = sum_{s>=t} factor^(s-t) values[b,s]; `factor` in [0, 1], one number or one for each row, (B,).

    Blocks of `_BLOCK` tokens are discounted by one matrix product each; what later blocks hand to earlier ones obeys the
    same recurrence with factor^_BLOCK over the blocks, so the function calls itself on a row that is _BLOCK times shorter.
    """
    rows, width = values_BT.shape
    if width <= 1:
        return values_BT.clone()
    factor_B = torch.as_tensor(factor, dtype=values_BT.dtype, device=values_BT.device)
    size = min(_BLOCK, width)
    blocks = -(-width // size)
    missing = blocks * size - width
    padded = torch.nn.functional.pad(values_BT, (0, missing)) if missing else values_BT
    steps = torch.arange(size, device=values_BT.device)
    ahead = steps[:, None] - steps[None, :]  # [s, t] = s - t
    powers = factor_B[..., None, None] ** ahead.clamp(min=0) * (ahead >= 0)
    sums = padded.reshape(rows, blocks, size) @ powers
    if blocks > 1:
        carried = discounted_suffix_sums(sums[:, :, 0], factor_B**size)
        reach = factor_B[..., None] ** (size - steps)  # (size,) or (B, size)
        sums[:, :-1].addcmul_(carried[:, 1:, None], reach.view(-1, 1, size))
    return sums.view(rows, blocks * size)[:, :width]


def adaptive_lambda(lengths_B: Tensor, alpha: float) -> Tensor:
    """lambda = 1 - 1 / (alpha L), in [0, 1]: about alpha L tokens of look-ahead whatever the length.

    (B,) in the default dtype. At alpha = 0.05 rows under 20 tokens get 0. Source: VAPO, arXiv 2504.05118, section 4.2.
    """
    return (1 - 1 / (alpha * lengths_B.clamp(min=1))).clamp(0.0, 1.0)


def _gae_of_rows(
    token_rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lambda_: float | Tensor
) -> Tensor:
    # torch.where, which is several times faster than masked_fill on the CPU.
    values_BT, zero = values_BT.to(token_rewards_BT.dtype), token_rewards_BT.new_zeros(())
    if gamma == 1.0 and isinstance(lambda_, (int, float)) and lambda_ == 1.0:
        outcome_BT = discounted_suffix_sums(torch.where(mask_BT, token_rewards_BT, zero), 1.0)
        return torch.where(mask_BT, outcome_BT.sub_(values_BT), zero)
    position_BT = _positions_without_holes(mask_BT)
    if position_BT is None:
        packed_rewards_BT, packed_values_BT = token_rewards_BT, torch.where(mask_BT, values_BT, zero)
    else:
        packed_rewards_BT, packed_values_BT = (_packed(each, position_BT) for each in (token_rewards_BT, values_BT))
    deltas_BT = packed_rewards_BT - packed_values_BT
    deltas_BT[:, :-1].add_(packed_values_BT[:, 1:], alpha=gamma)
    if position_BT is None:
        # Nothing is left behind a row's last learning token, so the sums are exactly 0 there.
        return discounted_suffix_sums(torch.where(mask_BT, deltas_BT, zero), gamma * lambda_)
    sums_BT = discounted_suffix_sums(deltas_BT, gamma * lambda_)
    return torch.nn.functional.pad(sums_BT, (0, 1)).gather(1, position_BT)


def _positions_without_holes(mask_BT: Tensor) -> Tensor | None:
    """(B, T) column of each learning token once the others are left out, T for those; None if nothing has to move."""
    if not bool((mask_BT[:, 1:] & ~mask_BT[:, :-1]).any()):
        return None
    return (mask_BT.cumsum(dim=1) - 1).masked_fill_(~mask_BT, mask_BT.shape[1])


def _packed(values_BT: Tensor, position_BT: Tensor) -> Tensor:
    """(B, T) learning tokens first, in order, then 0."""
    rows, width = values_BT.shape
    return values_BT.new_zeros(rows, width + 1).scatter_(1, position_BT, values_BT)[:, :width]
