"""Information gain as a reward: what a piece of a completion added to the probability of the right answer.

p[b,k] = exp(log-prob of the answer / its tokens), the geometric mean over the answer's tokens, had it to be given where piece k
begins: after the prompt, the earlier pieces and, between turns, what a tool answered. Pieces are turns unless
credit/signals=answers says otherwise. It costs no rollout and no reward model, but the right answer must be known.

The sum over a row's pieces telescopes to p at its last piece less p at the prompt, so gains alone are a potential: they move no
optimum of E[R] as long as nothing is standardised. Standardised they do.

Shapes: C cut points and J pieces of the row that has most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from credit.declare import Declaration
from credit.reduce import group_centred, group_count, group_sum
from credit.returns import discounted_suffix_sums
from credit.settings import check_types
from credit.turns.index import has_turn, spread_over_turns, turn_counts

_SOURCE = "IGPO, arXiv 2510.14967v1, section 3; GuoqingWang1/IGPO core_algos.py"
_FLOOR = 1e-8  # of the variance, as coded: gains that agree up to rounding are no signal


@dataclass
class InformationGain:
    """Spread: IGPO. r[b,k] = p[b,k+1] - p[b,k] for each piece but the row's last, whose r is the row's reward R[b].

        A[b,k] = sum_{l>=k} gamma^(l-k) z(r)[b,l]

    z over all r of the group (`norm: joint`), or over gains and over outcomes apart (`separate`): less the mean, divided by the
    standard deviation (ddof 0) unless `scale` is off. Brings its own baseline: combine with `baseline: none`.

    Rows without an answer have gains 0 after standardising, and count in no mean of gains; nor do those of unscorable rows, which get
    0. A row without learning tokens gets nothing, and its reward counts. A gain is nobody's whose last piece is its only one.
    The code leaves out gains that are exactly 0; here they count.

    Source: IGPO, arXiv 2510.14967v1, section 3, and GuoqingWang1/IGPO verl/trainer/ppo/core_algos.py (`gamma` 1, `joint`, differences
    of probabilities are its defaults).

    Raises:
        ValueError: another `gain` or `norm`, gamma outside [0, 1], or eps negative.
    """

    gain: str = "prob"
    """Differences of the probability (`prob`), or of its logarithm (`log_prob`)."""
    norm: str = "joint"
    """`joint`: gains and outcomes are standardised together; `separate`: apart."""
    scale: bool = True
    """Whether the standard deviation divides."""
    gamma: float = 1.0
    """Discount per piece; below 1 later gains and the outcome count less."""
    eps: float = 1e-6
    """Added to the standard deviation."""

    def __post_init__(self):
        check_types(self, "spread.")
        for name, known in (("gain", ("prob", "log_prob")), ("norm", ("joint", "separate"))):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"spread.{name}={value!r} is not one of {', '.join(known)}.")
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"spread.gamma must lie in [0, 1], got {self.gamma}.")
        if self.eps < 0:
            raise ValueError(f"spread.eps must be >= 0, got {self.eps}.")

    @property
    def declaration(self) -> Declaration:
        return Declaration(False, "future", False, _SOURCE)

    def __call__(
        self,
        answer_logps_BC: Tensor,
        answer_lengths_B: Tensor,
        piece_BT: Tensor,
        mask_BT: Tensor,
        rewards_B: Tensor,
        group_B: Tensor,
    ) -> Tensor:
        piece_BT = piece_BT.masked_fill(~mask_BT, -1)
        counts_B = turn_counts(piece_BT)
        gains_BJ = self._gains(answer_logps_BC.to(rewards_B.dtype), answer_lengths_B, counts_B)
        gains_BJ = gains_BJ.masked_fill(rewards_B.isnan()[:, None], torch.nan)
        last_B1 = (counts_B - 1).clamp(min=0)[:, None]
        if self.norm == "joint":
            earned_BJ = self._z(gains_BJ.scatter(1, last_B1, rewards_B[:, None]), group_B)
        else:
            earned_BJ = self._z(gains_BJ, group_B).scatter(1, last_B1, self._z(rewards_B[:, None], group_B))
        return spread_over_turns(discounted_suffix_sums(earned_BJ, self.gamma), piece_BT)

    def _gains(self, logps_BC: Tensor, lengths_B: Tensor, counts_B: Tensor) -> Tensor:
        """(B, J) what each piece added; NaN at a row's last piece, beyond, and where there is no answer."""
        mean_BC = logps_BC / lengths_B.clamp(min=1)[:, None]
        known_BC = mean_BC.exp() if self.gain == "prob" else mean_BC
        gains_BJ = torch.nn.functional.pad(known_BC[:, 1:] - known_BC[:, :-1], (0, 1), value=torch.nan)
        return gains_BJ.masked_fill(~has_turn(counts_B - 1, gains_BJ.shape[1]), torch.nan)

    def _z(self, values_BJ: Tensor, group_B: Tensor) -> Tensor:
        """(B, J) standardised over all numbers of the group; 0 for NaN, and where there is one number or all are equal."""
        flat, groups = values_BJ.flatten(), group_B.repeat_interleave(values_BJ.shape[1])
        centred = group_centred(flat, groups)
        if self.scale:
            variance = group_sum(centred.square(), groups) / group_count(flat, groups).clamp(min=1)
            centred = centred / ((variance + _FLOOR).sqrt() + self.eps)
        return centred.view_as(values_BJ)
