"""PRIME's reward model in the trainer: its step by a loop, however the batch is cut; start, resume, adapters, and what is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import LoraConfig

from configs.compose import ConfigError, compose_strategy
from credit.signals.reward_model import LearnedRewardModel
from support.exact.exactness import rich_rollouts
from support.exact.fixed import distance, gradient
from support.exact.replay import replay_trainer
from support.resumed import HELD_OUT, goes_on_from_everywhere, grpo
from support.tiny import tiny_model, tiny_tokenizer
from trainers.command.before import check_copies
from trainers.plan.forecast import copies_of

WORDS = "credit=prime credit/signals=reward_model credit.signals.reward_model.learning_rate=0.01"
ROLLOUTS = rich_rollouts(0)
NAME = "model.layers.0.self_attn.q_proj.weight"
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])


def trained(tmp_path, words=WORDS, accumulation=1, **options):
    """A run of some generation batches, the policy learning too; and the reward model's state after it."""
    model, strategy = options.pop("model", None) or tiny_model(), compose_strategy(words.split())
    settings = {"learning_rate": 0.02, "max_steps": 3, "mask_truncated_completions": True} | options
    trainer = replay_trainer(model, tiny_tokenizer(), ROLLOUTS, strategy, str(tmp_path), accumulation, **settings)
    trainer.train()
    return trainer, provider_of(trainer).state_dict()


def provider_of(trainer) -> LearnedRewardModel:
    return next(each for each, _ in trainer.credit.makers() if isinstance(each, LearnedRewardModel))


def looped(steps: int, max_length: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same model's weights after so many steps, a row at a time, and its losses."""
    model, start = tiny_model().eval(), tiny_model().eval()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0), []
    for _ in range(steps):
        total, count = torch.zeros(()), 0
        for b, ids in enumerate(ROLLOUTS.completion_ids):
            given = [value for value in ROLLOUTS.rewards[b] if value is not None]
            learns = [t for t, own in enumerate(ROLLOUTS.tool_mask[b]) if own and ids[-1] == 1]  # truncated: masked out
            if not given or not learns:
                continue
            prompt, count = list(ROLLOUTS.prompt_ids[b // 4]), count + 1
            score = 0.0
            for t in learns:
                seen = torch.tensor([[*prompt, *ids[:t]]])
                own, first = (one(seen).logits[0, -1].log_softmax(-1)[ids[t]] for one in (model, start))
                score = score + 0.05 * (own - first.detach())
            label = float(sum(given) >= 0.5)
            total = total - (label * score.sigmoid().log() + (1 - label) * (-score).sigmoid().log())
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(total.detach() / count))
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, losses


def test_it_learns_by_its_loss_however_the_batch_is_cut(tmp_path):
    expected, losses = looped(3, 16)
    assert losses[0] == pytest.approx(math.log(2), rel=1e-5) and losses[2] < losses[0]
    for accumulation in (1, 4):
        trainer, state = trained(tmp_path / str(accumulation), accumulation=accumulation)
        moved = [(value - dict(tiny_model().named_parameters())[name]).abs().max() for name, value in expected.items()]
        assert min(moved) > 1e-3
        for name, value in expected.items():
            torch.testing.assert_close(state["weights"][name], value, rtol=0, atol=2e-4, msg=name)
        assert trainer.start is not None and not any(p.requires_grad for p in trainer.start.parameters())


def test_at_the_start_it_is_the_form_that_is_not_trained():
    one, other = (gradient(ROLLOUTS, compose_strategy(words.split())) for words in (WORDS, "credit=prime"))
    assert one.norm() > 0 and distance(one, other) < 1e-6


def test_it_gives_what_it_knew_before_it_learned_from_the_batch(tmp_path):
    """And the policy's training leaves it alone."""
    seen = []
    strategy = compose_strategy(WORDS.split())
    score = strategy.score
    strategy.score = lambda rollout, *rest: (seen.append(dict(rollout.provided)), score(rollout, *rest))[1]
    replay_trainer(
        tiny_model(), tiny_tokenizer(), ROLLOUTS, strategy, str(tmp_path), max_steps=2, learning_rate=0.05
    ).train()
    mask_BT = torch.tensor([[t < len(ids) for t in range(11)] for ids in ROLLOUTS.completion_ids])
    apart = [
        (each["reward_model_logps_BT"] - each["ref_logps_BT"]).masked_fill(~mask_BT, 0).abs().max() for each in seen
    ]
    assert apart[0] < 1e-5 < 1e-3 < apart[1]


def test_a_run_goes_on_with_its_weights_and_moments_to_the_bit(tmp_path):
    words = f"{WORDS.removeprefix('credit=')} credit.signals.reward_model.success=0.1"
    whole = goes_on_from_everywhere(grpo(words, max_steps=4, **HELD_OUT), tmp_path, 4, cuts=[2])
    state = provider_of(whole.trainer).state_dict()["optimizer"]["state"]
    assert {float(each["step"]) for each in state.values()} == {4.0}, "evaluation taught it, or a batch did not"
    assert all(0 < row["credit/reward_model_loss"] < 2 for row in whole.logs if "credit/reward_model_loss" in row)


def test_of_a_policy_with_an_adapter_it_trains_the_adapter(tmp_path):
    trainer, state = trained(tmp_path, peft_config=LORA)
    assert state["weights"] and all("lora_" in name for name in state["weights"])
    assert max(float(value.abs().max()) for name, value in state["weights"].items() if "lora_B" in name) > 1e-3
    policy = dict(trainer.model.named_parameters())
    assert all(not torch.equal(policy[name], value) for name, value in state["weights"].items() if "lora_B" in name)


def test_without_an_outcome_nothing_is_learned(tmp_path):
    rollouts = copy.deepcopy(ROLLOUTS)
    rollouts.rewards[:] = [[None] * 3] * len(rollouts.rewards)
    strategy = compose_strategy(WORDS.split())
    replay_trainer(tiny_model(), tiny_tokenizer(), rollouts, strategy, str(tmp_path)).train()
    provider = next(each for each, _ in strategy.makers() if isinstance(each, LearnedRewardModel))
    assert torch.equal(provider.state_dict()["weights"][NAME], dict(tiny_model().named_parameters())[NAME])


@pytest.mark.parametrize("setting", ["learning_rate", "beta", "max_grad_norm"])
def test_its_settings_say_what_they_may_be(setting):
    with pytest.raises(ValueError, match=f"{setting}=0.0 of the reward model must be above 0"):
        LearnedRewardModel(**{setting: 0.0})


@pytest.mark.parametrize("words", [WORDS, "credit=sdpo credit/teacher=ema"])
def test_a_copy_is_counted_and_refused_before_a_sharded_policy_is_loaded(words):
    strategy, shape = compose_strategy(words.split()), type("Shape", (), {"weight_bytes": 100, "trained_bytes": 40})
    check_copies(strategy, "")
    for sharding in ("fsdp", "zero2", "zero3"):
        with pytest.raises(ConfigError, match=f"keeps a copy of the policy, and under {sharding}.*multi_gpu.yaml"):
            check_copies(strategy, sharding)
        check_copies(compose_strategy(["credit=prime"]), sharding)
    assert copies_of(strategy, shape) == {"copies": 180.0 if "prime" in words else 100.0}
    assert not copies_of(compose_strategy(["credit=prime"]), shape)
