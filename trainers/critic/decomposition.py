"""The critic `decomposition`: credit/critic/decomposition.py on the rows of all ranks, at scoring time.

Every rank sees all rows, so every rank fits the same regression and nothing has to be exchanged."""

from __future__ import annotations

from torch import Tensor

from credit.batch import Rollout
from credit.critic import DecompositionSpec
from credit.critic.decomposition import ReturnDecomposition, values_of
from trainers.critic.base import GroupCritic


class DecompositionCritic(GroupCritic):
    spec: DecompositionSpec

    def __init__(self, trainer, spec: DecompositionSpec, gamma: float):
        if gamma != 1.0:
            raise ValueError("a decomposition adds up undiscounted contributions; keep credit.spread.gamma=1.")
        super().__init__(trainer, spec, gamma)
        text = trainer.model.config.get_text_config()
        tokenizer = trainer.processing_class  # a multimodal processor has no length
        vocabulary = max(text.vocab_size, len(tokenizer) if hasattr(tokenizer, "__len__") else 0)
        self.decomposition = ReturnDecomposition(vocabulary, spec.features, spec.ridge, spec.forgetting, spec.seed).to(
            trainer.accelerator.device
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self.decomposition.state_dict(keep_vars=True)

    def _identity(self) -> dict:
        return {**super()._identity(), "seed": self.spec.seed}  # of the random features, which are not saved

    def score(self, rollout: Rollout, advantages_B: Tensor, outcome_BT: Tensor, learn: bool) -> Tensor:
        contributions_BT, sums_BD = self.decomposition.contributions(rollout.token_ids_BT, rollout.mask_BT)
        values_BT = values_of(
            contributions_BT, outcome_BT, advantages_B, rollout.rewards_B, rollout.group_B, rollout.mask_BT
        )
        if learn:
            unseen_B = rollout.rewards_B.isnan() | ~rollout.mask_BT.any(dim=1)
            self.decomposition.fit(sums_BD, advantages_B.double().masked_fill(unseen_B, float("nan")), rollout.group_B)
        return values_BT.to(rollout.rewards_B.dtype)
