"""Turns as signals: which turn a token belongs to, what turns earned, what the policy had been shown, whether the row was cut."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from credit.signals.contract import Rows, provides
from credit.turns.index import earned_by_turn_end, turn_index, turn_starts


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
    turn_BT = turn_index(rows.mask_BT)
    told, state_BT = rows.state_keys(), torch.full_like(turn_BT, -1)
    for b, (turn_T, ids_T) in enumerate(zip(turn_BT.tolist(), rows.token_ids_BT.tolist(), strict=True)):
        keys = told[b] if told is not None else None
        starts = turn_starts(turn_BT[b : b + 1])[0].nonzero().flatten().tolist()
        for k, start in enumerate(starts):
            if keys is not None and k < len(keys):
                key = keys[k]
            else:
                since = max((t + 1 for t in range(start) if turn_T[t] >= 0), default=0)
                key = _hashed(ids_T[since:start])
            state_BT[b][turn_BT[b] == k] = key
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


def _hashed(ids: list[int]) -> int:
    """A non-negative int64, the same in every process."""
    digest = hashlib.blake2b(",".join(map(str, ids)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
