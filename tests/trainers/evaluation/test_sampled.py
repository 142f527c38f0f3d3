"""Conversations of sample.py: what the policy wrote has the log-probability that the model gives it, and tool text has none."""

from __future__ import annotations

import inspect
import json

import pytest
import torch
from trl import GRPOTrainer

from sampling.smc import SMC
from support.ranks.environments import COUNT, conversation_tokenizer, player
from support.ranks.playing import ROWS, Drawing
from tasks.base import Task
from tasks.environments.earned import EnvironmentReward
from trainers.evaluation.sampled import conversations, log_numbers, record_of, refuse_whole_texts, show_conversations

pytest.importorskip("jmespath", reason="TRL's tools need it: the extra `tools`")
pytestmark = pytest.mark.skipif(
    "environment_factory" not in inspect.signature(GRPOTrainer.__init__).parameters,
    reason="this trl has no environments",
)


def game(**changes):
    return Task("game", ROWS, [], *([[EnvironmentReward()], [1.0]] if not changes else [[], []]), environment=Drawing)


def drawn(folder, task, tau=1.0):
    more = dict(samples=2, tau=tau, max_length=24, rounds=COUNT, template={}, seed=0, folder=str(folder))
    return conversations(player().eval(), conversation_tokenizer(), task, ROWS, **more)


def test_conversations_come_with_their_messages_rewards_and_probabilities(tmp_path, capsys):
    found = drawn(tmp_path, game())
    assert [(one.made.prompt, one.made.sample) for one in found] == [(p, s) for p in range(3) for s in range(2)]
    for one in found:
        assert sum(one.wrote) == one.made.tokens and len(one.wrote) == len(one.tokens)
        assert one.log_p < 0 and one.log_weight == pytest.approx(0, abs=1e-9)  # at tau 1 nothing is sharpened
    assert any(0 in one.wrote for one in found)
    row = json.loads(json.dumps(record_of(found[0], ROWS[0], "token", 1.0)))
    assert row["columns"] == {"seed": 3} and row["earned"] and row["messages"][0]["role"] == "user"
    show_conversations(found)
    said = capsys.readouterr().out
    assert "turn 1" in said and "6 conversations" in said and "mean reward" in said


def test_a_task_that_pays_nothing_is_sampled_too(tmp_path):
    found = drawn(tmp_path, game(pays=False), tau=0.5)
    assert all(one.made.reward is None and one.made.earned is None for one in found)
    assert all(one.log_weight < 0 for one in found)


def test_log_numbers_are_those_of_a_loop_over_the_tokens():
    model, prompt, ids, wrote, alpha = player().eval(), [3, 4], [5, 6, 7, 2], [1, 0, 1, 1], 2.5
    log_p = log_weight = 0.0
    with torch.no_grad():
        for t, (token, own) in enumerate(zip(ids, wrote, strict=True)):
            probs_V = model(input_ids=torch.tensor([[*prompt, *ids[:t]]])).logits[0, -1].double().softmax(-1)
            if own:
                log_p += float(probs_V[token].log())
                log_weight += float((probs_V**alpha).sum().log())
    assert log_numbers(model, prompt, ids, wrote, alpha) == pytest.approx((log_p, log_weight), abs=1e-5)
    assert log_numbers(model, prompt, [], [], alpha) == (0.0, 0.0)


def test_samplers_that_go_back_into_texts_are_refused():
    with pytest.raises(ValueError, match=r"sampler=smc.*cannot be taken back.*sampler=token"):
        refuse_whole_texts(SMC(), "smc", game())
