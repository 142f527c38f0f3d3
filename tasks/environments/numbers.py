"""Random numbers of one rollout's own: an environment that draws from Python, numpy or torch gives the same answers in any batch.

Where nobody deals such numbers an environment draws from the global ones, as in training: they are in a run's checkpoints.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class Numbers:
    """The states of the three global sources, beginning at what `name` says.

    Args:
        name: equal names, equal numbers, in every process.
    """

    def __init__(self, name: str):
        seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:4], "big")
        self._states = (
            random.Random(seed).getstate(),
            np.random.RandomState(seed).get_state(),
            torch.Generator().manual_seed(seed).get_state(),
        )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, the global sources go on where these numbers were; outside nothing of it is seen."""
        outside = _states()
        _put(self._states)
        try:
            yield
        finally:
            self._states = _states()
            _put(outside)


def _states() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _put(states: tuple) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
