"""`CreditGRPOTrainer`: TRL's GRPOTrainer with a credit strategy. The only seam between the maths and TRL.

No TRL method body is copied: each override calls super and adds. Where things happen:
    _calculate_rewards                    keeps the raw reward matrix of all ranks
    _generate_and_score_completions       whole-batch facts: baseline, weights, and spreads that do not need the forward
    _compute_loss / _get_per_token_...    row-local facts: live spreads and ratios, then the weights (trainers/seam/trl_weight.py)
    (trainers/seam/chat.py)               chats that end with the beginning of an answer; what a prompt has opened
    (trainers/critic/seam.py)             a critic's values into those signals, its fit beside the loss
    (trainers/seam/kl_reward.py)          the KL penalty into those signals, and out of TRL's loss
    (trainers/seam/reference_reward.py)   the reference's likelihood to the rewards that ask for it
    (trainers/seam/resume.py)             states of the run that TRL keeps in no checkpoint
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from credit.baseline import leave_one_out
from credit.batch import Rollout
from credit.checks import Doubts
from credit.diagnostics import diagnose
from credit.strategy import Strategy
from rewards.guard import check_failures, report_failures
from trainers.critic.seam import VALUES, CriticSeam, _mask
from trainers.seam.chat import ChatPrompts
from trainers.seam.checkpoints import SaveOnGenerationBoundary
from trainers.seam.kl_reward import KL_REWARDS, KLReward
from trainers.seam.reference_reward import ReferenceReward, reads_reference, refuse_without_reference
from trainers.seam.refusals import refuse_inexact, warn_of_what_is_lost
from trainers.seam.resume import ResumesExactly
from trainers.seam.token_spans import local_span_rewards
from trainers.seam.trl_weight import advantages_for_trl

logger = logging.getLogger(__name__)

# Keys our tensors ride under in TRL's batch dict; dim 0 is the row, so TRL shuffles and splits them along.
_ROW_LOCAL = {
    "credit_advantages_B": "advantages_B",
    "credit_rewards_B": "rewards_B",
    "credit_span_rewards_BT": "span_rewards_BT",
    VALUES: "values_BT",
}


class CreditGRPOTrainer(ResumesExactly, ChatPrompts, ReferenceReward, KLReward, CriticSeam, GRPOTrainer):
    """GRPOTrainer plus `credit`.

    Args:
        credit: a `credit.Strategy`, the name of one in configs/credit/ (or overrides such as
            "dr_grpo credit/weight=seq_mean"), the path of a YAML of your own ("my_configs/credit/mine.yaml"), or None:
            TRL's own credit, untouched.
        config_dirs: folders of your own YAMLs, laid out like configs/, in which a name is looked up too.
        *args, **kwargs: as `trl.GRPOTrainer`.

    Raises:
        ValueError: the TRL options make exact credit impossible; the message names the remedy.
    """

    # On the class, so that TRL's methods work on an object made without `__init__` (TRL tests them so).
    credit: Strategy | None = None
    _rewards_BK: Tensor | None = None
    _span_rewards_BT: Tensor | None = None
    _loss_inputs: dict | None = None
    _passes: list | None = None
    _shared_loss: Tensor | None = None

    def __init__(self, *args, credit: Strategy | str | None = None, config_dirs: Sequence[str | Path] = (), **kwargs):
        self.credit = _strategy(credit, config_dirs)
        self._doubts = Doubts()  # numbers of live members, of the micro-batches since the last optimiser step
        self._visited: dict = {}  # the dict TRL keeps for reuse, of which `_loss_inputs` is this visit's copy
        # Called as observer(trainer, signals, advantages_BT, weights_BT) for every micro-batch in the loss.
        self.credit_observers: list[Callable] = []
        config = kwargs.get("args", args[2] if len(args) > 2 else None)
        if self.credit is not None and (config is not None or self.credit.requires):  # TRL's defaults are never refused
            refuse_inexact(config or GRPOConfig("unused", report_to="none"), self.credit)
        rewards = kwargs.get("reward_funcs", args[1] if len(args) > 1 else None) or []
        rewards = rewards if isinstance(rewards, list) else [rewards]
        self._reads_reference = any(map(reads_reference, rewards))
        if self._reads_reference:
            refuse_without_reference(rewards, config or GRPOConfig("unused", report_to="none"))
        super().__init__(*args, **kwargs)
        if self._reads_reference:
            self._refuse_tools()
        if self.credit is not None and self.accelerator.is_main_process:
            warn_of_what_is_lost(self.args, self.credit)
        self._kl_beta = self.beta
        self._build_critic()
        report_failures(self.reward_funcs)
        self._note_states(self.credit)
        if self.credit is not None:
            self.add_callback(SaveOnGenerationBoundary(self))

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        inputs = self._with_reference(self._with_openings(inputs, prompts), completion_ids_list)
        arguments = (inputs, prompts, completions, completion_ids_list)
        self._rewards_BK = super()._calculate_rewards(*arguments)
        check_failures(self.reward_funcs, gather_object)
        if self.credit is not None and "span_rewards_BT" in self.credit.needs:
            self._span_rewards_BT = local_span_rewards(self, *arguments)
        return self._rewards_BK

    def _generate_and_score_completions(self, inputs):
        self._passes = passes = []
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self._passes = None
        if self.credit is not None:
            self._note_before_update(output, passes)
            with self.members.batch(self.model.training):
                output.update(self._score(output))
        self._rewards_BK = None
        return output

    def _score(self, output: dict) -> dict[str, Tensor]:
        """Runs the strategy on the rows of all ranks and returns this rank's share, keyed for TRL's batch dict."""
        mode = "train" if self.model.training else "eval"
        rollout = self._rollout(output, self.num_generations if mode == "train" else self.num_generations_eval)
        if self.critic is not None and self.critic.at_scoring:
            credit, rollout = self._score_with_groups(rollout)
        else:
            credit = self.credit.score(rollout)
        for name, value in diagnose(rollout, credit).items():
            self._metrics[mode][f"credit/{name}"].append(value)
        rows, width = output["completion_mask"].shape
        mine = slice(self.accelerator.process_index * rows, (self.accelerator.process_index + 1) * rows)
        # One generation batch feeds several optimiser steps; each gets the mass of a whole batch.
        steps = self.args.steps_per_generation // self.args.gradient_accumulation_steps if mode == "train" else 1
        shared = {
            "credit_weights_BT": credit.weights_BT * steps,
            "credit_advantages_BT": credit.advantages_BT,
            "credit_advantages_B": credit.advantages_B,
            "credit_rewards_B": rollout.rewards_B,
            "credit_span_rewards_BT": rollout.span_rewards_BT,
            "credit_group_B": rollout.group_B,  # for records only
            "credit_rewards_BK": rollout.rewards_BK,
        }
        if self.critic is not None:
            shared[VALUES] = rollout.scoring_values_BT
            shared["credit_critic_weight_B"] = self.critic.row_weights(rollout) * steps
            shared["credit_leave_one_out_B"] = leave_one_out(rollout.rewards_B, rollout.group_B)
        local = {key: value[mine] for key, value in shared.items() if value is not None}
        return {key: value[:, :width].contiguous() if key.endswith("_BT") else value for key, value in local.items()}

    def _rollout(self, output: dict, num_generations: int) -> Rollout:
        """The generation batch of all ranks. At scoring time TRL's rows stand in prompt order, so ids are countable."""
        rewards_BK = self._rewards_BK
        weights_K = self.reward_weights.to(rewards_BK.device, rewards_BK.dtype)
        rewards_B = (rewards_BK * weights_K).nansum(dim=1).masked_fill(rewards_BK.isnan().all(dim=1), torch.nan)
        needs = self.credit.needs
        reads_tokens = "token_ids_BT" in needs or (self.critic is not None and self.critic.at_scoring)
        return Rollout(
            rewards_B=rewards_B,
            rewards_BK=rewards_BK,
            reward_weights_K=weights_K,
            group_B=torch.arange(len(rewards_B), device=rewards_B.device) // num_generations,
            mask_BT=self._gather_tokens(_mask(output)),
            max_length=self.max_completion_length,
            token_ids_BT=self._gather_tokens(output["completion_ids"]) if reads_tokens else None,
            span_rewards_BT=self._gather_spans(output) if "span_rewards_BT" in needs else None,
            scoring_values_BT=self._gather_tokens(output[VALUES]) if VALUES in output else None,
            kl_rewards_BT=self._gather_tokens(output[KL_REWARDS]) if KL_REWARDS in output else None,
        )

    def _gather_tokens(self, values_BT: Tensor) -> Tensor:
        """(B_local, T_local) of each rank -> (B, T) of all; T differs per rank, so pad first (False or 0)."""
        if self.accelerator.num_processes == 1:
            return values_BT
        numbers_BT = values_BT if values_BT.is_floating_point() else values_BT.long()
        padded_BT = self.accelerator.pad_across_processes(numbers_BT, dim=1, pad_index=0)
        return self.accelerator.gather(padded_BT).to(values_BT.dtype)

    def _gather_spans(self, output: dict) -> Tensor:
        """(B, T) of all ranks, as wide as the completions (TRL may pad them to a multiple)."""
        earned_BT, ids_BT = self._span_rewards_BT, output["completion_ids"]
        padding = (0, ids_BT.shape[1] - earned_BT.shape[1])
        return self._gather_tokens(torch.nn.functional.pad(earned_BT, padding).to(ids_BT.device))

    def _compute_loss(self, model, inputs):
        if self.credit is None:
            return super()._compute_loss(model, inputs)
        self._loss_inputs, self._visited = dict(inputs), inputs
        try:
            with self._kl_out_of_loss(), self.members.batch(self.model.training):
                loss = super()._compute_loss(model, self._loss_inputs)
            self._settle_doubts()
            if self._policy_stands_still:
                loss = loss * 0.0
            return loss if self._shared_loss is None else loss + self._shared_loss
        finally:
            self._loss_inputs, self._visited, self._shared_loss = None, {}, None

    def _settle_doubts(self) -> None:
        """Before the last backward of an optimiser step, so before the weights move: stops all ranks at once if a live member
        returned NaN or inf on one of them."""
        if self.model.training and not self.accelerator.sync_gradients:
            return
        flags = self._doubts.flags()
        self._doubts.settle(None if flags is None else self.accelerator.reduce(flags, reduction="sum"))

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        with self._watched(attention_mask, logits_to_keep) as caught:
            result = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        if self._loss_inputs is not None:
            # TRL reads advantages and old log-probs from this very dict after this call, so both can still be written.
            self._write_credit(self._loss_inputs, result[0].detach(), result[1], caught)
        elif self._passes is not None:
            self._passes.append((result[0], caught))
        return result

    def _write_credit(
        self, inputs: dict, policy_logps_BT: Tensor, entropies_BT: Tensor | None, caught: list[Tensor]
    ) -> None:
        mask_BT = _mask(inputs)
        states_BTD = None if self.critic is None else self._critic_states(inputs, caught)
        signals = self._live_signals(inputs, mask_BT, policy_logps_BT, entropies_BT)
        advantages_BT = inputs.get("credit_advantages_BT")
        if self.credit.is_live:
            advantages_BT = self.credit.live_advantages(signals, self._doubts)
        if self.critic is not None:
            self._fit_critic(inputs, states_BTD, signals, advantages_BT)
        if self.credit.uses_own_ratio:
            log_ratio_BT = self.credit.log_ratio(signals, self._doubts).masked_fill(~mask_BT, 0.0)
            inputs["old_per_token_logps"] = policy_logps_BT - log_ratio_BT
        if torch.is_tensor(inputs.get("num_items_in_batch")):
            inputs["num_items_in_batch"] = inputs["num_items_in_batch"].clamp(min=1)
        weights_BT = inputs["credit_weights_BT"]
        inputs["advantages"] = advantages_for_trl(
            self, advantages_BT, weights_BT, mask_BT, inputs.get("num_items_in_batch", 1)
        )
        for observe in self.credit_observers:
            observe(self, signals, advantages_BT, weights_BT)

    def _live_signals(
        self, inputs: dict, mask_BT: Tensor, policy_logps_BT: Tensor, entropies_BT: Tensor | None
    ) -> dict:
        """Signals of one micro-batch, by name (credit/batch.py); nothing of another row is in reach."""
        signals = {
            "mask_BT": mask_BT,
            "lengths_B": mask_BT.sum(dim=1),
            "max_length": self.max_completion_length,
            "token_ids_BT": inputs["completion_ids"],
            "policy_logps_BT": policy_logps_BT,
            "sampler_logps_BT": inputs.get("old_per_token_logps", policy_logps_BT),
            "entropies_BT": None if entropies_BT is None else entropies_BT.detach(),
            **{name: inputs.get(key) for key, name in _ROW_LOCAL.items()},
        }
        if self.credit.kl_in_reward:
            signals["kl_rewards_BT"] = self._kl_of(inputs, signals["sampler_logps_BT"], mask_BT)
            self._log_kl(signals["kl_rewards_BT"], mask_BT)
        return {name: value for name, value in signals.items() if value is not None}


def _strategy(credit: Strategy | str | None, config_dirs: Sequence[str | Path]) -> Strategy | None:
    if credit is None or isinstance(credit, Strategy):
        return credit
    if isinstance(credit, str) and credit.strip():
        from configs.compose import named_strategy  # Hydra only where a name has to be looked up

        return named_strategy(credit, config_dirs)
    raise ValueError(f"credit must be a credit.Strategy, the name or file of one, or None, got {credit!r}.")
