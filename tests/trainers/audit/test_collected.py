"""What the audit hands on comes back from a file to the bit."""

from __future__ import annotations

import torch

from trainers.audit.collected import Collected


def test_a_record_comes_back_from_a_file_to_the_bit(tmp_path):
    gram_SBSB = torch.randn(3, 4, 3, 4, dtype=torch.float64)
    collected = Collected(
        strategies=("rloo", "seq_norm", "length"),
        reference="rloo",
        length="length",
        gram_SBSB=gram_SBSB,
        completions=16,
        generations=4,
        facts=[{"reward": 0.25, "seconds": 1.5}] * 4,
        shares={"rloo": {"reward": {"correct": [0.5, 0.25, 1.0, 0.0]}}},
        sketch={"kind": "count", "size": 8, "parameters": 100},
        about={"command": "python -m lab.audit credit=seq_norm"},
    )
    collected.save(tmp_path / "collected.pt")
    again = Collected.load(tmp_path / "collected.pt")
    assert torch.equal(again.gram_SBSB, gram_SBSB)
    assert again.strategies == collected.strategies and again.facts == collected.facts
    assert again.shares == collected.shares and again.batches == 4
