"""Where a critic meets `CreditGRPOTrainer`: values into the signals, the fit beside the policy's loss, files beside its files.

Values on hidden states come from TRL's own forward passes: its no-grad pass for old log-probs where it makes one, else the
live pass. Either way they are the first visit's: they stay with the rows when a batch is used again.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import TrainerCallback

from credit.batch import Credit, Rollout
from credit.strategy import Strategy
from trainers.critic.base import Critic, build_critic
from trainers.critic.metrics import sums_of
from trainers.seam.kl_reward import KL_REWARDS

VALUES = "credit_values_BT"
_TEXT = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
# What TRL's batch dict may hold for its forward pass beside tokens and masks (images of multimodal policies).
_FORWARD_EXTRAS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


class CriticSeam:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods. `critic` is None without one."""

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

    def _watched(self, attention_mask: Tensor, width: int):
        """Around a forward pass: catches states in the loss, values at scoring time, nothing while generating."""
        if self.critic is None:
            return nullcontext([])
        if self._loss_inputs is not None:
            return self.critic.catching(width)
        if self._passes is None:
            return nullcontext([])
        visible_BT = attention_mask[:, -width:].bool()
        return self.critic.catching(width, lambda states, rows: self.critic.values(states, visible_BT[rows]))

    def _note_before_update(self, output: dict, passes: list) -> None:
        """Puts what scoring needs of the policy that sampled beside the rows: the KL penalty and a critic's values. Takes them from
        TRL's pass for old log-probs; makes a pass where they are needed and TRL made none. `passes` holds (log-probs, caught
        values) of every pass so far."""
        old_logps = output.get("old_per_token_logps")
        found = next((entry for entry in passes if entry[0] is old_logps), None)
        critic = self.critic
        scores_values = critic is not None and "scoring_values_BT" in self.credit.needs and not critic.at_scoring
        if found is None and (self._scores_kl or (scores_values and not critic.own_pass)):
            found = self._one_more_pass(output)
        if self._scores_kl:
            output[KL_REWARDS] = self._kl_rewards(found[0], output["ref_per_token_logps"], _mask(output))
        if critic is None or critic.at_scoring or (found is None and not scores_values):
            return
        output[VALUES] = self._values_by_own_pass(output) if critic.own_pass else torch.cat(found[1])

    def _values_by_own_pass(self, output: dict) -> Tensor:
        """(B, T) values of a generation batch, as many rows at a time as TRL puts through the policy."""
        size, rows = self.args.per_device_train_batch_size, len(output["completion_ids"])
        values = []
        for first in range(0, rows, size):
            some = {name: output[name][first : first + size] for name in _TEXT}
            images = {name: output[name] for name in output if name in _FORWARD_EXTRAS}  # refused with a message
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

    def _one_more_pass(self, output: dict) -> tuple:
        """(log-probs, caught values) of the policy as it is, without gradient."""
        tokens = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        extras = {name: output[name] for name in _FORWARD_EXTRAS if name in output}
        width, size = output["completion_ids"].shape[1], self.args.per_device_train_batch_size
        self._passes = passes = []
        try:
            with torch.no_grad():
                self._get_per_token_logps_and_entropies(self.model, tokens, mask, width, batch_size=size, **extras)
        finally:
            self._passes = None
        return passes[-1]

    def _critic_states(self, inputs: dict, caught: list) -> Tensor | None:
        """States of this micro-batch, with the graph that the fit needs, and the first visit's values beside the rows."""
        if self.critic.at_scoring:
            return None
        learn = self.model.training and torch.is_grad_enabled()
        states_BTD = self.critic.pass_of_own(inputs, learn) if self.critic.own_pass else torch.cat(caught)
        if VALUES not in inputs:
            values_BT = self.critic.values(states_BTD, inputs["completion_mask"].bool())
            inputs[VALUES] = self._visited[VALUES] = values_BT
        return states_BTD

    def _fit_critic(self, inputs: dict, states_BTD: Tensor | None, signals: dict, advantages_BT: Tensor) -> None:
        """The critic's part of one micro-batch, after its values went into the credit."""
        mask_BT, values_BT, critic = signals["mask_BT"], inputs[VALUES], self.critic
        fit_BT = mask_BT if critic.at == "tokens" else mask_BT & (mask_BT.cumsum(dim=1) == 1)
        fit_weights_BT = fit_BT * inputs["credit_critic_weight_B"][:, None]
        targets_BT = critic.targets(self.credit.outcome(signals).float(), values_BT.masked_fill(~mask_BT, 0.0), mask_BT)
        visible_BT = inputs["completion_mask"].bool()
        training = self.model.training and torch.is_grad_enabled()
        if training and states_BTD is not None:
            self._shared_loss = critic.learn(states_BTD, visible_BT, targets_BT, values_BT, fit_weights_BT)
        if self.critic.at_scoring and not training:
            return  # evaluation draws one completion of a prompt, and there are no others to compare with
        surprise_BT = (1 - signals["policy_logps_BT"].exp()).masked_fill(~mask_BT, 0.0) * inputs["credit_weights_BT"]
        rewards_B1 = signals["rewards_B"].nan_to_num(nan=0.0)[:, None]
        leave_one_out_B1 = inputs["credit_leave_one_out_B"][:, None]
        noise = {"reward": rewards_B1, "group": leave_one_out_B1, "credit": advantages_BT}
        sums = sums_of(
            critic.loss_of_values(values_BT, targets_BT),
            targets_BT,
            values_BT,
            fit_weights_BT,
            mask_BT,
            {name: credit * surprise_BT for name, credit in noise.items()},
        )
        critic.metrics.add(**sums)
        if not training:
            critic.metrics.flush("eval")

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


def _mask(inputs: dict) -> Tensor:
    """(B, T) bool: tokens the policy wrote, tool text and truncated rows (if TRL masks them) left out."""
    mask_BT = inputs["completion_mask"]
    return (mask_BT * inputs["tool_mask"] if "tool_mask" in inputs else mask_BT).bool()
