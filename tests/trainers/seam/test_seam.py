"""What else has to go through the seam: masks, adapters, evaluation, logs, checkpoints, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig

from configs.compose import named_strategy
from credit import Strategy, weight
from credit.baseline import group_mean
from support.exact.fixed import distance, gradient, made_rollouts
from support.exact.replay import FixedRollouts
from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer
from trainers.seam.checkpoints import COMPLETE_MARK, last_complete_checkpoint
from trainers.seam.refusals import warn_of_what_is_lost
from trainers.seam.trl_weight import LUSPO_NEEDS_SEQUENCE_LEVEL


def vowels(completions, **columns):
    return [float("a" in text) for text in completions]


def make(folder, credit="seq_norm", funcs=vowels, model=None, **options):
    peft_config = options.pop("peft_config", None)
    settings = dict(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        max_steps=2,
        learning_rate=1e-2,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    data = Dataset.from_dict({"prompt": [a + b for a in LETTERS for b in LETTERS]})
    return CreditGRPOTrainer(
        model=model or tiny_model(),
        reward_funcs=funcs,
        args=GRPOConfig(**(settings | options)),
        train_dataset=data,
        eval_dataset=data.select(range(8)),
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
        credit=credit,
    )


# ---- masks


def test_tool_text_gets_no_gradient_and_counts_in_no_length():
    """A row with tool text in its middle gives the gradient in which those tokens have weight 0 and L leaves them out."""
    plain = made_rollouts(5)
    with_tool = FixedRollouts(
        plain.prompt_ids,
        [[4, 5, *ids] for ids in plain.completion_ids],
        plain.rewards,
        [[0, 0, *[1] * len(ids)] for ids in plain.completion_ids],
    )
    other_tool = FixedRollouts(
        [[*ids, 4, 5] for ids in plain.prompt_ids], plain.completion_ids, plain.rewards
    )  # the same context, but as prompt: nothing to mask
    assert distance(gradient(with_tool, "seq_norm"), gradient(other_tool, "seq_norm")) < 1e-5


def test_masked_truncated_rows_leave_the_gradient_of_the_others():
    rollouts = made_rollouts(6)
    cut = FixedRollouts(
        rollouts.prompt_ids,
        [ids[:-1] + [3] if b == 2 else ids for b, ids in enumerate(rollouts.completion_ids)],
        rollouts.rewards,
    )
    masked = gradient(cut, "dr_grpo", mask_truncated_completions=True)
    for accumulation in (1, 4):
        assert distance(masked, gradient(cut, "dr_grpo", accumulation, mask_truncated_completions=True)) < 1e-5
    assert distance(masked, gradient(cut, "dr_grpo")) > 1e-3


# ---- strategies


def test_a_strategy_object_a_name_and_overrides_are_the_same():
    from credit import baseline

    rollouts = made_rollouts(7)
    named = gradient(rollouts, "dr_grpo credit/weight=seq_mean")
    made = gradient(rollouts, Strategy(weight=weight.seq_mean, baseline=baseline.group_mean))
    assert torch.equal(named, made)


def test_a_live_spread_sees_the_live_forward_pass_and_any_cut_of_it():
    def surprised(advantages_B, policy_logps_BT, entropies_BT):
        return advantages_B[:, None] * (entropies_BT - policy_logps_BT)

    strategy = Strategy(weight=weight.constant, spread=surprised)
    rollouts = made_rollouts(8)
    whole = gradient(rollouts, strategy)
    assert distance(whole, gradient(rollouts, strategy, accumulation=4)) < 1e-5
    assert distance(whole, gradient(rollouts, "dr_grpo")) > 1e-2


def test_our_sequence_ratio_is_trls_when_credit_is_constant_over_a_row(tmp_path):
    """Off-policy (several steps on one batch), clipping included."""
    updates = {}
    for name, credit, level in (("ours", "dr_grpo credit/ratio=sequence", "token"), ("trl", "dr_grpo", "sequence")):
        model = tiny_model()
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        options = dict(importance_sampling_level=level, num_iterations=3, max_steps=3, epsilon=0.01)
        make(tmp_path / name, credit, model=model, **options).train()
        updates[name] = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert distance(updates["ours"], updates["trl"]) < 1e-3


# ---- what TRL users expect to go on working


def test_credit_is_logged_beside_trls_names(tmp_path):
    trainer = make(tmp_path, max_steps=1)
    trainer.train()
    logs = next(row for row in trainer.state.log_history if "reward" in row)
    assert {"reward", "completions/mean_length", "rewards/vowels/mean"} <= set(logs)
    wanted = {"mass", "effective_tokens", "length_correlation", "zero_groups", *(f"mass_len_{q}" for q in (1, 2, 3, 4))}
    assert {f"credit/{name}" for name in wanted} <= set(logs)


def test_several_weighted_rewards_one_of_which_abstains(tmp_path):
    def sometimes(completions, **columns):
        return [1.0 if "b" in text else None for text in completions]

    seen = []

    def noted(rewards_B, rewards_BK, reward_weights_K, group_B):
        seen.append((rewards_B, rewards_BK, reward_weights_K))
        return group_mean(rewards_B, group_B)

    strategy = Strategy(weight=weight.constant, baseline=noted)
    make(tmp_path, funcs=[vowels, sometimes], reward_weights=[0.3, 0.7], credit=strategy).train()
    abstained = [rewards_BK[:, 1].isnan() for _, rewards_BK, _ in seen]
    assert any(each.any() for each in abstained) and not all(each.all() for each in abstained)
    for rewards_B, rewards_BK, weights_K in seen:
        loop = [sum(w * r for w, r in zip(weights_K, row, strict=True) if not r.isnan()) for row in rewards_BK]
        assert weights_K.tolist() == pytest.approx([0.3, 0.7]) and torch.allclose(rewards_B, torch.stack(loop))


def test_evaluation_works_with_other_group_sizes(tmp_path):
    trainer, groups = make(tmp_path, num_generations_eval=2, per_device_eval_batch_size=4), []
    score = trainer._score
    trainer._score = lambda *given: groups.append(scored := score(*given)) or scored
    assert 0 <= trainer.evaluate()["eval_reward"] <= 1
    assert groups and all(each["credit_group_B"].tolist() == [0, 0, 1, 1] for each in groups)


@pytest.mark.parametrize("credit", ["seq_norm", "dr_grpo credit/ratio=sequence"])
def test_an_adapter_is_trained_and_the_base_is_not(credit, tmp_path):
    from peft import LoraConfig

    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = make(tmp_path, credit, model=model, peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert any("lora_B" in name and p.abs().sum() > 0 for name, p in after.items())
    base = {
        n.replace("base_model.model.", "").replace(".base_layer", ""): p for n, p in after.items() if "lora" not in n
    }
    assert all(torch.equal(base[name], old) for name, old in before.items())


def test_a_checkpoint_waits_for_the_next_generation_and_is_marked_complete(tmp_path):
    """Four optimiser steps live on one generation batch; saving every three must move to the multiples of four."""
    options = dict(save_strategy="steps", save_steps=3, max_steps=8, num_iterations=4)
    make(tmp_path, **options).train()
    saved = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*"))
    assert saved == [4, 8]
    assert all((tmp_path / f"checkpoint-{step}" / COMPLETE_MARK).exists() for step in saved)


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    for step, complete in ((10, True), (20, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / COMPLETE_MARK).touch()
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-10"
    assert last_complete_checkpoint(tmp_path / "nowhere") is None


def test_the_last_checkpoint_of_a_run_by_epochs_is_known_by_its_own_word(tmp_path):
    """Such a run's settings do not say where it ends; resumed there, transformers would train one step more."""
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / COMPLETE_MARK).touch()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text('{"max_steps": 4}')
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-2"


# ---- refusals


def test_what_loses_its_effect_is_said_once(tmp_path, caplog):
    """By the trainer, whoever asked before whether the settings are exact."""
    from trainers.seam.refusals import refuse_inexact

    make(tmp_path, scale_rewards="none")
    refuse_inexact(
        GRPOConfig(str(tmp_path), scale_rewards="none", report_to="none", bf16=False), Strategy(weight.constant)
    )
    assert caplog.text.count("has no effect: the credit strategy's baseline scales") == 1


def told_of(caplog, **options) -> str:
    warn_of_what_is_lost(GRPOConfig("unused", report_to="none", bf16=False, **options), named_strategy("rloo", ()))
    return caplog.text


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"top_p": 0.9}, "top_p=0.9"),
        ({"top_k": 20}, "top_k=20"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1"),
        ({"generation_kwargs": {"min_new_tokens": 8}}, "min_new_tokens=8"),
        ({"generation_kwargs": {"top_k": 5}}, "top_k=5"),
    ],
)
def test_a_sampler_that_is_not_the_policy_is_told(options, name, caplog):
    assert f"{name}: completions are drawn from another distribution" in told_of(caplog, **options)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"generation_kwargs": {"top_p": 1.0, "cache_implementation": None}}]
)
def test_the_policy_itself_is_not_talked_about(options, caplog):
    assert "another distribution" not in told_of(caplog, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss_type="bnpo"), "bnpo.*dr_grpo"),
        (dict(loss_type="nonsense"), "unknown here"),
        (dict(max_completion_length=None), "L_max"),
        (dict(gradient_accumulation_steps=4, steps_per_generation=2), "multiple of gradient_accumulation_steps"),
        (dict(gradient_accumulation_steps=2, steps_per_generation=3), "Set steps_per_generation="),
        (dict(top_entropy_quantile=0.2), "per micro-batch"),
        (dict(multi_objective_aggregation="normalize_then_sum"), "rewards_BK"),
    ],
)
def test_what_cannot_be_exact_is_refused_before_a_model_is_touched(options, message, tmp_path):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError("the model was touched")

    with pytest.raises(ValueError, match=message):
        make(tmp_path, model=Untouchable(), **options)


def test_a_sequence_level_ratio_with_token_credit_is_refused_and_ours_is_named(tmp_path):
    def early(advantages_B, mask_BT):
        return advantages_B[:, None] * mask_BT.cumsum(1)

    strategy = Strategy(weight=weight.constant, spread=early)
    with pytest.raises(ValueError, match="credit/ratio=sequence"):
        make(tmp_path, strategy, importance_sampling_level="sequence")
    assert make(tmp_path, "seq_norm", importance_sampling_level="sequence").credit.declaration.row_constant


@pytest.mark.parametrize(
    "options",
    [dict(loss_type="vespo"), dict(off_policy_mask_threshold=0.5), dict(beta=0.1, use_bias_correction_kl=True)],
)
def test_a_ratio_of_ours_is_refused_where_trl_reads_the_old_log_probs_for_something_else(options, tmp_path):
    with pytest.raises(ValueError, match="credit/ratio=token"):
        make(tmp_path, "dr_grpo credit/ratio=sequence", **options)


@pytest.mark.skipif(not LUSPO_NEEDS_SEQUENCE_LEVEL, reason="this trl masks luspo's token-level loss")
def test_luspo_over_padding_is_refused_on_old_trl(tmp_path):
    with pytest.raises(ValueError, match="averages over padding"):
        make(tmp_path, "rloo", loss_type="luspo")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="seq_norm"):
        gradient(made_rollouts(0), "seqnorm")


def test_every_base_loss_carries_the_same_gradient_on_policy():
    """Each TRL loss has another w_trl; trl_weight cancels it. SAPO's and VESPO's surrogates have slope 1 at rho = 1."""
    rollouts = made_rollouts(9)
    wanted = gradient(rollouts, "seq_norm", loss_type="dr_grpo")
    losses = ["grpo", "dapo", "sapo", "cispo", "vespo"] + ([] if LUSPO_NEEDS_SEQUENCE_LEVEL else ["luspo"])
    for loss_type in losses:
        for accumulation in (1, 2):
            found = gradient(rollouts, "seq_norm", accumulation, loss_type=loss_type, epsilon_high=1.0)
            assert distance(wanted, found) < 1e-5, loss_type


def test_the_declared_json_of_a_log_row_is_plain(tmp_path):
    trainer = make(tmp_path, max_steps=1)
    trainer.train()
    json.dumps(trainer.state.log_history, allow_nan=False)
