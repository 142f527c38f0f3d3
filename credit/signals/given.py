"""Signals that the rows bring along; made by providers like all others, so that what nobody asks for is not gathered."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from credit.signals.contract import Rows, provides


@provides(stage="both", token_ids_BT="completion token ids; arbitrary where the mask is false")
def token_ids(rows: Rows) -> Mapping[str, Tensor]:
    return {"token_ids_BT": rows.token_ids_BT}


@provides(stage="both", span_rewards_BT="reward earned at each token; rows sum to the span rewards' total")
def span_rewards_of_rows(rows: Rows) -> Mapping[str, Tensor]:
    return {"span_rewards_BT": rows.span_rewards()}
