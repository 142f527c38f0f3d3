"""Statistics of all tokens of the whole batch under the policy that sampled, before any update.

One forward pass without gradient at most, shared by all that ask; none where TRL makes its own for old log-probs.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from credit.signals.contract import Rows, provides

_OF = {"scoring_logps_BT": "logps", "scoring_entropies_BT": "entropies", "scoring_sum_sq_BT": "sum_sq"}


@provides(
    stage="both",
    scoring_logps_BT="log-prob of each token under the policy that sampled it, known before any update; costs a forward pass "
    "unless TRL makes its own",
    scoring_entropies_BT="entropy (nats) of the policy that sampled before each token, known before any update; from the same pass",
    scoring_sum_sq_BT="sum of the squared probabilities of the policy that sampled, known before any update; from the same pass",
)
def token_statistics(rows: Rows) -> Mapping[str, Tensor]:
    """What is wanted of `rows.policy_pass`."""
    asked = [name for name in _OF if name in rows.wanted]
    found = rows.policy_pass(*(_OF[name] for name in asked))
    return {name: getattr(found, f"{_OF[name]}_BT") for name in asked}


token_statistics.statistics = lambda wanted: [_OF[name] for name in _OF if name in wanted]  # type: ignore[attr-defined]
