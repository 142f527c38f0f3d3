"""What an audit says is what enumeration knows, and what it must say where it knows nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from configs.compose import named_strategy
from lab.audit.drawn import LENGTH, batch_gradients, collect, drawn, length_gradients
from lab.audit.estimates import audit_of, sketch_error
from lab.audit.power import MOST, comparisons, pair_in_words
from lab.audit.products import products_of
from lab.measure.declarations import enumerated
from lab.measure.estimate import measure, rloo

NAMES = ("seq_norm", "dr_grpo", "opo_loo", "decomposition")


@pytest.fixture(scope="module")
def gradients() -> dict[str, torch.Tensor]:
    """Of 4,000 batches of the world tiny_turn."""
    learner = enumerated("tiny_turn")
    strategies = {"rloo": rloo(), **{name: named_strategy(name) for name in NAMES}}
    found = {name: batch_gradients(learner, each, 4000) for name, each in strategies.items()}
    return found | {LENGTH: length_gradients(learner, 4000)}


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, float]]:
    learner = enumerated("tiny_turn")
    found = {}
    for name in ("rloo", *NAMES):
        measured = measure(learner, rloo() if name == "rloo" else named_strategy(name))
        assert measured.exact
        found[name] = {metric: measured[metric] for metric in ("nsr", "cosine", "relative_bias", "length_push")}
        found[name]["cosine"] = min(round(found[name]["cosine"], 12), 1.0)
        found[name]["relative_bias"] = round(found[name]["relative_bias"], 12)
        found[name] |= {"norm": float(measured.mean_D.norm()), "critical_batch": 8 * measured["nsr"]}
    return found


def of_batches(gradients: dict[str, torch.Tensor], start: int, number: int, **changed: torch.Tensor):
    part = {name: each[start : start + number] for name, each in gradients.items()}
    return collect({**part, **changed}, 8, 4)


def test_from_many_batches_every_number_is_that_of_enumeration(gradients, truth):
    found = audit_of(of_batches(gradients, 0, 600)).strategies
    for name, known in truth.items():
        for metric, number in known.items():
            bounds = found[name][metric]
            assert bounds.value == pytest.approx(number, rel=0.15, abs=0.06), (name, metric)
            assert bounds.high - bounds.low < 0.5 * abs(number) + 0.15, (name, metric)


@pytest.mark.parametrize("batches", [8, 32])
def test_intervals_hold_the_truth_about_as_often_as_they_say(gradients, truth, batches):
    """60 audits; of nominal 95 %, fewer than 51 are chance below 1 in 1,000. benchmarks/audit/coverage.py draws thousands."""
    names = ("rloo", "seq_norm", "decomposition")
    some = {name: each for name, each in gradients.items() if name in (*names, LENGTH)}
    held = {(name, metric): 0 for name in names for metric in truth[name]}
    seen = dict.fromkeys(names, 0)
    for start in range(0, 60 * batches, batches):
        found = audit_of(of_batches(some, start, batches)).strategies
        for name, metric in held:
            held[name, metric] += found[name][metric].holds(truth[name][metric])
        for name in names:
            seen[name] += found[name]["relative_bias"].low > 0
    assert not {which: count for which, count in held.items() if count < 51}
    # A bias of 0.33 is seen, and none is found where there is none.
    assert seen["seq_norm"] >= (56 if batches == 32 else 6) and seen["decomposition"] <= 6 and seen["rloo"] == 0


def test_a_scale_changes_the_norm_only(gradients):
    plain = audit_of(of_batches(gradients, 0, 16)).strategies["seq_norm"]
    scaled = audit_of(of_batches(gradients, 0, 16, seq_norm=7 * gradients["seq_norm"][:16])).strategies["seq_norm"]
    for metric, bounds in plain.items():
        factor = 7 if metric == "norm" else 1
        expected = (bounds.value * factor, bounds.low * factor, bounds.high * factor)
        assert (scaled[metric].value, scaled[metric].low, scaled[metric].high) == pytest.approx(expected, abs=1e-6)


def test_a_multiple_of_the_reference_has_no_bias_and_the_same_noise(gradients):
    audit = audit_of(of_batches(gradients, 0, 16))
    assert audit.strategies["dr_grpo"]["relative_bias"].record()["high"] == 0
    pair = audit.pairs["rloo", "dr_grpo"]
    assert not pair.told_apart and pair.is_same and "multiple" in pair_in_words(("rloo", "dr_grpo"), pair, 16)


def test_what_points_backwards_is_said_to_and_is_nowhere_near_unbiased(gradients):
    found = audit_of(of_batches(gradients, 0, 32, back=-gradients["seq_norm"][:32])).strategies
    forward, back = found["seq_norm"]["cosine"], found["back"]["cosine"]
    assert (back.low, back.high) == pytest.approx((-forward.high, -forward.low)) and back.value == -forward.value
    bias = found["back"]["relative_bias"]
    assert bias.value is None and bias.low == math.inf and "backwards" in bias.note


def test_noise_without_a_signal_has_no_upper_end_and_says_so(gradients):
    signs = torch.ones(16, 1, dtype=torch.float64)
    signs[1::2] = -1
    found = audit_of(of_batches(gradients, 0, 16, noise=signs * gradients["rloo"][:16])).strategies["noise"]
    assert found["nsr"].high == math.inf and "16 batches" in found["nsr"].note
    assert found["relative_bias"].high == math.inf and found["cosine"].low < 0 < found["cosine"].high
    assert found["norm"].low == 0 and found["critical_batch"].high == math.inf


def test_no_update_is_no_noise(gradients):
    audit = audit_of(of_batches(gradients, 0, 16, still=torch.zeros(16, 18, dtype=torch.float64)))
    still = audit.strategies["still"]
    assert still["norm"].value == 0 and still["nsr"].value is None and "no update" in still["nsr"].note
    assert not any("still" in group for group in audit.ranking)


def test_the_order_of_strategies_and_of_batches_is_of_no_consequence(gradients):
    plain = audit_of(of_batches(gradients, 0, 16))
    turned = {name: each[:16].flip(0) for name, each in reversed(gradients.items())}
    other = audit_of(collect(turned, 8, 4))
    for name, found in plain.strategies.items():
        for metric in ("nsr", "norm", "length_push"):
            assert other.strategies[name][metric].high == pytest.approx(found[metric].high)
        # The signs drawn are others.
        assert other.strategies[name]["cosine"].low == pytest.approx(found["cosine"].low, abs=0.01)
    assert sorted(map(sorted, plain.ranking)) == sorted(map(sorted, other.ranking))


def test_members_of_a_group_are_not_told_apart_and_the_order_is_that_of_noise(gradients):
    audit = audit_of(of_batches(gradients, 0, 256))
    assert len(audit.ranking) > 1 and audit.ranking[0] == ["decomposition"]
    for group in audit.ranking:
        assert not any(pair.told_apart for key, pair in audit.pairs.items() if set(key) <= set(group))
    noise = [audit.strategies[name]["nsr"].value for group in audit.ranking for name in group]
    assert noise == sorted(noise)


def test_with_as_many_batches_as_it_says_two_are_told_apart_most_of_the_time(gradients):
    """The number is that of a power of 80 %; it is an estimate, so the middle of ten is tried, on other batches."""
    pair = {"rloo": gradients["rloo"], "calmer": 0.8 * gradients["rloo"] + 0.6 * gradients["decomposition"]}

    def compared(start: int, batches: int):
        gram = of_batches(pair, start, batches).gram_SBSB
        return comparisons(products_of(gram), {"rloo": 0, "calmer": 1})["rloo", "calmer"]

    few = [compared(start, 8) for start in range(0, 80, 8)]
    needed = sorted(8 if each.told_apart else each.batches_needed or MOST for each in few)[5]
    assert 12 < needed < 60
    told = [compared(start, needed).told_apart for start in range(80, 80 + 40 * needed, needed)]
    assert 24 <= sum(told) < 40
    open_pair = next(each for each in few if each.batches_needed)
    assert f"about {open_pair.batches_needed} would do" in pair_in_words(("rloo", "calmer"), open_pair, 8)


def test_a_sketch_widens_the_intervals_by_what_it_may_err(gradients):
    plain = of_batches(gradients, 0, 32)
    rough = replace(plain, sketch={"kind": "count", "size": 800, "parameters": 18})
    assert sketch_error(plain.sketch) == 0 and sketch_error(rough.sketch) == pytest.approx(0.1)
    one, other = (audit_of(each).strategies["seq_norm"] for each in (plain, rough))
    assert other["nsr"].high == pytest.approx(1.1 * one["nsr"].high)
    assert other["length_push"].low < one["length_push"].low


def test_shares_of_a_kind_add_up_to_one(gradients):
    plain = of_batches(gradients, 0, 16)
    values = torch.rand(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slices = [{"from": i, "to": i + 1, "values": each.tolist()} for i, each in enumerate(values)]
    kinds = {"position": slices, "reward": {"a": values[0].tolist(), "b": (-values[1] / 4).tolist()}, "turn": []}
    kinds["place"] = [
        {"position": [0, 1], "length": [i, i + 1], "values": each.tolist()} for i, each in enumerate(values)
    ]
    shares = audit_of(replace(plain, shares={"rloo": kinds})).shares["rloo"]
    assert sum(each["share"].value for each in shares["position"]) == pytest.approx(1)
    assert (
        shares["reward"]["a"].value + shares["reward"]["b"].value == pytest.approx(1) and shares["reward"]["b"].high < 0
    )
    assert shares["position"][0]["share"].holds(1 / 3) and "turn" not in shares
    assert shares["place"][2]["length"] == [2, 3] and sum(
        each["share"].value for each in shares["place"]
    ) == pytest.approx(1)
    two = {"position": [{"from": 0, "to": 1, "values": [3.0, 1.0]}, {"from": 1, "to": 2, "values": [2.0, 2.0]}]}
    few = audit_of(replace(plain, shares={"rloo": two})).shares["rloo"]["position"][0]["share"]
    assert few.value == 0.5 and few.high == math.inf and "2 batches" in few.note


def test_the_record_is_json_without_infinities(gradients):
    noise = torch.randn(16, 18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = audit_of(of_batches(gradients, 0, 16, noise=noise)).as_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["strategies"]["noise"]["nsr"]["high"] is None and found["batches"] == 16


def test_a_reference_that_was_not_audited_is_named():
    plain = drawn(enumerated("tiny"), {}, 8)
    with pytest.raises(ValueError, match="'lost' is not among rloo"):
        audit_of(replace(plain, reference="lost"))


def test_a_whole_that_may_be_nothing_has_no_parts(gradients):
    """Two halves of an update whose signs cancel over the batches: their ratio would be noise over noise."""
    signs = [1.0, -1.0] * 4
    shares = {"seq_norm": {"position": [{"from": 0, "to": 1, "values": [3 * s for s in signs[:-1]] + [1.0]},
                                        {"from": 1, "to": 2, "values": [-2 * s for s in signs[:-1]] + [1.0]}]}}  # fmt: skip
    found = audit_of(replace(of_batches(gradients, 0, 8), shares=shares)).as_json()["shares"]["seq_norm"]["position"]
    assert [part["share"]["value"] for part in found] == [None, None]
    steady = {
        "seq_norm": {
            "position": [{"from": 0, "to": 1, "values": [3.0, 3.1] * 4}, {"from": 1, "to": 2, "values": [1.0] * 8}]
        }
    }
    found = audit_of(replace(of_batches(gradients, 0, 8), shares=steady)).as_json()["shares"]["seq_norm"]["position"]
    assert [part["share"]["value"] for part in found] == pytest.approx([0.753, 0.247], abs=1e-3)
