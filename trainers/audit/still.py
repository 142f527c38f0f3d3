"""A candidate that is looked at and learns nothing: members as `untouched` leaves them, providers and a critic as they were."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainers.audit.candidates import Candidate
from trainers.seam.members import keepers_of, untouched


@contextmanager
def still(candidate: Candidate) -> Iterator[None]:
    """Whatever the candidate's members and critic learn inside is forgotten at the end.

    Raises:
        ValueError: a member changed and cannot be put back.
    """
    critic = candidate.critic
    learned = critic.tensors if critic is not None and critic.at_scoring else {}
    before = {name: tensor.detach().clone() for name, tensor in learned.items()}
    # `untouched` trusts them to learn in training only, and for the trainer this is training.
    trusted = [
        one for one in keepers_of(candidate.strategy).values() if getattr(one, "stands_still_in_evaluation", False)
    ]
    states = [copy.deepcopy(keeper.state_dict()) for keeper in trusted]
    with untouched(candidate.strategy):
        yield
    for keeper, state in zip(trusted, states, strict=True):
        keeper.load_state_dict(state)
    with torch.no_grad():
        for name, tensor in learned.items():
            tensor.copy_(before[name])
