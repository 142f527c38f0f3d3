"""`CreditGRPOTrainer`: TRL's GRPOTrainer with a credit strategy. The only seam between the maths and TRL.

No TRL method body is copied: each override calls super and adds. A batch of rollouts goes through these steps, numbered in
the code where they happen. What is known only during one of TRL's calls stands in a `Scoring` or a `Visit`
(trainers/seam/visit.py), and what a step makes for a later one rides in TRL's batch dict.

    _generate_and_score_completions      once a batch of rollouts: the facts that need all its rows, on all ranks
        [Step 1]  a `Scoring` begins; TRL samples, and groups without spread are exchanged, if asked   trainers/refill/seam.py
        [Step 2]  what every reward function gave is kept                              _calculate_rewards
        [Step 3]  the policy that sampled: KL penalty, a critic's values, statistics   trainers/seam/sampler_pass.py
        [Step 4]  providers make signals; baseline, weights, and spreads that need no  trainers/signals/, _score
                  forward pass

    _compute_loss                        once a micro-batch: facts of single rows, of the live policy
        [Step 5]  a `Visit` begins; TRL's loss reads a copy of the batch dict
        [Step 6]  TRL's forward pass; a critic catches hidden states                   _get_per_token_logps_and_entropies
        [Step 7]  a spread, and a factor on the weights, that read the live pass       trainers/signals/live_terms.py
        [Step 8]  the critic learns, from the values it had before                     trainers/critic/seam.py
        [Step 9]  a ratio of the strategy's own, by way of TRL's old log-probs
        [Step 10] credit and weights become the advantages that TRL reads              trainers/seam/trl_weight.py
        [Step 11] `credit_observers` look on
        [Step 12] TRL's loss is back: broken numbers stop all ranks; the visit is over; `loss_observers` look on

Each mixin does one thing more: what prompts have opened (trainers/seam/chat.py), the reference's likelihood as a reward
(reference_reward.py), the KL penalty in the reward (kl_reward.py), states that TRL keeps in no checkpoint (resume.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from credit.batch import Rollout
from credit.checks import Doubts
from credit.diagnostics import diagnose
from credit.strategy import Strategy
from rewards.guard import check_failures, report_failures
from rewards.text.opened import COLUMN
from trainers.critic.seam import CriticSeam
from trainers.model.adapters import is_adapted
from trainers.refill.seam import Refill
from trainers.seam import visit as keys
from trainers.seam.chat import ChatPrompts
from trainers.seam.checkpoints import SaveOnGenerationBoundary
from trainers.seam.environments import Environments, guarded_environments
from trainers.seam.kl_reward import KLReward
from trainers.seam.reference_reward import ReferenceReward
from trainers.seam.refusals import columns_in, refuse_columns, refuse_inexact, warn_of_what_is_lost
from trainers.seam.resume import ResumesExactly
from trainers.seam.sampler_pass import SamplerPass
from trainers.seam.trl_weight import advantages_for_trl
from trainers.seam.visit import Pass, Scoring, Visit, learning_mask
from trainers.signals.live_terms import LiveTerms
from trainers.signals.rescoring import weighted
from trainers.signals.seam import SignalSeam

logger = logging.getLogger(__name__)

# What rides in TRL's batch dict -> signal of the strategy (credit/batch.py).
_ROW_LOCAL = {
    keys.ADVANTAGES_B: "advantages_B",
    keys.REWARDS_B: "rewards_B",
    keys.SPAN_REWARDS_BT: "span_rewards_BT",
    keys.VALUES_BT: "values_BT",
}


class CreditGRPOTrainer(
    ResumesExactly,
    ChatPrompts,
    Refill,
    ReferenceReward,
    SamplerPass,
    KLReward,
    SignalSeam,
    LiveTerms,
    CriticSeam,
    Environments,
    GRPOTrainer,
):
    """GRPOTrainer plus `credit`.

    Args:
        credit: a `credit.Strategy`, the name of one in configs/credit/ (or overrides such as
            "dr_grpo credit/weight=seq_mean"), the path of a YAML of your own ("my_configs/credit/mine.yaml"), or None:
            TRL's own credit, untouched.
        config_dirs: folders of your own YAMLs, laid out like configs/, in which a name is looked up too.
        environment_timeout: seconds that one call of an environment may take (tasks/environments/guarded.py); None: no limit.
        refill: rounds at most in which groups whose rewards have no spread are replaced by groups of other prompts, before
            anything is computed of them (trainers/refill/seam.py); 0: they stay.
        *args, **kwargs: as `trl.GRPOTrainer`.

    Attributes:
        credit: the `credit.Strategy`, or None.
        critic: the `trainers.critic.base.Critic` that the strategy names, or None.
        credit_observers: functions that look at the credit in use. Each is called as `observe(trainer, visit)` for every
            micro-batch in the loss, in training and in evaluation (`trainer.model.training` tells which), on every rank with
            that rank's rows; `visit` is a `trainers.seam.visit.Visit`. They look and do not touch: what they keep, they copy.

                def watch(trainer, visit):
                    if trainer.model.training:
                        mass = (visit.advantages_BT * visit.weights_BT).abs().sum().item()
                        print(trainer.state.global_step, mass, visit.signals["rewards_B"].tolist())

                trainer.credit_observers.append(watch)
        scoring_observers: functions that look at a batch of rollouts once it has its rewards and credit. Each is called as
            `observe(trainer, scoring)`, in training and in evaluation, on every rank; `scoring` is a
            `trainers.seam.visit.Scoring` and holds this rank's rows of the data set.
        loss_observers: functions that look at the loss of a micro-batch before its backward pass. Each is called as
            `observe(trainer, visit, loss)`; the graph of `loss` and of `visit.live` is there and must stay as it is.
        gradient_observers: functions that look at the gradient of an optimiser step, of all its micro-batches and, under DDP, ranks,
            before its norm is clipped. Each is called as `observe(trainer)`, on every rank.
        carried, members: of `trainers.seam.resume.ResumesExactly`.

    Raises:
        ValueError: the TRL options make exact credit impossible; the message names the remedy.
    """

    # On the class, so that TRL's methods work on an object made without `__init__` (TRL tests them so).
    credit: Strategy | None = None
    _scoring: Scoring | None = None
    _visit: Visit | None = None
    start: Any = None  # a frozen copy of the policy at first, where a signal needs one (trainers/signals/reference.py)
    started_adapted = False  # whether the policy came with an adapter

    def __init__(
        self,
        *args,
        credit: Strategy | str | None = None,
        config_dirs: Sequence[str | Path] = (),
        environment_timeout: float | None = 30.0,
        refill: int = 0,
        **kwargs,
    ):
        self.credit = strategy_of(credit, config_dirs)
        self.credit_observers: list[Callable[[CreditGRPOTrainer, Visit], None]] = []
        self.scoring_observers: list[Callable[[CreditGRPOTrainer, Scoring], None]] = []
        self.loss_observers: list[Callable[[CreditGRPOTrainer, Visit, Tensor], None]] = []
        self.gradient_observers: list[Callable[[CreditGRPOTrainer], None]] = []
        self._doubts = Doubts()  # numbers of live members, of the micro-batches since the last optimiser step
        config = kwargs.get("args", args[2] if len(args) > 2 else None)
        rewards = kwargs.get("reward_funcs", args[1] if len(args) > 1 else None) or []
        if self.credit is not None:  # TRL's own credit, TRL's own environments
            refuse_columns(self.credit, columns_in(kwargs.get("train_dataset")))
            kwargs = guarded_environments(kwargs, environment_timeout, scored=bool(rewards))
        self._note_rewards(rewards if isinstance(rewards, list) else [rewards], config)
        if self.credit is not None and (config is not None or self.credit.requires):  # TRL's defaults are never refused
            refuse_inexact(config or GRPOConfig("unused", report_to="none"), self.credit)
        self.started_adapted = is_adapted(kwargs.get("model", args[0] if args else None))
        super().__init__(*args, **kwargs)
        self._refuse_tools()
        if self.credit is not None:
            self._take_environments(environment_timeout)
        if self.credit is not None and self.accelerator.is_main_process:
            warn_of_what_is_lost(self.args, self.credit)
        self._note_beta()
        self._build_critic()
        self._prepare_providers()
        report_failures(self.reward_funcs)
        self._note_states(self.credit)
        self._prepare_refill(refill)
        for callback in self.callback_handler.callbacks:
            self._introduce(callback)
        if self.credit is not None:
            self.add_callback(SaveOnGenerationBoundary())

    def add_callback(self, callback):
        super().add_callback(callback)
        self._introduce(callback)

    def _introduce(self, callback) -> None:
        """A callback that wants to know its trainer is told: `CreditRecords`, or yours with a method `attached(trainer)`."""
        if hasattr(callback, "attached") and not isinstance(callback, type):
            callback.attached(self)

    def _generate_and_score_completions(self, inputs):
        # [Step 1] Until the end of this call TRL's forward passes and rewards are noted in `scoring`.
        self._scoring = scoring = Scoring(rows=self._rows_to_play(inputs))  # a list that a refill may write into
        try:
            output = super()._generate_and_score_completions(scoring.rows)
            scoring.mask_BT = learning_mask(output)
            if self.credit is not None:
                # [Step 3] The policy has not moved since it sampled: what depends on that is read off now.
                self._note_sampler(output, scoring)
                with self.members.batch(self.model.training):
                    output.update(self._score(output, scoring))
                if self.model.training and self.accelerator.num_processes > 1:
                    self.members.compare(gather_object)
            self._count_extra(scoring)
            for observe in self.scoring_observers:
                observe(self, scoring)
        finally:
            self._scoring = None
        return output

    def _generate(self, prompts: list):
        answer = super()._generate(prompts)
        (self._scoring or Scoring()).wrote = answer[2]
        return self._refilled(prompts, answer, self._scoring)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        scoring = self._scoring or Scoring()
        inputs = self._rows_as_given(inputs)
        scoring.rows, scoring.completion_ids = inputs, completion_ids_list
        inputs = self._with_reference(self._with_openings(inputs, prompts), completion_ids_list, scoring)
        scoring.openings = [row.get(COLUMN) or "" for row in inputs]
        known, given = scoring.settled, (inputs, prompts, completions, completion_ids_list)
        rewards_BK = known.of(inputs, prompts) if known else self._without_faults(super()._calculate_rewards(*given))
        check_failures(self.reward_funcs, gather_object)
        # [Step 2] TRL will sum them; a strategy may want each.
        scoring.rewards_BK = rewards_BK
        scoring.prompts, scoring.completions, scoring.columns = prompts, completions, inputs
        return rewards_BK

    def _score(self, output: dict, scoring: Scoring) -> dict[str, Tensor]:
        """Runs the strategy on the rows of all ranks and returns this rank's share, keyed for TRL's batch dict."""
        mode = "train" if self.model.training else "eval"
        rollout = self._rollout(output, scoring, self.num_generations if mode == "train" else self.num_generations_eval)
        # [Step 4] Here, and only here, is the whole batch in sight.
        if self.critic is not None and self.critic.at_scoring:
            credit, rollout = self._score_with_groups(rollout)
        else:
            credit = self.credit.score(rollout)
        for name, value in diagnose(rollout, credit, self._known_by_turn(scoring, rollout.provided)).items():
            self._metrics[mode][f"credit/{name}"].append(value)
        rows, width = output["completion_mask"].shape
        mine = slice(self.accelerator.process_index * rows, (self.accelerator.process_index + 1) * rows)
        # One generation batch feeds several optimiser steps; each gets the mass of a whole batch.
        steps = self.args.steps_per_generation // self.args.gradient_accumulation_steps if mode == "train" else 1
        shared = {
            keys.WEIGHTS_BT: credit.weights_BT * steps,
            keys.AUXILIARY_BT: None if credit.auxiliary_BT is None else credit.auxiliary_BT * steps,
            keys.ADVANTAGES_BT: credit.advantages_BT,
            keys.ADVANTAGES_B: credit.advantages_B,
            keys.REWARDS_B: rollout.rewards_B,
            keys.SPAN_REWARDS_BT: rollout.span_rewards_BT,
            keys.GROUP_B: rollout.group_B,  # for records only, as the next
            keys.ROW_B: torch.arange(len(rollout.group_B), device=rollout.group_B.device),
            keys.REWARDS_BK: rollout.rewards_BK,
            **self._riding(rollout.provided),
            **self._critic_columns(rollout, steps),
        }
        local = {key: value[mine] for key, value in shared.items() if value is not None}
        return {key: value[:, :width].contiguous() if key.endswith("_BT") else value for key, value in local.items()}

    def _rollout(self, output: dict, scoring: Scoring, num_generations: int) -> Rollout:
        """The generation batch of all ranks. At scoring time TRL's rows stand in prompt order, so ids are countable."""
        rewards_BK = scoring.rewards_BK
        weights_K = self.reward_weights.to(rewards_BK.device, rewards_BK.dtype)
        rewards_B = weighted(rewards_BK, weights_K)
        # Signals of this rank's rows become signals of all rows.
        provided = self._provided(output, scoring, rewards_B, num_generations)
        return Rollout(
            rewards_B=rewards_B,
            rewards_BK=rewards_BK,
            reward_weights_K=weights_K,
            group_B=torch.arange(len(rewards_B), device=rewards_B.device) // num_generations,
            mask_BT=self._gather_tokens(scoring.mask_BT),
            max_length=self.max_completion_length,
            scoring_values_BT=self._gather_tokens(output[keys.VALUES_BT]) if keys.VALUES_BT in output else None,
            kl_rewards_BT=self._gather_tokens(output[keys.KL_REWARDS_BT]) if keys.KL_REWARDS_BT in output else None,
        ).with_provided(provided)

    def _gather_tokens(self, values_BT: Tensor, padding: float = 0) -> Tensor:
        """(B_local, T_local) of each rank -> (B, T) of all; T differs per rank, so pad first (False or 0). (B_local,) -> (B,)."""
        if self.accelerator.num_processes == 1:
            return values_BT
        numbers_BT = values_BT if values_BT.is_floating_point() else values_BT.long()
        if values_BT.dim() > 1:
            numbers_BT = self.accelerator.pad_across_processes(numbers_BT, dim=1, pad_index=padding)
        return self.accelerator.gather(numbers_BT.contiguous()).to(values_BT.dtype)

    def _compute_loss(self, model, inputs):
        if self.credit is None:
            return super()._compute_loss(model, inputs)
        # [Step 5] Until the end of this call TRL's forward pass finds the visit here.
        self._visit = visit = Visit.to(inputs)
        try:
            with self._kl_out_of_loss(), self.members.batch(self.model.training):
                loss = super()._compute_loss(model, visit.inputs)
            # [Step 12] Nothing of this micro-batch is left.
            self._settle_doubts()
            if visit.auxiliary is not None:  # DDP averages over ranks, the measure counts over all of them
                loss = loss + visit.auxiliary * self.accelerator.num_processes
            if self._policy_stands_still:
                loss = loss * 0.0
            for observe in self.loss_observers:
                observe(self, visit, loss)
            return loss if visit.loss is None else loss + visit.loss
        finally:
            self._visit = None

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:  # the last micro-batch of an optimiser step
            for observe in self.gradient_observers:
                observe(self)
        return loss

    def _settle_doubts(self) -> None:
        """Before the last backward of an optimiser step, so before the weights move: stops all ranks at once if a live member
        returned NaN or inf on one of them."""
        if self.model.training and not self.accelerator.sync_gradients:
            return
        flags = self._doubts.flags()
        self._doubts.settle(None if flags is None else self.accelerator.reduce(flags, reduction="sum"))

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        visit, scoring = self._visit, self._scoring
        if visit is not None:
            watching = self._catching_states(logits_to_keep)
        elif scoring is not None:
            watching = self._catching_values(attention_mask, logits_to_keep)
        else:
            watching = nullcontext([])
        # [Step 6] TRL's own forward pass, with what it makes on the way.
        with watching as caught, self._catching_statistics(model, scoring, logits_to_keep, kwargs) as sums:
            result = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        if visit is not None:
            visit.live = (result[0], result[1])
            # TRL reads advantages and old log-probs from this very dict after this call, so both can still be written.
            self._write_credit(visit, result[0].detach(), result[1], caught)
            if self.credit.auxiliary is not None:
                self._add_auxiliary(visit, result[0], self._doubts)
        elif scoring is not None:
            scoring.passes.append(Pass(result[0], caught, result[1], torch.cat(sums) if sums else None))
        return result

    def _write_credit(
        self, visit: Visit, policy_logps_BT: Tensor, entropies_BT: Tensor | None, caught: list[Tensor]
    ) -> None:
        inputs, mask_BT = visit.inputs, visit.mask_BT
        states_BTD = None if self.critic is None else self._critic_states(visit, caught)
        # [Step 7] Credit, if it was not known when the batch was scored.
        visit.signals = self._live_signals(inputs, mask_BT, policy_logps_BT, entropies_BT)
        visit.advantages_BT, visit.weights_BT = inputs.get(keys.ADVANTAGES_BT), inputs[keys.WEIGHTS_BT]
        if self.credit.is_live:
            visit.advantages_BT = self.credit.live_advantages(visit.signals, self._doubts)
        if self.credit.live_weight is not None:
            self._weigh_live(visit, self._doubts)
        # [Step 8] The critic has given its values; now it may see how it went.
        if self.critic is not None:
            self._fit_critic(visit, states_BTD)
        # [Step 9] TRL's rho is exp(policy - old), so an old log-prob of our own makes any rho.
        if self.credit.uses_own_ratio:
            log_ratio_BT = self.credit.log_ratio(visit.signals, self._doubts).masked_fill(~mask_BT, 0.0)
            inputs["old_per_token_logps"] = policy_logps_BT - log_ratio_BT
        # [Step 10] TRL multiplies its own weight back in.
        if torch.is_tensor(inputs.get("num_items_in_batch")):
            inputs["num_items_in_batch"] = inputs["num_items_in_batch"].clamp(min=1)
        items = inputs.get("num_items_in_batch", 1)
        inputs["advantages"] = advantages_for_trl(self, visit.advantages_BT, visit.weights_BT, mask_BT, items)
        # [Step 11] Credit as the loss will use it.
        for observe in self.credit_observers:
            observe(self, visit)

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
            **self._ridden(inputs),
        }
        if self.credit.kl_in_reward:
            signals["kl_rewards_BT"] = self._kl_of(inputs, signals["sampler_logps_BT"], mask_BT)
            self._log_kl(signals["kl_rewards_BT"], mask_BT)
        return {name: value for name, value in signals.items() if value is not None}


def strategy_of(credit: Strategy | str | None, config_dirs: Sequence[str | Path]) -> Strategy | None:
    """What the argument `credit` of `CreditGRPOTrainer` means.

    Raises:
        ValueError: neither a strategy nor the name of one.
    """
    if credit is None or isinstance(credit, Strategy):
        return credit
    if isinstance(credit, str) and credit.strip():
        from configs.compose import named_strategy  # Hydra only where a name has to be looked up

        return named_strategy(credit, config_dirs)
    raise ValueError(f"credit must be a credit.Strategy, the name or file of one, or None, got {credit!r}.")
