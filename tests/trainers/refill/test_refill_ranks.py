"""A refill on two ranks: the batch that one rank makes, rows where they belong, and a run that goes on from its checkpoint."""

from __future__ import annotations

import pytest
import torch

from support.exact.refilled import CASES, batch_of
from support.runs import RANKS, run_ranks


@pytest.mark.slow
def test_two_ranks_make_the_batch_that_one_makes_and_go_on_from_a_checkpoint(tmp_path):
    run_ranks(RANKS / "refill.py", tmp_path)
    found = torch.load(tmp_path / "found.pt")
    for case in CASES:
        one, two = batch_of(tmp_path / "one", case), found[case]
        assert one["items"] == two["items"] and one["logs"].keys() == two["logs"].keys()
        for name in ("prompt", "completion", "rewards", "shown"):
            assert one["logs"][name] == two["logs"][name], (case, name)
        assert all(
            text.startswith(prompt.replace(" ", "") + ">")  # older TRL decodes prompts, with blanks
            for text, prompt in zip(two["logs"]["shown"], two["logs"]["prompt"], strict=True)
        )
        for mine, theirs in zip(one["rows"], two["rows"], strict=True):
            assert mine.keys() == theirs.keys()
            for name, value in mine.items():
                assert theirs[name] == pytest.approx(value, abs=1e-5), (case, name)
        differing = {"sampling/completions", "extra_tokens", "num_tokens", "asked"}  # two ranks may draw one group more
        for name in set(one["metrics"]) - differing:
            assert two["metrics"][name] == pytest.approx(one["metrics"][name], abs=1e-5, nan_ok=True), (case, name)
        assert two["metrics"]["sampling/refilled"][0] > 0
