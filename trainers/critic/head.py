"""The critic `head`: V on the hidden states that the policy's own forward pass makes anyway."""

from __future__ import annotations

from torch import nn

from credit.critic import HeadSpec
from trainers.critic.gradient import GradientCritic
from trainers.critic.hidden_states import PolicyTrunk


class HeadCritic(GradientCritic):
    spec: HeadSpec

    def make_trunk(self, policy: nn.Module, device) -> PolicyTrunk:
        return PolicyTrunk(policy)

    @property
    def coefficient(self) -> float | None:
        return None if self.spec.detach else self.spec.coefficient
