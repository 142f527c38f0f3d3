"""The exactness test itself: its batches hold what it says, and a strategy that breaks the promise is caught and named."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import support.exact.wrong_credit as wrong_credit
from configs.compose import compose_strategy
from credit import Strategy, baseline, weight
from credit.critic import HeadSpec
from support.exact.exactness import (
    BATCHES,
    Whole,
    broken_ways,
    fresh,
    gradients,
    message,
    nothing,
    options_of,
    rich_rollouts,
)
from support.exact.trainer_options import given_options
from support.runs import ROOT, environment


def found(strategy: Strategy, batches=("clipped",)) -> dict[str, list[str]]:
    broken: dict[str, list[str]] = {}
    for batch in batches:
        for way, where in broken_ways(batch, strategy, gradients(batch, strategy)).items():
            broken.setdefault(way, []).append(where)
    return broken


# ---- the batches


@pytest.mark.parametrize("batch", BATCHES)
def test_the_batches_hold_what_they_are_said_to_hold(batch):
    """Seen through a member's eyes, in training: a row of 11 tokens and rows without any, holes, unscorable rows, a flat group and
    one with a single scorable row, an abstention that is no row's whole reward, span rewards; then rho != 1 and clipping."""
    seen = {}

    def watch(rewards_B, rewards_BK, group_B, mask_BT, lengths_B, span_rewards_BT, token_ids_BT):
        seen.update(locals())
        return baseline.group_mean(rewards_B, group_B)

    def ratio(policy_logps_BT, sampler_logps_BT, mask_BT):
        seen["ratio"] = (policy_logps_BT - sampler_logps_BT).exp()[mask_BT]
        return policy_logps_BT - sampler_logps_BT

    result = gradients(batch, Strategy(weight.constant, watch, ratio=ratio))
    lengths, mask_BT, rewards_BK = seen["lengths_B"], seen["mask_BT"], seen["rewards_BK"]
    assert lengths.max() == 11 and (lengths == 0).sum() == 2 and len(set(lengths.tolist())) > 5
    assert (mask_BT[:, 1:] & ~mask_BT[:, :-1]).any()  # learning tokens behind a hole
    assert (rewards_BK.isnan().any(1) & ~rewards_BK.isnan().all(1)).any()
    scorable = [int((~seen["rewards_B"][seen["group_B"] == group].isnan()).sum()) for group in range(6)]
    assert sorted(scorable) == [1, 3, 4, 4, 4, 4]
    spread = [seen["rewards_B"][seen["group_B"] == group] for group in range(6)]
    assert sum(int(len(set(rewards.tolist())) == 1) for rewards in spread) == 1
    assert ((seen["span_rewards_BT"] != 0).sum(1) > 1).any()
    far = (seen["ratio"] - 1).abs() > 0.1
    assert 0.1 < far.float().mean() < 0.9
    assert all(
        push > 0 and gradient.norm() > 1e-3 for push, gradient in zip(result.pushes, result.gradients, strict=True)
    )


def test_permuting_the_rollouts_moves_whole_groups_and_their_spans():
    rollouts = rich_rollouts(0)
    moved = rollouts.permuted([2, 5, 0, 3, 1, 4])
    assert moved.rewards[0] == rollouts.rewards[11] and moved.spans[11] == rollouts.spans[0]


# ---- what is caught


SPREADS = {
    "by_micro_batch": {"accumulation", "steps"},
    "by_width": {"padding"},
    "by_masked_positions": {"masked positions"},
    "by_row": {"order"},
    "by_chance": {"padding", "order"},
    "by_history": {"repetition"},
}


@pytest.mark.parametrize("name", SPREADS)
def test_a_spread_that_breaks_the_promise_is_caught_and_the_way_is_named(name):
    broken = found(Strategy(weight.constant, spread=getattr(wrong_credit, name), name=name))
    assert set(broken) == SPREADS[name]
    text = message(name, broken)
    for way in SPREADS[name]:
        assert f"{way.upper()}: " in text and "% apart in the" in text and "Usually: " in text


def test_what_only_happens_off_policy_is_caught_there():
    strategy = Strategy(weight.constant, ratio=wrong_credit.off_policy_by_micro_batch)
    broken = found(strategy, BATCHES)
    assert "accumulation" in broken and all("off-policy step" in where for where in broken["accumulation"])
    assert not any("on-policy step of" in where for where in broken["accumulation"])


def test_a_critics_values_are_not_zero_in_it():
    strategy = Strategy(weight.constant, baseline.none, wrong_credit.by_values_of_others, critic=HeadSpec())
    assert "accumulation" in found(strategy)
    assert fresh(strategy).critic.init_std > 0 and strategy.critic.init_std == 0


def test_a_strategy_that_learns_nothing_is_not_called_exact():
    strategy = Strategy(weight.constant, spread=wrong_credit.zero)
    wholes = {batch: Whole()("zero", batch, strategy) for batch in BATCHES}
    assert nothing(wholes) == list(BATCHES)  # with KL too, where TRL's own term has a gradient
    assert wholes["with KL"].gradients[0].norm() > 0
    alive = compose_strategy(["credit=dr_grpo"])
    assert nothing({batch: Whole()("dr_grpo", batch, alive) for batch in BATCHES}) == []


def test_state_kept_in_a_member_starts_anew_in_each_cut():
    class Running:
        def __init__(self):
            self.mean = 0.0

        def __call__(self, rewards_B):
            self.mean = 0.5 * self.mean + 0.5 * float(rewards_B.nanmean())
            return rewards_B - self.mean

    assert found(Strategy(weight.constant, Running())) == {}


# ---- options


def test_trainer_options_of_the_command_line_reach_the_batches_and_are_checked():
    strategy = compose_strategy(["credit=dr_grpo"])
    given = given_options(["trainer.beta=0.3", "trainer.loss_type=cispo", "trainer.delta=null"])
    assert given == {"beta": 0.3, "loss_type": "cispo", "delta": None}
    assert options_of("clipped", strategy, given)["beta"] == 0.3
    assert options_of("clipped", compose_strategy(["credit=rloo", "credit.kl_in_reward=true"]))["beta"] > 0
    for word, remedy in {
        "beta=1": "write trainer.<field>=<value>",
        "trainer.beta": "write trainer.<field>=<value>",
        "trainer.betta=1": "Did you mean trainer.beta",
        "trainer.num_generations=2": "leave num_generations to it",
    }.items():
        with pytest.raises(ValueError, match=remedy):
            given_options([word])


def test_what_a_strategy_requires_of_the_trainer_is_set():
    requires = {"beta": "> 0", "loss_type": ["cispo", "dapo"], "epsilon_high": "<= 0.05", "num_iterations": 1}
    strategy = Strategy(weight.constant, requires=requires)
    options = options_of("clipped", strategy)
    assert options["beta"] > 0 and options["loss_type"] == "cispo" and options["epsilon_high"] == 0.05
    assert gradients("clipped", strategy).gradients[1].norm() > 0


# ---- the command, as a user gives it


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """One call with a strategy that depends on the rank, one that dies on one rank, one that does not compose, a good one that
    comes last, and one that learns nothing."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "credit").mkdir()
    names = ("by_rank", "fails_on_one_rank", "zero", "no_such_member", "good")
    for name in names:
        target = f"wrong_credit.{name}" if name != "good" else "credit.spread.broadcast"
        text = (
            f"# {name}: for a test\ndefaults:\n  - dr_grpo\n  - _self_\nname: {name}\nspread:\n  _target_: {target}\n"
        )
        (folder / "credit" / f"{name}.yaml").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "tests/trainers/seam/test_exactness.py",
    ]
    for name in names:
        command += ["--credit", name]
    command += ["--config-dir", str(folder), "--set", "trainer.epsilon=0.2"]
    environment_of = environment() | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=540, env=environment_of)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_each_strategy_of_a_call_gets_a_verdict_of_its_own(said):
    code, text = said
    assert code == 1
    lines = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR tests"))]
    failed = {line.split("::")[1].split(" - ")[0] for line in lines}
    ranks, alone = "test_two_real_ranks_give_the_gradient_of_one", "test_accumulation_padding_and_order_are_immaterial"
    expected = {f"{ranks}[credit={name}]" for name in ("by_rank", "fails_on_one_rank", "no_such_member")}
    assert failed == expected | {f"{alone}[credit={name}]" for name in ("no_such_member", "zero")}


@pytest.mark.slow
def test_the_words_name_what_broke(said):
    text = said[1]
    assert "credit=by_rank breaks the exactness promise" in text and "RANKS: one process and two" in text
    assert "credit=fails_on_one_rank on two processes: RuntimeError: boom" in text
    assert "credit=zero learns nothing in batch 'clipped', 'with KL'" in text
    assert "`wrong_credit.no_such_member` cannot be imported" in text


def test_two_ranks_agree_on_what_one_knows():
    """The kind of difference that RANKS finds: credit that depends on the process."""
    strategy = Strategy(weight.constant, spread=wrong_credit.by_rank)
    assert found(strategy) == {}  # one process sees nothing of it
    assert torch.equal(*(gradients("clipped", strategy).gradients[0] for _ in range(2)))
