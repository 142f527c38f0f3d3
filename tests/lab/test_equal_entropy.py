"""Token against sequence temperature at one entropy: what is proved, and worlds in which they agree and part."""

import json

import pytest
import torch

from lab.equal_entropy import WORLDS, any_world, compared, ends, entropy_of, goes_on, main, one_length
from sampling.exact import enumerate_texts

LIMIT = 5


@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS)
def test_what_token_temperature_loses_in_likelihood_is_its_divergence_from_sequence_temperature(make):
    """alpha (E_s[log p] - E_t[log p]) = KL(t || s) where both have one entropy."""
    tau, model = 0.6, make(3)
    one = compared(model, tau, LIMIT)
    target_X = enumerate_texts(model, LIMIT, 1 / tau).target_X
    token_X = enumerate_texts(model, LIMIT, 1 / one.token_tau).q_X
    assert entropy_of(token_X) == pytest.approx(one.entropy, abs=1e-6) == entropy_of(target_X)
    seen_X = token_X > 0
    divergence = float((token_X[seen_X] * (token_X[seen_X] / target_X[seen_X]).log()).sum())
    assert one.log_p / tau == pytest.approx(divergence, abs=1e-6) and one.log_p > -1e-9


def test_independent_tokens_of_one_length_are_the_place_where_both_are_one():
    one = compared(one_length(0), 0.5, LIMIT)
    assert one.token_tau == pytest.approx(0.5, abs=1e-6) and one.ess == pytest.approx(1.0)
    assert one.distance == pytest.approx(0.0, abs=1e-6) and one.log_p == pytest.approx(0.0, abs=1e-6)


def test_sharpened_token_by_token_texts_grow_where_a_word_is_likelier_than_the_end():
    """Sequence temperature shortens in both kinds: every token costs likelihood."""
    on, off = compared(goes_on(0), 0.5, LIMIT), compared(ends(0), 0.5, LIMIT)
    assert on.same_tau_length > on.start_length > on.sequence_length + 1 and on.ess < 0.5
    assert off.same_tau_length < off.start_length > off.sequence_length and off.ess > 0.9


def test_the_share_is_that_of_the_weights_by_enumeration():
    one, at = compared(any_world(1), 0.5, LIMIT), enumerate_texts(any_world(1), LIMIT, 2.0)
    weight_X = at.target_X / at.q_X
    assert one.ess == pytest.approx(float((at.q_X @ weight_X) ** 2 / (at.q_X @ weight_X**2))) and one.ess < 0.95


def test_the_command_leaves_every_seed_of_every_world(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lab.equal_entropy.WORLDS", {"random": any_world})
    monkeypatch.setattr("lab.equal_entropy.table", lambda: [*map(dict, _two())])
    main([f"out={tmp_path}"])
    (row,) = json.loads((tmp_path / "equal_entropy_worlds.json").read_text())
    assert row["world"] == "random" and len(row["log_p"]) == 2 and "| random | 0.6 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="give out=FOLDER"):
        main(["tau=1"])


def _two():
    from dataclasses import asdict

    found = [asdict(compared(any_world(seed), 0.6, 4)) for seed in range(2)]
    yield {"world": "random", "tau": 0.6, **{key: [one[key] for one in found] for key in found[0] if key != "tau"}}


def test_the_worlds_are_of_their_kind():
    for seed in range(3):
        for make, sign in ((goes_on, 1), (ends, -1)):
            logits_CV = make(seed).logits_PCV[0]
            gap_C = logits_CV[:, 1:].max(-1).values - logits_CV[:, 0]
            assert (gap_C * sign > 0).double().mean() > 0.9
        assert torch.isinf(one_length(seed).logits_PCV[..., 0]).all()
