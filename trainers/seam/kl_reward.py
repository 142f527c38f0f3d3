"""The KL penalty as part of the reward (`kl_in_reward`): collected for the strategy, left out of TRL's loss, logged.

At scoring time it needs the sampler's log-probs: TRL's own pass for old log-probs where it makes one, else one more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from trainers.model.adapters import REFERENCE, is_adapted, without_adapter
from trainers.seam.visit import KL_REWARDS_BT


class KLReward:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods."""

    _kl_beta: float  # the coefficient; `beta` itself is 0 while TRL's loss is to leave its term out

    def _note_beta(self) -> None:
        """After TRL's `__init__`."""
        self._kl_beta = self.beta

    @property
    def _scores_kl(self) -> bool:
        """Whether the penalty is needed before the live forward pass."""
        credit, critic = self.credit, self.critic
        return credit.needs_kl_at_scoring or (credit.kl_in_reward and critic is not None and critic.at_scoring)

    def _kl_of(self, inputs: dict, sampler_logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T) the penalty of these rows: as it was scored, where it was."""
        if KL_REWARDS_BT in inputs:
            return inputs[KL_REWARDS_BT]
        return self._kl_rewards(sampler_logps_BT, inputs["ref_per_token_logps"], mask_BT)

    def _kl_rewards(self, sampler_logps_BT: Tensor, ref_logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T) -beta log(pi / pi_ref) of the sampled tokens, as PPO puts it into the reward; 0 at masked tokens."""
        return (-self._kl_beta * (sampler_logps_BT - ref_logps_BT)).masked_fill(~mask_BT, 0.0)

    def _log_kl(self, kl_rewards_BT: Tensor, mask_BT: Tensor) -> None:
        """TRL's metric `kl`, which it logs with its own term only: mean log(pi / pi_ref) over learning tokens, all ranks."""
        sums = torch.stack([-kl_rewards_BT.sum() / self._kl_beta, mask_BT.sum().to(kl_rewards_BT.dtype)])
        total, tokens = self.accelerator.reduce(sums.detach(), reduction="sum").tolist()
        self._metrics["train" if self.model.training else "eval"]["kl"].append(total / tokens if tokens else math.nan)

    def save_model(self, output_dir=None, _internal_call=False):
        """Without the frozen copy of an adapter that is trained on, TRL's or ours: it is made again from the start of the run."""
        inner = self.accelerator.unwrap_model(self.model)
        copied = is_adapted(inner) and REFERENCE in inner.peft_config
        with without_adapter(inner, REFERENCE) if copied else nullcontext():
            super().save_model(output_dir, _internal_call)

    @contextmanager
    def _kl_out_of_loss(self) -> Iterator[None]:
        """TRL leaves its own KL term out while the strategy has it in the reward."""
        if not self.credit.kl_in_reward:
            yield
            return
        self.beta = 0.0
        try:
            yield
        finally:
            self.beta = self._kl_beta
