"""An environment that seeds torch's global random numbers would seed what the policy samples from: that is put back."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_log = logging.getLogger("rewards")
_told: set[str] = set()


@contextmanager
def policy_keeps_its_noise(about: str) -> Iterator[None]:
    """Puts torch's global random states back if they were seeded inside; what was only drawn from them stays drawn.

    Random numbers of Python and numpy are the environment's own: no policy is sampled from them here.

    Args:
        about: whose code it is, for the message, which is said once for each.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    on_gpu = torch.cuda if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    before = torch.initial_seed(), torch.get_rng_state(), on_gpu and on_gpu.get_rng_state()
    try:
        yield
    finally:
        if _seeded(torch, before[0], before[1]):
            torch.set_rng_state(before[1])
            if on_gpu is not None:
                on_gpu.set_rng_state(before[2])
            if about not in _told:
                _told.add(about)
                _log.warning(
                    "Environment %r seeds torch's global random numbers, from which the policy is sampled; its own were put back. Use "
                    "torch.Generator().manual_seed(seed), or random.Random(seed), of its own. Said once.",
                    about,
                )


def _seeded(torch: Any, seed: int, state: Any) -> bool:
    """By another seed, or by the same one once more."""
    if torch.initial_seed() != seed:
        return True
    now = torch.get_rng_state()
    return not torch.equal(now, state) and torch.equal(now, torch.Generator().manual_seed(seed).get_state())
