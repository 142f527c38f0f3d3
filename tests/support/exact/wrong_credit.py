"""Members that break the exactness promise, each in a way of its own, for tests that see them caught."""

from __future__ import annotations

import os
import time

import torch


def zero(advantages_B, mask_BT):
    """Learns nothing: the token's share of a row's mean, less itself."""
    return (advantages_B - advantages_B)[:, None].expand(mask_BT.shape)


def by_micro_batch(advantages_B, entropies_BT, mask_BT):
    """Scales by the largest entropy of the micro-batch."""
    return advantages_B[:, None] * entropies_BT / (entropies_BT * mask_BT).max()


def by_width(advantages_B, mask_BT):
    """Takes the padded width for the length."""
    return (advantages_B / mask_BT.shape[1])[:, None].expand(mask_BT.shape)


def by_masked_positions(advantages_B, token_ids_BT):
    """Counts tokens at padding and in tool text too."""
    return (advantages_B * (token_ids_BT > 5).sum(dim=1))[:, None].expand(token_ids_BT.shape)


def by_row(advantages_B, mask_BT):
    """The first rows count for more."""
    rows_B = torch.arange(len(advantages_B), device=advantages_B.device)
    return (advantages_B / (1 + rows_B))[:, None].expand(mask_BT.shape)


def by_rank(advantages_B, mask_BT):
    return (advantages_B * (1 + int(os.environ.get("RANK", 0))))[:, None].expand(mask_BT.shape)


def by_chance(advantages_B, mask_BT):
    return advantages_B[:, None] * torch.rand(mask_BT.shape)


_calls = []


def by_history(advantages_B, mask_BT):
    """Counts its calls where no copy of it would."""
    _calls.append(None)
    return (advantages_B * len(_calls))[:, None].expand(mask_BT.shape)


def fails_on_one_rank(advantages_B, entropies_BT):
    if os.environ.get("RANK") == "1":
        raise RuntimeError("boom")
    return advantages_B[:, None] * entropies_BT


def hangs_on_one_rank(advantages_B, entropies_BT):
    if os.environ.get("RANK") == "1":
        time.sleep(3600)
    return advantages_B[:, None] * entropies_BT


def off_policy_by_micro_batch(policy_logps_BT, sampler_logps_BT):
    """A ratio less its mean over the micro-batch: right as long as nobody leaves the sampler."""
    log_ratio_BT = policy_logps_BT - sampler_logps_BT
    return log_ratio_BT - log_ratio_BT.mean()


def by_values_of_others(advantages_B, values_BT):
    """A critic's values, centred over the micro-batch."""
    return advantages_B[:, None] - values_BT + values_BT.mean()
