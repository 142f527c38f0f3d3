"""Members that remember prompts: twins by loops over several batches, what they know of the batch itself, and their state."""

from __future__ import annotations

import copy
import random
import statistics

import pytest
import torch

from credit.baseline import leave_one_out
from credit.methods.prompt_ema import PromptEma
from credit.methods.spo import SingleStream

MEMORY, FORGET, START = 0.7, 0.8, 0.4


def batches(seed: int, count: int = 5):
    """Rows of prompts that come again, in mixed order; some rows and once a whole prompt without a reward, groups of one too."""
    rng = random.Random(seed)
    for step in range(count):
        prompts = rng.sample(range(10, 16), 4)
        group_B = [k for k, size in enumerate((3, 1, 4, 2)) for _ in range(size)]
        rng.shuffle(group_B)
        rewards_B = torch.tensor([rng.choice((0.0, 1.0, rng.random())) for _ in group_B], dtype=torch.float64)
        rewards_B[rng.randrange(10)] = torch.nan
        if step == 2:
            rewards_B[torch.tensor(group_B) == 2] = torch.nan
        yield {
            "rewards_B": rewards_B,
            "group_B": torch.tensor(group_B),
            "prompt_B": torch.tensor([prompts[k] for k in group_B]),
        }


def rows_of(batch: dict):
    return list(zip(*(batch[name].tolist() for name in ("rewards_B", "group_B", "prompt_B")), strict=True))


def ema_by_loops(all_batches):
    known: dict[int, float] = {}
    for batch in all_batches:
        rows, made = rows_of(batch), []
        for b, (reward, group, prompt) in enumerate(rows):
            others = [r for j, (r, g, _) in enumerate(rows) if g == group and j != b and r == r]
            if reward != reward or (prompt not in known and not others):
                made.append(0.0)
            else:
                made.append(reward - known.get(prompt, statistics.mean(others) if others else 0.0))
        for prompt in {p for _, _, p in rows}:
            if earned := [r for r, _, p in rows if p == prompt and r == r]:
                mean = statistics.mean(earned)
                known[prompt] = MEMORY * known.get(prompt, mean) + (1 - MEMORY) * mean
        yield torch.tensor(made, dtype=torch.float64)


def spo_by_loops(all_batches):
    """With alpha and beta, as the paper writes it."""
    first = 1 / (1 - FORGET)
    known: dict[int, tuple[float, float]] = {}
    for batch in all_batches:
        rows = rows_of(batch)

        def value(prompt, known=known):
            alpha, beta = known.get(prompt, (first * START, first * (1 - START)))
            return alpha / (alpha + beta)

        left = [reward - value(prompt) for reward, _, prompt in rows]
        scorable = [each for each in left if each == each]
        mean, std = statistics.mean(scorable), statistics.stdev(scorable)
        yield torch.tensor([(each - mean) / (std + 1e-4) if each == each else 0.0 for each in left]).double()
        for prompt in {p for _, _, p in rows}:
            if earned := [r for r, _, p in rows if p == prompt and r == r]:
                alpha, beta = known.get(prompt, (first * START, first * (1 - START)))
                alpha, beta = FORGET * alpha + sum(earned), FORGET * beta + sum(1 - r for r in earned)
                known[prompt] = alpha, beta


def called(member, batch: dict) -> torch.Tensor:
    return member(**{k: v for k, v in batch.items() if k != "group_B" or isinstance(member, PromptEma)})


MEMBERS = {
    "prompt_ema": (lambda: PromptEma(MEMORY), ema_by_loops),
    "spo": (lambda: SingleStream(FORGET, START), spo_by_loops),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MEMBERS)
def test_it_is_what_the_formula_says_batch_after_batch(name, seed):
    make, by_loops = MEMBERS[name]
    member, seen = make(), list(batches(seed))
    for batch, expected_B in zip(seen, by_loops(seen), strict=True):
        assert (called(member, batch) - expected_B).abs().max() < 1e-6 and expected_B.abs().max() > 0.1


@pytest.mark.parametrize("name", MEMBERS)
def test_the_state_is_the_same_to_the_bit_whatever_the_order_of_rows(name):
    one, other = MEMBERS[name][0](), MEMBERS[name][0]()
    for batch in batches(1):
        order_B = torch.randperm(10, generator=torch.Generator().manual_seed(3))
        called(one, batch)
        called(other, {key: value[order_B] for key, value in batch.items()})
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]) and len(value) >= 5


@pytest.mark.parametrize("name", MEMBERS)
def test_it_goes_on_from_its_state_to_the_bit(name):
    whole, seen = MEMBERS[name][0](), list(batches(2))
    for batch in seen[:3]:
        called(whole, batch)
    resumed = MEMBERS[name][0]()
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    fresh = MEMBERS[name][0]()
    for batch in seen[3:]:
        expected_B = called(whole, batch)
        assert torch.equal(called(resumed, batch), expected_B)
        assert not torch.equal(called(fresh, batch), expected_B)


def test_what_a_row_is_measured_against_knows_nothing_of_its_own_batch():
    """Else the direction would be bent."""
    seen = list(batches(0))
    for make in (lambda: PromptEma(MEMORY), lambda: SingleStream(FORGET, START, whiten=False)):
        member = make()
        for batch in seen[:4]:
            called(member, batch)
        last, changed = seen[4], {**seen[4], "rewards_B": seen[4]["rewards_B"] + 0.25}
        known_B = torch.isin(last["prompt_B"], member.state_dict()["keys"]) & ~last["rewards_B"].isnan()
        apart_B = called(copy.deepcopy(member), changed) - called(copy.deepcopy(member), last)
        assert known_B.sum() >= 5 and (apart_B[known_B] - 0.25).abs().max() < 1e-12


def test_a_run_that_sees_every_prompt_once_is_rloo():
    member = PromptEma()
    for step, batch in enumerate(batches(3)):
        fresh = {**batch, "prompt_B": batch["group_B"] + 10 * step}
        assert torch.equal(member(**fresh), leave_one_out(batch["rewards_B"], batch["group_B"]))


def test_settings_out_of_range_are_refused():
    for value in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="memory="):
            PromptEma(value)
    for value in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="forget="):
            SingleStream(value)
