"""Providers of signals of every shape and kind, for the exactness promise, and a live spread that asks for all of them."""

from __future__ import annotations

import torch

from credit import declares, provides


@provides(
    first_B="first token of the row",
    bins_BC="how many learning tokens of each of three kinds",
    rare_BT="an unlikely token",
)
def shapes(rows):
    """Whole numbers, floats and bools; two of them need tokens, one the policy that sampled."""
    kinds_BTC = torch.nn.functional.one_hot(rows.token_ids_BT % 3, 3) * rows.mask_BT[..., None]
    return {
        "first_B": rows.token_ids_BT[:, 0],
        "bins_BC": kinds_BTC.sum(dim=1).float(),
        "rare_BT": rows.policy_pass("logps").logps_BT < -2.5,
    }


shapes.statistics = ("logps",)


@provides(stage="scoring", share_B="share of the batch's learning tokens, all ranks")
def share(rows):
    everyone = rows.gather(rows.mask_BT.sum(dim=1).tolist())
    return {"share_B": rows.mask_BT.sum(dim=1) / max(sum(everyone), 1)}


@declares(unbiased=False)
def spread_over_all(advantages_B, policy_logps_BT, mask_BT, first_B, bins_BC, rare_BT):
    """Runs in the loss, on signals that rode there with their rows."""
    factor_B = 1 + 0.1 * (first_B % 2) + bins_BC @ torch.tensor([0.1, 0.2, 0.3], device=bins_BC.device)
    return advantages_B[:, None] * factor_B[:, None] * (1 + rare_BT * policy_logps_BT.exp())


@declares(unbiased=False)
def weight_by_share(mask_BT, share_B):
    return mask_BT * (share_B + 0.01)[:, None]
