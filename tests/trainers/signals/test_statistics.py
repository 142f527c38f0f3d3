"""Statistics of all tokens before any update: the trainer's are those of a plain forward pass, and cost one pass at most."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from credit import Strategy, provides, weight
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

TEMPERATURE = 0.7
SEEN: dict = {}


def looking(mask_BT, token_ids_BT, scoring_logps_BT, scoring_entropies_BT, scoring_sum_sq_BT):
    """A weight that keeps what it sees."""
    SEEN.update(locals())
    return mask_BT / len(mask_BT)


def watched(monkeypatch, tmp_path, strategy, accumulation=1, **options):
    """The trainer after a step, and how often the policy was run while a batch was scored."""
    passes = []
    inner = CreditGRPOTrainer._get_per_token_logps_and_entropies

    def counting(self, *args, **kwargs):
        if self._scoring is not None:
            passes.append(len(args[1]))
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(CreditGRPOTrainer, "_get_per_token_logps_and_entropies", counting)
    rollouts = made_rollouts(1)
    folder, options = str(tmp_path), {"temperature": TEMPERATURE} | options
    trainer = replay_trainer(tiny_model(), tiny_tokenizer(), rollouts, strategy, folder, accumulation, **options)
    trainer.train()
    return trainer, passes


def plain(rollouts) -> list[tuple]:
    """Of each row: log-probs, entropies and sums of squares of its tokens, by loops over a plain forward pass in double."""
    model, found = tiny_model().double().eval(), []
    for row, ids in enumerate(rollouts.completion_ids):
        prompt = rollouts.prompt_ids[row // rollouts.num_generations]
        with torch.no_grad():
            logits_SV = model(torch.tensor([[*prompt, *ids]])).logits[0]
        probs = [(logits_SV[len(prompt) - 1 + t] / TEMPERATURE).softmax(0) for t in range(len(ids))]
        found.append(
            (
                [float(p[token].log()) for p, token in zip(probs, ids, strict=True)],
                [float(-(p * p.log()).sum()) for p in probs],
                [float((p * p).sum()) for p in probs],
            )
        )
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(), 1),  # TRL makes no pass of its own: one more
        (dict(num_iterations=2), 1),  # TRL's pass for old log-probs is the one
        (dict(num_iterations=2, pad_to_multiple_of=8), 1),
    ],
)
def test_they_are_those_of_a_plain_pass_at_the_sampling_temperature(monkeypatch, tmp_path, options, expected):
    _, passes = watched(monkeypatch, tmp_path, Strategy(looking), accumulation=2, **options)
    assert len(passes) == expected
    mask_BT = SEEN["mask_BT"]
    for row, (logps, entropies, sums) in enumerate(plain(made_rollouts(1))):
        width = len(logps)
        assert SEEN["token_ids_BT"][row, :width].tolist() == list(made_rollouts(1).completion_ids[row])
        for name, expected_T in (("logps", logps), ("entropies", entropies), ("sum_sq", sums)):
            got_T = SEEN[f"scoring_{name}_BT"][row, :width][mask_BT[row, :width]]
            assert (got_T.double() - torch.tensor(expected_T)).abs().max() < 1e-5, name


def operations(tmp_path, strategy, **options) -> int:
    """Of one optimiser step, sampling left out: products of matrices, counted by torch."""
    rollouts = made_rollouts(1)
    trainer = replay_trainer(tiny_model(), tiny_tokenizer(), rollouts, strategy, str(tmp_path), **options)
    with FlopCounterMode(display=False) as counter:
        trainer.train()
    return counter.get_total_flops()


def test_they_cost_what_the_pass_for_old_log_probs_costs_and_nothing_where_there_is_one(tmp_path):
    plain, again = Strategy(weight.constant), dict(num_iterations=2)
    without, with_old = operations(tmp_path, plain), operations(tmp_path, plain, **again)
    assert 0.3 < with_old / without - 1 < 0.36  # forward and backward are three passes forward, and this is one more
    assert operations(tmp_path, Strategy(looking)) == operations(tmp_path, Strategy(looking), **again) == with_old


def test_nobody_asks_and_nothing_is_made(monkeypatch, tmp_path):
    trainer, passes = watched(monkeypatch, tmp_path, Strategy(weight.constant))
    assert passes == [] and "credit/signal_time" not in trainer._metrics["train"]


@pytest.mark.parametrize(("announced", "expected"), [((), 2), (("sum_sq",), 1)])
def test_a_provider_that_says_what_it_will_ask_for_shares_the_pass(monkeypatch, tmp_path, announced, expected):
    @provides(mine_BT="sum of squares")
    def mine(rows):
        return {"mine_BT": rows.policy_pass("sum_sq").sum_sq_BT}

    def member(mask_BT, mine_BT, scoring_logps_BT):
        SEEN["mine_BT"], SEEN["mask_BT"] = mine_BT, mask_BT
        return mask_BT / len(mask_BT)

    mine.statistics = announced
    _, passes = watched(monkeypatch, tmp_path, Strategy(member, signals=[mine]))
    assert len(passes) == expected
    sums = plain(made_rollouts(1))[0][2]
    assert SEEN["mine_BT"][0, : len(sums)].tolist() == pytest.approx(sums, abs=1e-5)


def test_the_model_is_left_as_it_was(monkeypatch, tmp_path):
    trainer, _ = watched(monkeypatch, tmp_path, Strategy(looking))
    before = vars(trainer.model).get("forward")
    plain_trainer, _ = watched(monkeypatch, tmp_path, Strategy(weight.constant))
    after = vars(plain_trainer.model).get("forward")
    assert (before is None) == (after is None) and getattr(before, "__name__", "") == getattr(after, "__name__", "")
