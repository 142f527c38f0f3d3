"""A critic beside the policy: its values are what they should be, its fit does not depend on the cut, the policy is untouched."""

from __future__ import annotations

import math

import pytest
import torch
from peft import LoraConfig

from credit import Strategy
from credit.baseline import none
from credit.critic import HeadSpec
from credit.spread import Value
from credit.weight import constant
from support.critics import ADAPTER, CASES, DECOMPOSITION, HEAD, SEPARATE, farthest, fit, learned, value, whitened
from support.exact.fixed import distance, gradient, made_rollouts
from support.exact.replay import replay_trainer
from support.tiny import loaded, tiny_model, tiny_tokenizer
from trainers.critic.hidden_states import decoder_of

FLOAT32 = 1e-5
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


@pytest.mark.parametrize("case", CASES)
def test_neither_gradient_nor_fit_depends_on_how_the_batch_is_cut(case):
    whole = gradient(made_rollouts(3), CASES[case]())
    # The whole batch twice: the second step is made with what the critic learned in the first.
    fits = [learned(fit(CASES[case](), cut, seed=3, max_steps=2, learning_rate=0.0)) for cut in (1, 4)]
    assert farthest(*fits) < FLOAT32
    for cut, padding in ((4, None), (2, 8)):
        assert distance(whole, gradient(made_rollouts(3), CASES[case](), cut, pad_to_multiple_of=padding)) < FLOAT32
    assert distance(whole, gradient(made_rollouts(3).permuted([2, 0, 3, 1]), CASES[case]())) < FLOAT32


def test_the_gradient_is_that_of_values_read_off_the_hidden_states_by_hand():
    """Loop twin: run each row alone through the model, read V off the state before each token, weigh the scores."""
    rollouts, model = made_rollouts(1), tiny_model()
    head = fit(value(HeadSpec(init_std=0.5, learning_rate=0.0)), seed=1, learning_rate=0.0).critic.head
    head.level_2.zero_()  # as it was before the step
    longest, loss = max(8, *(len(ids) for ids in rollouts.completion_ids)), torch.zeros(())
    for b, completion in enumerate(rollouts.completion_ids):
        if rollouts.rewards[b] is None:
            continue
        prompt = rollouts.prompt_ids[b // rollouts.num_generations]
        ids = torch.tensor([[*prompt, *completion]])
        output = model(ids, output_hidden_states=True)
        logps = output.logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None]).squeeze(1)[len(prompt) - 1 :]
        states = output.hidden_states[-1][:, len(prompt) - 1 : -1]
        values = head(states, torch.ones(1, len(completion)).bool()).detach()[0]
        loss = loss - ((rollouts.rewards[b] - values) * logps).sum() / (len(rollouts.completion_ids) * longest)
    loss.backward()
    by_hand = torch.cat([p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None])
    trained = gradient(made_rollouts(1), value(HeadSpec(init_std=0.5)))
    assert distance(by_hand, trained) < FLOAT32


def test_a_critic_that_nobody_reads_leaves_the_policy_alone_to_the_last_bit():
    with_critic, without = (
        fit(Strategy(constant, none, critic=critic), max_steps=3, max_grad_norm=0.1).model.state_dict()
        for critic in (HEAD, None)
    )
    assert all(torch.equal(with_critic[name], without[name]) for name in without)


def test_a_head_costs_no_forward_pass():
    def passes(strategy) -> int:
        model, calls = tiny_model(), []
        decoder_of(model).register_forward_hook(lambda *_: calls.append(1))
        fit(strategy, accumulation=2, max_steps=2, model=model)
        return len(calls)

    plain = passes(Strategy(constant, none))
    assert passes(value(HEAD)) == passes(value(DECOMPOSITION)) == plain
    assert passes(whitened(HEAD)) > plain


def test_a_pass_of_the_critics_own_takes_as_few_rows_at_a_time_and_saves_the_one_of_the_policy(tmp_path):
    model, of_policy, of_critic = tiny_model(), [], []
    trainer = replay_trainer(model, tiny_tokenizer(), made_rollouts(0), whitened(SEPARATE), str(tmp_path), 4)
    decoder_of(model).register_forward_hook(lambda m, a, o: of_policy.append(len(o[0])))
    trainer.critic.trunk.decoder.register_forward_hook(lambda m, a, o: of_critic.append(len(o[0])))
    trainer.train()
    assert of_policy == [4] * 4 and of_critic == [4] * 8  # once at scoring time, once to learn


@pytest.mark.parametrize("case", ["head", "separate", "decomposition"])
def test_values_are_those_of_the_first_visit_however_often_a_batch_is_used(case):
    seen: dict[int, list] = {0: [], 1: []}

    def observe(trainer, visit):
        seen[trainer._step % 2].append(visit.signals["values_BT"].clone())

    options = dict(max_steps=4, num_iterations=4, steps_per_generation=2, observe=observe)
    critic = fit(CASES[case](), accumulation=2, seed=4, **options).critic
    assert all(len(values) == 4 and torch.equal(values[0], values[3]) for values in seen.values())
    assert (
        case == "decomposition" or farthest(learned(fit(CASES[case](), 2, seed=4)), critic.tensors) > 1e-3
    )  # it did learn


def test_the_critic_learns_what_the_rewards_are():
    """The same batch again and again, the policy standing still: the loss falls and the variance is explained."""
    trainer = fit(value(HeadSpec(learning_rate=0.1)), max_steps=60, learning_rate=0.0, logging_strategy="steps")
    rows = [row for row in trainer.state.log_history if "critic/loss" in row]
    assert rows[-1]["critic/loss"] < 0.5 * rows[0]["critic/loss"] and rows[-1]["critic/explained_variance"] > 0.3


def test_the_level_is_the_mean_outcome_of_the_last_batches():
    """A head that never learns: after two steps on the same batch V is the mean reward per learning token."""
    trainer, rollouts = fit(value(HeadSpec(learning_rate=0.0, level=True)), 2, seed=2, max_steps=2), made_rollouts(2)
    pairs = [(r, len(ids)) for r, ids in zip(rollouts.rewards, rollouts.completion_ids, strict=True) if r is not None]
    expected = sum(r * n for r, n in pairs) / sum(n for _, n in pairs)
    assert trainer.critic.head.offset.item() == pytest.approx(expected, rel=1e-5)


def test_metrics_agree_with_the_values_they_speak_of():
    """Before the first fit V = 0: nothing is explained, the loss is half the mean squared reward per token."""
    trainer, rollouts = fit(value(HeadSpec()), seed=2, logging_strategy="steps", logging_steps=1), made_rollouts(2)
    pairs = [(r, len(ids)) for r, ids in zip(rollouts.rewards, rollouts.completion_ids, strict=True) if r is not None]
    expected = 0.5 * sum(r * r * n for r, n in pairs) / sum(n for _, n in pairs)
    found = trainer.state.log_history[0]
    assert found["critic/loss"] == pytest.approx(expected, rel=1e-5)
    assert found["critic/explained_variance"] == pytest.approx(0.0, abs=1e-5)
    assert found["critic/value_start"] == found["critic/value_end"] == 0.0
    assert found["critic/noise_credit"] == pytest.approx(found["critic/noise_reward"], rel=1e-5)


# ---- what the policy is spared


def test_nothing_of_a_critic_is_in_the_policy_nor_in_its_optimiser():
    for critic in (HEAD, SEPARATE):
        trainer = fit(value(critic))
        policy = {id(p) for p in trainer.model.parameters()}
        assert not policy & {id(p) for p in trainer.critic.tensors.values()}
        stepped = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
        assert stepped == policy


def test_an_adapter_critic_shares_the_frozen_base_and_nothing_else():
    base = tiny_model()
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    trainer = fit(value(ADAPTER), model=base, peft_config=LORA, max_steps=2)
    own = trainer.critic.tensors
    assert any("lora_A.critic" in name for name in own)
    assert len([p for p in trainer.model.parameters() if p.requires_grad]) == 8  # 2 layers x 2 modules x (A, B)
    stepped = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not stepped & {id(p) for p in own.values()}
    assert trainer.model.active_adapter == "default"
    after = dict(base.named_parameters())
    assert all(torch.equal(after[name], p) for name, p in before.items() if name in after), "the base moved"
    start = fit(value(ADAPTER), model=tiny_model(), peft_config=LORA, max_steps=1, learning_rate=0.0).critic.tensors
    moved = [name for name in own if "lora_B" in name and not torch.equal(own[name], start[name])]
    assert moved


@pytest.mark.parametrize("cut", [2, 4])
def test_the_fit_of_an_adapter_does_not_depend_on_the_cut(cut):
    one, other = (learned(fit(value(ADAPTER), c, peft_config=LORA, max_steps=2, learning_rate=0.0)) for c in (1, cut))
    assert farthest(one, other) < 1e-4


@pytest.mark.parametrize("peft_config", [None, LORA])
def test_gradient_checkpointing_changes_nothing(peft_config):
    critic = ADAPTER if peft_config else HEAD
    plain, checkpointed = (
        fit(value(critic), peft_config=peft_config, max_steps=2, gradient_checkpointing=on) for on in (False, True)
    )
    assert farthest(learned(plain), learned(checkpointed)) < FLOAT32


def test_shared_gradients_reach_the_trunk_times_the_coefficient():
    def of(coefficient):
        critic = HeadSpec(init_std=0.5, detach=False, coefficient=coefficient)
        return gradient(made_rollouts(0), value(critic))

    none_at_all, once, twice = of(0.0), of(0.5), of(1.0)
    assert distance(none_at_all, gradient(made_rollouts(0), value(HeadSpec(init_std=0.5)))) < FLOAT32
    assert distance(twice - none_at_all, 2 * (once - none_at_all)) < FLOAT32 and distance(none_at_all, once) > 1e-3


def test_the_policy_stands_still_while_its_critic_warms_up():
    start = {name: p.detach().clone() for name, p in tiny_model().named_parameters()}
    warm = fit(value(HeadSpec(learning_rate=0.1), critic_warmup_steps=2), max_steps=2, weight_decay=0.1)
    assert all(torch.equal(p, start[name]) for name, p in warm.model.named_parameters())
    assert not warm.optimizer.state and (warm.critic.head.readout.weight != 0).any()
    moved = fit(value(HeadSpec(learning_rate=0.1), critic_warmup_steps=2), max_steps=3)
    assert any(not torch.equal(p, start[name]) for name, p in moved.model.named_parameters())


# ---- PPO's penalty


def test_the_penalty_goes_into_the_reward_and_out_of_the_loss(tmp_path):
    seen = []

    def observe(trainer, visit):
        penalty_BT, advantages_BT = visit.signals["kl_rewards_BT"].clone(), visit.advantages_BT.clone()
        seen.append((trainer.beta, penalty_BT, advantages_BT, visit.signals))

    strategy = value(HeadSpec(learning_rate=0.0, level=False), kl_in_reward=True)
    trainer = fit(strategy, beta=0.3, max_steps=2, model=loaded(tmp_path), observe=observe)
    assert trainer.beta == 0.3 and [beta for beta, *_ in seen] == [0.0, 0.0]
    assert (seen[0][1] == 0).all() and (seen[1][1] != 0).any()  # the policy is its own reference until it moves
    _, penalty_BT, advantages_BT, signals = seen[1]
    for b in range(len(penalty_BT)):
        reward = signals["rewards_B"][b]
        for t in range(int(signals["lengths_B"][b])):
            expected = 0.0 if reward.isnan() else (reward + penalty_BT[b, t:].sum()).item()
            assert advantages_BT[b, t].item() == pytest.approx(expected, abs=1e-5)
    logged = [row["kl"] for row in trainer.state.log_history if "kl" in row]
    kl = (-penalty_BT.sum() / 0.3 / signals["mask_BT"].sum()).item()
    assert logged == pytest.approx([(0.0 + kl) / 2], abs=1e-6)  # one row for both steps


def test_whitening_with_the_penalty_scores_both_in_one_more_pass(tmp_path):
    strategy = Strategy(constant, none, whitened().spread, critic=HEAD, kl_in_reward=True)
    options = dict(beta=0.3, max_steps=2, seed=5)
    one, other = (fit(strategy, cut, model=loaded(tmp_path), **options) for cut in (1, 4))
    assert farthest(dict(one.model.named_parameters()), dict(other.model.named_parameters())) < 1e-4


# ---- what is refused


@pytest.mark.parametrize(
    ("strategy", "options", "remedy"),
    [
        (lambda: Strategy(constant, none, Value()), {}, "credit/critic=head"),
        (lambda: value(HEAD, kl_in_reward=True), {}, "trainer.beta"),
        (lambda: value(ADAPTER), {}, "model/peft=lora"),
        (lambda: value(SEPARATE), {"peft_config": LORA}, "credit/critic=adapter"),
        (lambda: value(DECOMPOSITION, spread=Value(gamma=0.9)), {}, "gamma=1"),
    ],
)
def test_what_cannot_work_is_refused_with_its_remedy(strategy, options, remedy):
    with pytest.raises(ValueError, match=remedy):
        fit(strategy(), **options)


def test_a_bounded_critic_refuses_outcomes_out_of_its_range():
    from functools import partial

    from credit.baseline import group_mean, group_zscore

    critic = HeadSpec(loss="cross_entropy")
    for baseline in (group_mean, partial(group_zscore, eps=1e-3)):
        with pytest.raises(ValueError, match=r"credit/baseline=none.*'value'"):
            fit(Strategy(constant, baseline, Value(), critic=critic, name="value"))
    with pytest.raises(ValueError, match="kl_in_reward=false"):
        fit(value(critic, kl_in_reward=True), beta=0.1)
    with pytest.raises(ValueError, match="got 0 to 2"):
        fit(value(critic), reward_weights=[2.0])


def test_a_bounded_critic_forgives_its_own_rounding():
    trainer = fit(value(HeadSpec(loss="cross_entropy", lambda_=0.95)))
    targets_BT = torch.tensor([[1.0 + 1e-7, -1e-8, 0.5]])
    ones_BT = torch.ones(1, 3)
    assert trainer.critic._in_range(targets_BT, ones_BT).tolist() == [[1.0, 0.0, 0.5]]


def test_rewards_that_are_all_alike_leave_no_variance_to_explain():
    from dataclasses import replace

    rollouts = replace(made_rollouts(0), rewards=[0.7] * 16)
    trainer = fit(value(HEAD), rollouts=rollouts, logging_strategy="steps", logging_steps=1)
    explained = trainer.state.log_history[0]["critic/explained_variance"]
    assert explained is None or math.isnan(explained)


def test_what_is_odd_but_allowed_is_said(caplog):
    fit(Strategy(constant, none, critic=HEAD))
    assert "fitted for nothing" in caplog.text and "will not move" not in caplog.text
    fit(value(HEAD, critic_warmup_steps=1))
    assert "the policy will not move" in caplog.text


def test_a_folder_that_holds_no_model_is_told_with_the_setting_that_names_it(tmp_path):
    from credit.critic import SeparateSpec

    with pytest.raises(ValueError, match=r"credit\.critic\.model"):
        fit(value(SeparateSpec(model=str(tmp_path))))
