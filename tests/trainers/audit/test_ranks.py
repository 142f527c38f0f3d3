"""Two processes find what one finds."""

from __future__ import annotations

import pytest
import torch

from support.exact.audits import fixed_audit
from support.runs import RANKS, run_ranks
from trainers.audit.collected import Collected

NAMES = ("rloo", "seq_norm", "spans", "value", "decomposition", "prompt_ema")


@pytest.mark.slow
def test_two_processes_give_the_inner_products_and_the_shares_of_one(tmp_path):
    run_ranks(RANKS / "audit.py", tmp_path / "two", ",".join(NAMES), timeout=300)
    two = Collected.load(tmp_path / "two" / "collected.pt")
    one = fixed_audit(NAMES, tmp_path / "one", accumulation=3).collect()
    assert two.strategies == one.strategies and two.sketch == one.sketch and one.sketch["kind"] == "count"
    for place, name in enumerate(one.strategies):
        mine, theirs = one.gram_SBSB[place], two.gram_SBSB[place]
        assert (mine - theirs).norm() / mine.norm() < 1e-5, name
    for name, shares in one.shares.items():
        mine, theirs = (torch.tensor([part["values"][0] for part in of["place"]]) for of in (shares, two.shares[name]))
        assert (mine - theirs).norm() / mine.norm() < 1e-3, name
    keep = ("reward", "length", "flat_groups", "unscored", "turns")
    assert all(one.facts[0][key] == pytest.approx(two.facts[0][key]) for key in keep)
