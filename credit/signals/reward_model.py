"""An implicit reward model (PRIME): a language model whose log-ratio to the start, log p - log p_start, is a reward by token.

    credit=prime                                  the policy that sampled, in its place; nothing is trained
    credit=prime credit/signals=reward_model      a copy of the start that learns the outcomes as they come

The second keeps, on every rank, a copy of the policy and AdamW's two moments of what is trained in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from credit.signals.contract import Models, Rows, provides

_LOGPS = provides(
    stage="both",
    reward_model_logps_BT="log-prob of each token under an implicit reward model: the policy that sampled; with "
    "credit/signals=reward_model a copy of the start that learns the outcomes",
)


@_LOGPS
def policy_as_reward_model(rows: Rows) -> Mapping[str, Tensor]:
    """The policy that sampled."""
    return {"reward_model_logps_BT": rows.policy_pass("logps").logps_BT}  # type: ignore[dict-item]


policy_as_reward_model.statistics = ("logps",)  # type: ignore[attr-defined]


@_LOGPS
class LearnedRewardModel:
    """Learns to tell successes from failures: cross-entropy of sigmoid(beta sum_t (log p - log p_start)) over a row's learning
    tokens, mean over the rows that have an outcome and a learning token, of the whole generation batch. One step for each
    generation batch of training, after its log-probs were taken: the credit of a batch knows nothing of its own outcomes.
    PRIME, arXiv 2502.01456, and its code.

    Args:
        learning_rate: of its own AdamW (betas 0.9 and 0.999, no weight decay), constant.
        beta: in the cross-entropy; what a nat is worth as reward is `credit.spread.beta`, the same 0.05 in PRIME.
        success: a row whose reward is at least that is a success.
        max_grad_norm: its gradient is cut to that.

    Raises:
        ValueError: a setting that is not above 0.
    """

    stands_still_in_evaluation = True
    holds_start = True
    copies, learns = 1, True

    def __init__(
        self, learning_rate: float = 1e-6, beta: float = 0.05, success: float = 0.5, max_grad_norm: float = 10.0
    ):
        for name, value in {"learning_rate": learning_rate, "beta": beta, "max_grad_norm": max_grad_norm}.items():
            if not value > 0.0:
                raise ValueError(f"{name}={value} of the reward model must be above 0.")
        self.learning_rate, self.beta, self.success, self.max_grad_norm = learning_rate, beta, success, max_grad_norm
        self._learner: Any = None

    def prepare(self, models: Models) -> None:
        models.hold_start()
        self._learner = models.learner(self.learning_rate, self.max_grad_norm)

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        counts_B = ~rows.rewards_B.isnan() & rows.mask_BT.any(dim=1)
        count = sum(rows.gather(counts_B.tolist())) if rows.training else 0
        if not count:
            return {"reward_model_logps_BT": rows.logps_after(list(rows.prompt_ids), self._learner.model)}
        start_BT, labels_B = rows.reference_logps(), rows.rewards_B >= self.success

        def loss(logps_bT: Tensor, places_b: Tensor) -> Tensor:
            ratio_bT = (logps_bT - start_BT[places_b]).masked_fill(~rows.mask_BT[places_b], 0.0)
            scores_b, given_b = self.beta * ratio_bT.sum(dim=1), labels_B[places_b].to(logps_bT.dtype)
            each_b = binary_cross_entropy_with_logits(scores_b, given_b, reduction="none")
            return torch.where(counts_B[places_b], each_b, torch.zeros_like(each_b)).sum() / count

        logps_BT, entropy = rows.fit(self._learner, loss)
        rows.log("reward_model_loss", entropy)
        return {"reward_model_logps_BT": logps_BT}

    def state_dict(self) -> dict[str, Any]:
        return {} if self._learner is None else self._learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._learner is not None:
            self._learner.load_state_dict(state)
