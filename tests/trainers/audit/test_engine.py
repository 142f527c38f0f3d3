"""The record of an audit: the same bits after a kill, shares that add up to the whole, no strategy in another's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.exact.audits import sampling_audit
from trainers.audit.collected import Collected
from trainers.audit.store import get, put

NAMES = ("rloo", "seq_norm", "spans", "prompt_ema", "value")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Collected]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, sampling_audit(NAMES, folder).collect()


def test_batches_are_different_samples_of_one_policy(whole):
    gram = whole[1].gram_SBSB
    assert whole[1].strategies == (*NAMES, "length") and gram.shape == (6, 3, 6, 3)
    torch.testing.assert_close(gram, gram.permute(2, 3, 0, 1))
    norms = gram[0, :, 0].diagonal()
    assert (norms > 0).all() and len(set(norms.tolist())) == 3


def test_an_audit_that_was_killed_goes_on_to_the_same_bits(whole, tmp_path):
    collected = whole[1]
    cut = tmp_path / "cut"
    sampling_audit(NAMES, cut, batches=1).collect()
    (cut / "audit" / "batches" / ".0001.pt.half").write_bytes(b"cut off")
    again = sampling_audit(NAMES, cut).collect()
    assert torch.equal(again.gram_SBSB, collected.gram_SBSB)
    assert again.shares == collected.shares


def test_a_batch_that_is_there_is_not_measured_again(whole, tmp_path):
    folder, collected = whole
    path = folder / "audit" / "batches" / "0001.pt"
    kept = get(path)
    try:
        put(path, kept | {"sketches_SK": 2 * kept["sketches_SK"]})
        again = sampling_audit(NAMES, folder).collect()
    finally:
        put(path, kept)
    torch.testing.assert_close(again.gram_SBSB[:, 1, :, 2], 2 * collected.gram_SBSB[:, 1, :, 2])
    assert torch.equal(again.gram_SBSB[:, 0, :, 2], collected.gram_SBSB[:, 0, :, 2])


def test_who_stands_beside_a_strategy_is_not_in_its_numbers(whole, tmp_path):
    alone = sampling_audit(("prompt_ema", "rloo"), tmp_path, share_batches=0).collect()
    places = [NAMES.index("prompt_ema"), NAMES.index("rloo"), len(NAMES)]
    mine = whole[1].gram_SBSB[places][:, :, places]
    torch.testing.assert_close(alone.gram_SBSB, mine, rtol=1e-4, atol=1e-4 * mine.abs().max().item())
    assert alone.shares == {}


def test_the_shares_of_all_slices_add_up_to_the_inner_product_with_the_other_batches(whole):
    collected = whole[1]
    assert set(collected.shares) == set(NAMES)
    for name, shares in collected.shares.items():
        own = collected.gram_SBSB[collected.strategies.index(name), :, collected.strategies.index(name)]
        size = own.diagonal().mean().item()
        for batch in range(2):
            expected = own[batch, [other for other in range(3) if other != batch]].mean().item()
            assert "turn" not in shares  # there is one
            for kind in ("position", "length", "place"):
                found = sum(part["values"][batch] for part in shares[kind])
                assert found == pytest.approx(expected, abs=1e-3 * size)
        parts = len([part for part in shares["position"] if part["values"][0]])
        assert parts > 1  # else there was nothing to add


def test_a_reward_function_has_a_share_where_credit_is_linear_in_rewards(whole):
    shares = whole[1].shares
    assert set(shares["rloo"]["reward"]) == set(shares["spans"]["reward"]) == {"letters", "lengths"}
    assert shares["seq_norm"]["reward"] == {}  # it divides by the spread of their sum
    whole_of_first = sum(part["values"][0] for part in shares["rloo"]["position"])
    assert sum(values[0] for values in shares["rloo"]["reward"].values()) == pytest.approx(whole_of_first, rel=1e-3)


def test_the_length_pseudo_strategy_points_where_texts_become_longer(whole):
    """Its update, taken, makes an end of the text less likely than the average update of a coin would."""
    collected = whole[1]
    place = collected.strategies.index(collected.length)
    own = collected.gram_SBSB[place, :, place]
    across = own.sum() - own.diagonal().sum()
    assert across > 0 and collected.facts[0]["length"] > 0
