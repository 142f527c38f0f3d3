"""What `CreditGRPOTrainer` refuses, each with its reason and remedy, before a model is loaded."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial
from typing import Any

from datasets import Dataset

from credit import baseline as baselines
from credit.requires import unmet
from credit.signals.readers import ModelReader
from credit.strategy import Strategy
from trainers.seam.trl_weight import KNOWN, LUSPO_NEEDS_SEQUENCE_LEVEL

logger = logging.getLogger(__name__)


def refuse_inexact(args, strategy: Strategy) -> None:
    """Raises ValueError for every combination of TRL options in which credit could not be exact.

    `args` is a `trl.GRPOConfig`.
    """
    for broken, reason in _rules(args, strategy):
        if broken:
            raise ValueError(f"{reason} (credit strategy {strategy.name!r})")


def columns_in(dataset: Any) -> Collection[str] | None:
    """The columns of a data set by its first row, which a transform may have made; None where rows come one by one only."""
    if not isinstance(dataset, Dataset) or not len(dataset):
        return None
    return list(dataset[0])


def refuse_columns(strategy: Strategy, there: Collection[str] | None) -> None:
    """Raises ValueError: a provider of signals reads a column that a data set with these columns has not. None: not known."""
    for provider, _ in strategy.makers() if there is not None else ():
        if callable(check := getattr(provider, "check_columns", None)):
            check(there)


def warn_of_what_is_lost(args, strategy: Strategy) -> None:
    """Says which options have no effect under the strategy, or another than it seems. The trainer does, once."""
    if args.scale_rewards not in ("group", True):
        logger.warning("scale_rewards=%r has no effect: the credit strategy's baseline scales.", args.scale_rewards)
    if strategy.critic is not None and not strategy.needs_values:
        logger.warning("No member of credit strategy %r reads its critic: it is fitted for nothing.", strategy.name)
    if 0 < args.max_steps <= strategy.critic_warmup_steps:
        logger.warning(
            "critic_warmup_steps=%d covers all of max_steps=%d: the policy will not move.",
            strategy.critic_warmup_steps,
            args.max_steps,
        )
    if args.entropy_coef != 0.0 or args.use_adaptive_entropy:
        logger.warning(
            "TRL averages the entropy bonus per micro-batch: credit stays exact, the bonus depends on how the batch is cut."
        )
    if narrowed := _narrowed_sampling(args):
        logger.warning(
            "%s: completions are drawn from another distribution than the one whose log-probs are trained, which know nothing of it. "
            "The update is then not quite the policy gradient, whatever the strategy.",
            ", ".join(narrowed),
        )


def _narrowed_sampling(args) -> list[str]:
    """Settings by which some tokens cannot be drawn, or not as often as the policy would."""
    asked = vars(args) | (args.generation_kwargs or {})
    plain = {
        "top_k": (0, None),
        "top_p": (1.0, None),
        "min_p": (0.0, None),
        "typical_p": (1.0, None),
        "repetition_penalty": (1.0, None),
        "no_repeat_ngram_size": (0, None),
        "min_length": (0, None),
        "min_new_tokens": (0, None),
        "suppress_tokens": (None,),
        "bad_words_ids": (None,),
    }
    return [f"{name}={asked[name]}" for name, same in plain.items() if name in asked and asked[name] not in same]


def _rules(args, strategy: Strategy):
    spg, accumulation = args.steps_per_generation, args.gradient_accumulation_steps
    sequence_level = args.importance_sampling_level == "sequence"
    own_ratio = strategy.uses_own_ratio
    yield from ((True, f"the strategy {sentence}") for sentence in unmet(strategy.requires, vars(args)))
    yield (
        args.loss_type == "bnpo",
        "loss_type='bnpo' divides by the tokens of each micro-batch, so its gradient depends on how the batch is cut. "
        "Use loss_type='dr_grpo' (same surrogate) and choose the denominator with credit/weight=token_mean",
    )
    yield (
        args.loss_type not in (*KNOWN, "bnpo"),
        f"loss_type={args.loss_type!r} is unknown here, so its weights cannot be replaced. Use one of {', '.join(KNOWN)}",
    )
    yield (
        strategy.needs_values and strategy.critic is None,
        "the strategy reads a critic's values and names no critic. Add credit/critic=head (or ridge, decomposition, adapter, "
        "separate); in a YAML of your own, `- critic: head` under `defaults`",
    )
    for one in strategy.providers:
        yield isinstance(one, ModelReader) and one.name is None, getattr(one, "nameless", "")
    yield (
        getattr(strategy.critic, "loss", "") == "cross_entropy"
        and (strategy.kl_in_reward or _subtracts(strategy.baseline)),
        "critic.loss=cross_entropy needs outcomes in [0, 1], and a baseline that subtracts or a KL penalty in the reward makes "
        "them negative. Use critic.loss=squared, or credit/baseline=none and kl_in_reward=false",
    )
    yield (
        strategy.kl_in_reward and not args.beta,
        "kl_in_reward takes its coefficient and the reference policy from trainer.beta, which is 0. Set e.g. "
        "trainer.beta=0.05",
    )
    yield (
        args.max_completion_length is None,
        "max_completion_length=None leaves L_max open, which constant weights and diagnostics need. Set a number",
    )
    yield (
        spg % accumulation != 0,
        f"steps_per_generation={spg} must be a multiple of gradient_accumulation_steps={accumulation}: otherwise one "
        "optimiser step mixes generation batches and no global denominator exists. Set steps_per_generation="
        f"{accumulation * max(1, round(spg / accumulation))}",
    )
    yield (
        sequence_level and strategy.declaration.row_constant is not True,
        "importance_sampling_level='sequence' gives every token the row's mean gradient and so erases token-level "
        "credit. Keep importance_sampling_level='token' and choose credit/ratio=sequence, which keeps it (a member "
        "of your own that is constant over each row may say so: @declares(row_constant=True))",
    )
    yield (
        sequence_level and own_ratio,
        "importance_sampling_level='sequence' and a ratio of the strategy would both be applied. Keep "
        "importance_sampling_level='token'",
    )
    yield (
        args.loss_type == "luspo" and LUSPO_NEEDS_SEQUENCE_LEVEL and not sequence_level,
        "loss_type='luspo' with token-level ratios averages over padding before trl 1.10. Use loss_type='dr_grpo' with "
        "credit/weight=seq_sum, or a newer trl",
    )
    yield (
        own_ratio and args.loss_type == "vespo",
        "loss_type='vespo' computes a sequence ratio of its own from the log-probs that a strategy's ratio replaces. "
        "Use credit/ratio=token with vespo",
    )
    yield (
        own_ratio and args.off_policy_mask_threshold is not None,
        "off_policy_mask_threshold reads the sampler's log-probs, which a strategy's ratio replaces. Use "
        "credit/ratio=token or drop the threshold",
    )
    yield (
        own_ratio and args.beta != 0.0 and not strategy.kl_in_reward and args.use_bias_correction_kl,
        "use_bias_correction_kl multiplies the KL term by the ratio, which the strategy replaces. Set "
        "use_bias_correction_kl=False or credit/ratio=token",
    )
    yield (
        args.top_entropy_quantile < 1.0,
        "top_entropy_quantile takes its threshold per micro-batch, so the gradient depends on how the batch is cut. "
        f"Leave it at 1.0 and set credit/weight=top_entropy credit.weight.share={args.top_entropy_quantile:g}, whose threshold is that "
        "of the whole batch",
    )
    yield (
        args.multi_objective_aggregation != "sum_then_normalize",
        f"multi_objective_aggregation={args.multi_objective_aggregation!r} has no effect under a credit strategy. "
        "Leave it at 'sum_then_normalize' and write a baseline that asks for rewards_BK and reward_weights_K",
    )
    yield (
        _liger_replaces_loss(args),
        "use_liger_kernel=True replaces TRL's loss by a fused one that does not take token credit in this trl. Set it "
        "to False",
    )


def _subtracts(baseline) -> bool:
    """Whether it is one of this package's own baselines that subtract something."""
    member = baseline.func if isinstance(baseline, partial) else baseline
    return getattr(member, "__module__", "") == baselines.__name__ and member is not baselines.none


def _liger_replaces_loss(args) -> bool:
    from trl import GRPOTrainer

    return bool(getattr(args, "use_liger_kernel", False)) and hasattr(GRPOTrainer, "compute_liger_loss")
