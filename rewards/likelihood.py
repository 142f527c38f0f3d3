"""The frozen reference's own likelihood as a reward: alignment that samples at a temperature of the whole sequence.

With the KL penalty in the reward, the policy that maximises E_q[log p(y)] - beta KL(q || p) is p^alpha / Z with alpha =
1 + 1/beta, so beta = 1/(alpha - 1) = tau/(1 - tau) (docs/token_or_sequence.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

REFERENCE = "reference_logp"


def own_likelihood(
    prompts: list | None = None,
    completions: Sequence = (),
    reference_logp: Sequence[float] | None = None,
    **columns: Any,
) -> list[float]:
    """log p(completion | prompt) under the reference policy, nats: the sum over its tokens, the end token included.

    `CreditGRPOTrainer` hands `reference_logp` to every reward that has a parameter of this name, one number per row. It is read
    off the pass that TRL makes for the KL term, so it costs no pass of its own and has that term's temperature.

    Range: up to 0; of an empty text 0. Raises:
        ValueError: nobody handed the log-probabilities over.
    """
    if reference_logp is None:
        raise ValueError(
            f"own_likelihood reads {REFERENCE}, which CreditGRPOTrainer collects under trainer.beta > 0; TRL's own trainer does "
            f'not, and to score texts by hand each row of the file needs it: {{"completion": ..., "{REFERENCE}": -12.5}}.'
        )
    return list(reference_logp)
