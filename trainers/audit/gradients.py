"""Gradients of all candidates on one generation batch, sketched: one forward pass of each row, as few backward passes as there are
directions.

Shapes: S candidates, K numbers of a sketch, R directions, N tokens of all rows at hand.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainers.audit.candidates import Candidate
from trainers.audit.directions import directions_of
from trainers.audit.sketch import Sketch
from trainers.audit.trainer import AuditTrainer, Scored


@dataclass
class Gradients:
    """Of one batch.

    Attributes:
        sketches_SK: float64, of all ranks; uphill.
        coefficients: of each candidate and each of `extra`, (B, T) of this rank.
        directions: backward passes that were made, of how many parts of the batch.
        logps_BT, entropies_BT: of this rank, of the forward pass; entropies None where TRL made none.
        seconds: {"forward", "loss", "backward", "sketch"}, and "one backward", the mean of one for each part.
    """

    sketches_SK: Tensor
    coefficients: list[Tensor]
    logps_BT: Tensor
    entropies_BT: Tensor | None = None
    directions: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def gradients_of(
    trainer: AuditTrainer,
    scored: Scored,
    parameters: Sequence[nn.Parameter],
    sketch: Sketch,
    extra: Sequence[Candidate] = (),
) -> Gradients:
    """extra: candidates whose coefficients are wanted and whose gradients are not; they come last in `scored.inputs`. Call it on all
    ranks."""
    candidates, count = [*trainer.candidates, *extra], len(trainer.candidates)
    parts = list(zip(*(trainer.blocks_of(inputs) for inputs in scored.inputs), strict=True))
    sketches_SK = torch.zeros((count, sketch.size), dtype=torch.float64, device=trainer.accelerator.device)
    found: list[list[Tensor]] = [[] for _ in candidates]
    live: list[tuple[Tensor, Tensor | None]] = []
    passes, clock = 0, _Clock(trainer.accelerator.device)
    for part in parts:
        with trainer.one_pass():
            for number, (candidate, inputs) in enumerate(zip(candidates, part, strict=True)):
                found[number].append(trainer.losses_of(candidate, inputs))
                clock.lap("loss" if number else "forward")
            logps_BT = trainer.live_logps_BT
            live.append((logps_BT.detach(), trainer.live_entropies_BT))
            flat_SN = torch.stack([own[-1].flatten() for own in found[:count]])
            weights_SR, directions_RN = directions_of(flat_SN)
            for place, direction_N in enumerate(directions_RN):
                gradient = torch.autograd.grad(
                    logps_BT,
                    parameters,
                    direction_N.view_as(logps_BT).to(logps_BT.dtype),
                    retain_graph=place + 1 < len(directions_RN),
                    allow_unused=True,
                )
                clock.lap("backward")
                sketches_SK += weights_SR[:, place, None] * sketch.of(gradient)
                clock.lap("sketch")
            passes += len(directions_RN)
    # The loss of a rank is what its rows give times the ranks, which training averages over.
    sketches_SK = trainer.accelerator.reduce(sketches_SK, reduction="sum") / trainer.accelerator.num_processes
    seconds = {**clock.seconds, "one backward": clock.seconds.get("backward", 0.0) / max(1, passes) * len(parts)}
    entropies = [entropies_BT for _, entropies_BT in live if entropies_BT is not None]
    return Gradients(
        sketches_SK,
        [torch.cat(own) for own in found],
        torch.cat([logps_BT for logps_BT, _ in live]),
        torch.cat(entropies) if len(entropies) == len(live) else None,
        passes,
        seconds,
    )


class _Clock:
    """Seconds between laps, by name; work that a GPU was given is waited for."""

    def __init__(self, device: torch.device):
        self.seconds: dict[str, float] = {}
        self._device, self._last = device, time.perf_counter()

    def lap(self, name: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
