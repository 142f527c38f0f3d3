"""Two real processes go on from their checkpoints with the bits of two that were not stopped."""

from __future__ import annotations

import pytest

from support.runs import RANKS, run_ranks


@pytest.mark.slow
def test_two_ranks_go_on_from_every_checkpoint(tmp_path):
    """Rows, metrics and weights of GRPO, a strategy with a state, a critic, guarded rewards and likelihood training."""
    run_ranks(RANKS / "resume.py", tmp_path)
