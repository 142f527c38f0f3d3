"""Turns as signals: which turn a token belongs to, what turns earned, what the policy had been shown, whether the row was cut."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from credit.signals.contract import Rows, provides
from credit.signals.keys import hashed_ids
from credit.turns.index import earned_by_turn_end, runs_of, turn_index


@provides(
    stage="both",
    padding=-1,
    turn_BT="number of the policy's turn each token belongs to, from 0, as int64; -1 where the mask is false",
)
def turn_numbers(rows: Rows) -> Mapping[str, Tensor]:
    return {"turn_BT": turn_index(rows.mask_BT)}


@provides(
    stage="both",
    turn_rewards_BT="what was earned in each turn, at its last learning token, 0 elsewhere; rows with a turn sum to their reward",
)
def turn_rewards(rows: Rows) -> Mapping[str, Tensor]:
    """What no reward function places, and rewards of functions that say nothing of turns, falls on the last turn."""
    return {"turn_rewards_BT": earned_by_turn_end(rows.span_rewards(), turn_index(rows.mask_BT))}


@provides(
    stage="both",
    padding=-1,
    state_BT="int64 key of what the policy had been shown when the token's turn began, equal keys for equal states; -1 where the "
    "mask is false",
)
def turn_states(rows: Rows) -> Mapping[str, Tensor]:
    """The environment's own `state_key()`, else a hash of the tokens between the turns (before the first: of those since the
    prompt)."""
    told = rows.state_keys()
    state_BT = torch.full_like(rows.token_ids_BT, -1, dtype=torch.int64)
    for b, (mask_T, ids_T) in enumerate(zip(rows.mask_BT.tolist(), rows.token_ids_BT.tolist(), strict=True)):
        keys, since = (told[b] if told is not None else None) or (), 0
        for k, run in enumerate(runs_of(mask_T)):
            state_BT[b, run] = keys[k] if k < len(keys) else hashed_ids(ids_T[since : run[0]])
            since = run[-1] + 1
    return {"state_BT": state_BT}


@provides(
    stage="both",
    finished_B="bool: the row ended by itself and was not cut, neither by its length nor by the number of its turns",
)
def rows_finished(rows: Rows) -> Mapping[str, Tensor]:
    return {"finished_B": rows.finished()}


@provides(stage="both", visible_BT="bool: tokens of the conversation, tool text included; false at padding")
def visible_tokens(rows: Rows) -> Mapping[str, Tensor]:
    return {"visible_BT": rows.written_BT}
