"""The share of a strategy's mean update that comes from some of its tokens, or from one reward function.

Share of slice p = <g_p, m> / <g, m>: how far the tokens of p push along the mean update m, of all that is pushed along it. m comes
from the other batches, so that no batch is its own yardstick. <g_p, m> is the sum over the tokens of p of what a token is worth to
the loss times <grad log p, m>; m is read off the sketches, so the sums over all slices are what the sketches say themselves.

Shapes: S strategies, K numbers of a sketch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from trainers.audit.sketch import Sketch
from trainers.audit.trainer import AuditTrainer
from trainers.audit.where.slices import Edges, slices_of, sums_by_slice
from trainers.audit.where.slopes import slopes_BT

LINEAR = 1e-3  # what parts may fall short of the whole, of the whole
KEPT = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask")


def kept_rows(inputs: Mapping[str, Any], mask_BT: Tensor, coefficients: Sequence[Tensor]) -> dict[str, Any]:
    """What the shares of one batch need of this rank's rows: tokens, and what each is worth to each candidate."""
    tokens = {name: inputs[name].cpu() for name in KEPT if torch.is_tensor(inputs.get(name))}
    return {"inputs": tokens, "mask_BT": mask_BT.cpu(), "coefficients": [own.float().cpu() for own in coefficients]}


def shares_in_batch(
    trainer: AuditTrainer,
    rows: Mapping[str, Any],
    others_SK: Tensor,
    wanted: Mapping[int, Sequence[int]],
    parameters: Sequence[nn.Parameter],
    sketch: Sketch,
    edges: Edges,
) -> dict[int, dict[str, list[float] | None]]:
    """{candidate: {kind of slice: <g_p, m> of each slice}} of one batch; "reward": of each reward function, None where the credit is
    not the sum of what each function alone would give. Call it on all ranks.

    Args:
        rows: of `kept_rows`.
        others_SK: the mean of the other batches' sketches.
        wanted: candidates, each with the places of its twins of one reward function among the coefficients.
    """
    mask_BT, device = rows["mask_BT"], trainer.accelerator.device
    inputs = {name: value.to(device) for name, value in rows["inputs"].items()}
    slices = slices_of(mask_BT, edges)
    counts = {kind: len(getattr(edges, kind)) - 1 for kind in ("position", "length", "turn")}
    counts["place"] = counts["position"] * counts["length"]
    found = {}
    for number, twins in wanted.items():
        direction = sketch.back(others_SK[number].to(device))
        slope_BT = slopes_BT(lambda: trainer.logps_BT(inputs), parameters, direction, mask_BT)
        whole_BT = rows["coefficients"][number].double()
        sums = {kind: sums_by_slice(whole_BT * slope_BT, of_BT, counts[kind]) for kind, of_BT in slices.items()}
        parts = [rows["coefficients"][twin].double() for twin in twins]
        gap = torch.stack([(sum(parts) - whole_BT).abs().max(), whole_BT.abs().max()]) if parts else torch.zeros(2)
        sums["reward"] = torch.stack([*((part * slope_BT).sum() for part in parts), gap[0], gap[1]])
        flat = torch.cat(list(sums.values())).to(device)
        flat = (trainer.accelerator.reduce(flat, reduction="sum") / trainer.accelerator.num_processes).cpu()
        each = dict(zip(sums, flat.split([len(one) for one in sums.values()]), strict=True))
        *of_reward, short, most = each.pop("reward").tolist()
        found[number] = {kind: value.tolist() for kind, value in each.items()}
        found[number]["reward"] = of_reward if short <= LINEAR * most else None
    return found


def shares_as_dict(
    batches: Sequence[Mapping[int, Mapping[str, Any]]], names: Mapping[int, str], rewards: Sequence[str], edges: Edges
) -> dict[str, Any]:
    """`Collected.shares` of what `shares_in_batch` found."""
    found: dict[str, Any] = {}
    positions, lengths = _pairs(edges.position), _pairs(edges.length)
    for number, name in names.items():
        own = found[name] = {}
        for kind in ("position", "length", *(["turn"] if len(edges.turn) > 2 else [])):
            own[kind] = [
                {"from": low, "to": high, "values": [batch[number][kind][i] for batch in batches]}
                for i, (low, high) in enumerate(_pairs(getattr(edges, kind)))
            ]
        own["place"] = [
            {
                "from": position[0],
                "to": position[1],
                "length": list(length),
                "values": [batch[number]["place"][j * len(positions) + i] for batch in batches],
            }
            for j, length in enumerate(lengths)
            for i, position in enumerate(positions)
        ]
        linear = rewards and all(batch[number]["reward"] for batch in batches)
        own["reward"] = (
            {reward: [batch[number]["reward"][k] for batch in batches] for k, reward in enumerate(rewards)}
            if linear
            else {}
        )
    return found


def _pairs(edges: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(edges))
