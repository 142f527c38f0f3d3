"""Where a critic meets `CreditGRPOTrainer`: values into the signals, the fit beside the policy's loss, files beside its files.

Values on hidden states come from TRL's own forward passes: its no-grad pass for old log-probs where it makes one, else the
live pass. Either way they are the first visit's: they stay with the rows when a batch is used again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import TrainerCallback

from credit.baseline import leave_one_out
from credit.batch import Credit, Rollout
from credit.strategy import Strategy
from credit.turns.index import fitted_tokens
from trainers.critic.base import Critic
from trainers.critic.build import build_critic
from trainers.critic.metrics import sums_of
from trainers.seam.sampler_pass import FORWARD_EXTRAS
from trainers.seam.visit import VALUES_BT, WEIGHTS_BT, Pass, Visit

_FIT_WEIGHT_B, _LEAVE_ONE_OUT_B = "credit_critic_weight_B", "credit_leave_one_out_B"
_TEXT = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")


class CriticSeam:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods.

    Attributes:
        critic: the critic that the strategy names, once the policy is built; else None.
    """

    credit: Strategy | None
    critic: Critic | None = None

    def _build_critic(self) -> None:
        """After the policy is built."""
        if self.credit is None or self.credit.critic is None:
            return
        self.critic = build_critic(self, self.credit.critic, getattr(self.credit.spread, "gamma", 1.0))
        if self.credit.critic_warmup_steps:
            self.add_callback(_PolicyStandsStill(self.credit.critic_warmup_steps))

    @property
    def _policy_stands_still(self) -> bool:
        return self.critic is not None and self.state.global_step < self.credit.critic_warmup_steps

    # ---- forward passes of the policy

    def _catching_states(self, width: int) -> AbstractContextManager[list[Tensor]]:
        """Around the forward pass in the loss."""
        return nullcontext([]) if self.critic is None else self.critic.catching(width)

    def _catching_values(self, attention_mask: Tensor, width: int) -> AbstractContextManager[list[Tensor]]:
        """Around a forward pass at scoring time: values and not states, which would fill the memory."""
        if self.critic is None:
            return nullcontext([])
        visible_BT = attention_mask[:, -width:].bool()
        return self.critic.catching(width, lambda states, rows: self.critic.values(states, visible_BT[rows]))

    # ---- scoring

    @property
    def _scores_values(self) -> bool:
        """Whether the strategy needs values before the live forward pass, and the critic reads hidden states."""
        critic = self.critic
        return critic is not None and "scoring_values_BT" in self.credit.needs and not critic.at_scoring

    @property
    def _scores_values_of_policy(self) -> bool:
        """As `_scores_values`, off the policy's own hidden states."""
        return self._scores_values and not self.critic.own_pass

    def _note_values(self, output: dict, found: Pass | None) -> None:
        """Puts a critic's values beside the rows, if they are needed now or come with a pass that was made anyway."""
        critic = self.critic
        if critic is None or critic.at_scoring or (found is None and not self._scores_values):
            return
        output[VALUES_BT] = self._values_by_own_pass(output) if critic.own_pass else torch.cat(found.caught)

    def _values_by_own_pass(self, output: dict) -> Tensor:
        """(B, T) values of a generation batch, as many rows at a time as TRL puts through the policy."""
        size, rows = self.args.per_device_train_batch_size, len(output["completion_ids"])
        values = []
        for first in range(0, rows, size):
            some = {name: output[name][first : first + size] for name in _TEXT}
            images = {name: output[name] for name in output if name in FORWARD_EXTRAS}  # refused with a message
            states_BTD = self.critic.pass_of_own(some | images, learn=False)
            values.append(self.critic.values(states_BTD, some["completion_mask"].bool()))
        return torch.cat(values)

    def _score_with_groups(self, rollout: Rollout) -> tuple[Credit, Rollout]:
        """Credit with the values of a critic that looks at whole groups, which then learns from the batch; and the rollout with
        those values."""
        advantages_B = self.credit.advantages(rollout)
        outcome_BT = self.credit.outcome({**rollout.signals(), "advantages_B": advantages_B})
        values_BT = self.critic.score(rollout, advantages_B, outcome_BT, learn=self.model.training)
        rollout = replace(rollout, scoring_values_BT=values_BT)
        return self.credit.score(rollout, advantages_B), rollout

    def _critic_columns(self, rollout: Rollout, steps: int) -> dict[str, Tensor | None]:
        """What the critic's fit needs of the whole batch, keyed for TRL's batch dict; `steps` share its weight."""
        if self.critic is None:
            return {}
        return {
            VALUES_BT: rollout.scoring_values_BT,
            _FIT_WEIGHT_B: self.critic.row_weights(rollout) * steps,
            _LEAVE_ONE_OUT_B: leave_one_out(rollout.rewards_B, rollout.group_B),
        }

    # ---- the loss

    def _critic_states(self, visit: Visit, caught: list[Tensor]) -> Tensor | None:
        """States of this micro-batch, with the graph that the fit needs; the values, where none came with the rows.

        None come where TRL made no pass for old log-probs, and then this is the only visit to the rows: it makes that pass
        whenever a batch is used again.
        """
        critic, inputs = self.critic, visit.inputs
        if critic.at_scoring:
            return None
        learn = self.model.training and torch.is_grad_enabled()
        states_BTD = critic.pass_of_own(inputs, learn) if critic.own_pass else torch.cat(caught)
        if VALUES_BT not in inputs:
            inputs[VALUES_BT] = critic.values(states_BTD, inputs["completion_mask"].bool())
        return states_BTD

    def _fit_critic(self, visit: Visit, states_BTD: Tensor | None) -> None:
        """The critic's part of one micro-batch, after its values went into the credit."""
        inputs, signals, mask_BT, critic = visit.inputs, visit.signals, visit.mask_BT, self.critic
        values_BT, visible_BT = inputs[VALUES_BT], inputs["completion_mask"].bool()
        fit_BT = fitted_tokens(critic.at, mask_BT)
        fit_weights_BT = fit_BT * inputs[_FIT_WEIGHT_B][:, None]
        targets_BT = critic.targets(self.credit.outcome(signals).float(), values_BT.masked_fill(~mask_BT, 0.0), mask_BT)
        training = self.model.training and torch.is_grad_enabled()
        if training and states_BTD is not None:
            visit.loss = critic.learn(states_BTD, visible_BT, targets_BT, values_BT, fit_weights_BT)
        if critic.at_scoring and not training:
            return  # evaluation draws one completion of a prompt, and there are no others to compare with
        loss_BT = critic.loss_of_values(values_BT, targets_BT)
        critic.metrics.add(
            **sums_of(
                loss_BT, targets_BT, values_BT, fit_weights_BT, mask_BT, _updates(visit, inputs[_LEAVE_ONE_OUT_B])
            )
        )
        if not training:
            critic.metrics.flush("eval")

    # ---- files

    def save_model(self, output_dir=None, _internal_call=False):
        if self.critic is None:
            super().save_model(output_dir, _internal_call)
            return
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:  # first, so that a push to the hub takes it along
            self.critic.save(folder)
        with self.critic.saving_policy():
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self.critic is not None and self.args.should_save:
            self.critic.save_state(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.critic is not None and checkpoint is not None:
            self.critic.load(Path(checkpoint))

    def _load_best_model(self):
        super()._load_best_model()
        if self.critic is not None:
            self.critic.load_weights(Path(self.state.best_model_checkpoint))


class _PolicyStandsStill(TrainerCallback):
    """Leaves the policy's optimiser nothing to step on while the critic warms up: no gradients, so no moments and no decay.

    DeepSpeed steps inside its own backward; there the loss of 0 makes the gradients 0, and only weight decay acts."""

    def __init__(self, steps: int):
        self._steps = steps

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step < self._steps:
            model.zero_grad(set_to_none=True)


def _updates(visit: Visit, leave_one_out_B: Tensor) -> dict[str, Tensor]:
    """(B, T) w A (1 - p) of each token, with three kinds of A: what the metrics compare for noise."""
    signals = visit.signals
    probabilities_BT = signals["policy_logps_BT"].exp()
    surprise_BT = (1 - probabilities_BT).masked_fill(~visit.mask_BT, 0.0) * visit.inputs[WEIGHTS_BT]
    return {
        "reward": signals["rewards_B"].nan_to_num(nan=0.0)[:, None] * surprise_BT,
        "group": leave_one_out_B[:, None] * surprise_BT,
        "credit": visit.advantages_BT * surprise_BT,
    }
