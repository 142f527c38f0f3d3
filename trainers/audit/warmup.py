"""Members and critics that learn are fed before they are audited: on generation batches of the same policy, as in training. Then
they stand still, so that all batches are audited under the same credit and none is in its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from trainers.audit.candidates import Candidate, turn_of
from trainers.audit.trainer import AuditTrainer
from trainers.seam.members import keepers_of


def warm_up(trainer: AuditTrainer, batches: Iterator[list[dict[str, Any]]], seeds: Sequence[int]) -> None:
    """One batch for each seed. The policy does not move. Call it on all ranks."""
    for seed in seeds:
        scored = trainer.scored(next(batches), seed, learning=True)
        for candidate, inputs in zip(trainer.candidates, scored.inputs, strict=True):
            if candidate.critic is None:
                continue
            with turn_of(trainer, candidate):
                if not candidate.critic.at_scoring:
                    trainer.fit_on(inputs)
                candidate.critic.step()


def state_of(candidates: Sequence[Candidate]) -> dict[str, dict[str, Any]]:
    """What they have learned, as plain values and tensors: candidate -> {"members": part -> state, "critic": name -> tensor}."""
    return {
        candidate.name: {
            "members": {part: keeper.state_dict() for part, keeper in keepers_of(candidate.strategy).items()},
            "critic": {}
            if candidate.critic is None
            else {n: t.detach().cpu() for n, t in candidate.critic.tensors.items()},
        }
        for candidate in candidates
        if candidate.learns
    }


def load_state(candidates: Sequence[Candidate], state: Mapping[str, Mapping[str, Any]]) -> None:
    """The way back from `state_of`."""
    for candidate in candidates:
        if not candidate.learns:
            continue
        kept = state[candidate.name]
        for part, keeper in keepers_of(candidate.strategy).items():
            keeper.load_state_dict(kept["members"][part])
        with torch.no_grad():
            for name, tensor in ({} if candidate.critic is None else candidate.critic.tensors).items():
                tensor.copy_(kept["critic"][name].to(tensor.device))
