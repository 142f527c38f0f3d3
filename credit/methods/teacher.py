"""Credit by a teacher: how much likelier a token is to somebody who knows more, D[b,t] = log p_teacher - log p_policy.

p_policy is the policy that sampled, before any update. A row without a teacher has D = 0. Tool text has none.

Credit D alone, for every token by itself, is the gradient of - KL(policy || teacher) of the next token, summed over the prefixes that
the policy visits: it makes the policy write like its teacher, whatever the reward; what a token does to later ones is left out. It
is a direction of E[reward] only as far as the teacher is one. docs/credit/teachers.md says what the lab found.
"""

from __future__ import annotations

import torch
from torch import Tensor

from credit.declare import declares


def surprise(teacher_logps_BT: Tensor, scoring_logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T) D at learning tokens, 0 elsewhere and in rows without a teacher."""
    known_BT = mask_BT & ~teacher_logps_BT.isnan()
    return torch.where(known_BT, teacher_logps_BT - scoring_logps_BT, torch.zeros_like(scoring_logps_BT))


@declares(
    unbiased=False,
    weight_class="none",
    row_constant=False,
    source="SDPO, arXiv 2601.20802; on-policy distillation, arXiv 2306.13649",
)
def distilled(
    advantages_B: Tensor,
    mask_BT: Tensor,
    teacher_logps_BT: Tensor,
    scoring_logps_BT: Tensor,
    lambda_: float = 0.0,
    clip: float = 5.0,
) -> Tensor:
    """A[b,t] = lambda A[b] + (1 - lambda) D[b,t], D[b,t] = log p_teacher - log p_policy cut at -clip and clip; 0 for D where the row
    has no teacher.

    SDPO and on-policy distillation are lambda 0, the first with the policy as its own teacher, the second with a larger model.
    SDPO's paper could not be read when this was written: it may sum over the likeliest tokens instead of the one that was sampled,
    and it moves its teacher slowly (credit/teacher=ema). `clip` is ours: one token that a teacher rules out is worth no more.

    Args:
        lambda_: share of the outcome's advantage, from 0 to 1.
        clip: the most that D counts, nats.
    """
    if not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"lambda_={lambda_} must be from 0 to 1.")
    taught_BT = surprise(teacher_logps_BT, scoring_logps_BT, mask_BT).clamp(-clip, clip)
    return lambda_ * advantages_B[:, None] + (1 - lambda_) * taught_BT.to(advantages_B.dtype)


@declares(
    unbiased=False, weight_class="action", row_constant=False, source="RLSD, arXiv 2604.03128, formula as in ms-swift"
)
def rescaled(
    advantages_B: Tensor,
    mask_BT: Tensor,
    teacher_logps_BT: Tensor,
    scoring_logps_BT: Tensor,
    lambda_: float = 0.5,
    clip: float = 0.2,
) -> Tensor:
    """RLSD: A[b,t] = A[b] (1 - lambda + lambda u[b,t]), u = clip(exp(sign(A[b]) D[b,t]), 1 - clip, 1 + clip): the outcome says the
    sign, the teacher how much of it a token gets. D = log p_teacher - log p_policy.

    The formula is that of ms-swift at second hand; neither the paper nor a schedule of lambda could be checked.

    Args:
        lambda_: how much the teacher says, from 0 to 1.
        clip: how far from 1 it may go.
    """
    if not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"lambda_={lambda_} must be from 0 to 1.")
    taught_BT = surprise(teacher_logps_BT, scoring_logps_BT, mask_BT).to(advantages_B.dtype)
    share_BT = (advantages_B.sign()[:, None] * taught_BT).exp().clamp(1 - clip, 1 + clip)
    return advantages_B[:, None] * (1 - lambda_ + lambda_ * share_BT)
