"""One recorded step by turn: how many conversations have a turn, what they earned there, and what part of the update it got.

Shapes: N tokens of all completions, S turns of all completions, B completions, K turns, the last of which holds all beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compare.records import read_columns
from credit.turns.measures import ROUNDING

Doubles = NDArray[np.float64]
MOST_TURNS = 64  # told apart; later ones count as the last of them
_COLUMNS = ("credit", "weight", "learns", "turn_rewards", "reward")


@dataclass(frozen=True)
class TurnStep:
    """Sums over the completions of a recorded step; vectors are as long as the longest has turns.

    Attributes:
        reached_K: completions that have such a turn.
        push_K, net_K: sum of |A w| and of A w.
        earned_K: sum over scored completions; None where nobody said what turns earn.
        idle: sum of |A w| on turns that earned nothing; None likewise.
        rows, scored: completions, and those with a reward.
        left_out: completions with credit or rewards that are no finite numbers; they are in no other number here.
    """

    step: int
    reached_K: Doubles
    push_K: Doubles
    net_K: Doubles
    earned_K: Doubles | None
    idle: float | None
    rows: int
    scored: int
    left_out: int


def read_step(step: int, path: Path) -> TurnStep:
    """Raises ValueError: the file is broken, or no record."""
    try:
        table = read_columns(path, _COLUMNS)
        return _counted(step, {name: table.column(name).combine_chunks() for name in table.column_names})
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{path.name} cannot be read ({str(error).splitlines()[0]})") from None


def _counted(step: int, columns: Mapping[str, pa.Array]) -> TurnStep:
    credit_N, lengths_B = _flat(columns["credit"])
    weight_N, learns_N, earned_N = (
        _like(columns.get(name), lengths_B, name) for name in ("weight", "learns", "turn_rewards")
    )
    assert weight_N is not None
    rows, row_N = len(lengths_B), np.repeat(np.arange(len(lengths_B)), lengths_B)
    own_N = np.ones(len(row_N), dtype=bool) if learns_N is None else learns_N.astype(bool)
    with np.errstate(all="ignore"):
        update_N = np.where(own_N, credit_N * weight_N, 0.0)
    reward_B = columns["reward"].to_numpy(zero_copy_only=False).astype(float) if "reward" in columns else np.zeros(rows)
    broken_N = ~np.isfinite(update_N) | (False if earned_N is None else own_N & ~np.isfinite(earned_N))
    fine_B = (np.bincount(row_N, broken_N, rows) == 0) & ~np.isinf(reward_B)

    row_S, turn_S, which_N = _turns(own_N, row_N, rows)
    push_S, net_S = (_summed(values_N, which_N, len(row_S)) for values_N in (np.abs(update_N), update_N))
    fine_S, place_S = fine_B[row_S], np.minimum(turn_S, MOST_TURNS - 1)
    earned_K = idle = None
    width = int(place_S[fine_S].max()) + 1 if fine_S.any() else 0

    def by_turn(values_S: Doubles) -> Doubles:
        return np.bincount(place_S[fine_S], values_S[fine_S], width)

    if earned_N is not None:
        earned_S = _summed(np.where(own_N, earned_N, 0.0), which_N, len(row_S))
        scored_S = np.isfinite(reward_B)[row_S]
        earned_K = by_turn(np.where(scored_S, earned_S, 0.0))
        whole_B = np.bincount(row_S, np.abs(earned_S), rows)
        idle = float(push_S[fine_S & (np.abs(earned_S) <= ROUNDING * whole_B[row_S])].sum())
    return TurnStep(
        step=step,
        reached_K=by_turn((turn_S < MOST_TURNS).astype(float)),
        push_K=by_turn(push_S),
        net_K=by_turn(net_S),
        earned_K=earned_K,
        idle=idle,
        rows=int(fine_B.sum()),
        scored=int((fine_B & np.isfinite(reward_B)).sum()),
        left_out=int((~fine_B).sum()),
    )


def _turns(own_N: NDArray[np.bool_], row_N: NDArray[np.int64], rows: int):
    """(row of each turn, its number in the row, the turn of each token or -1)."""
    before_N = np.zeros(len(own_N), dtype=bool)
    before_N[1:] = own_N[:-1] & (row_N[1:] == row_N[:-1])
    starts_N = own_N & ~before_N
    which_N = np.where(own_N, np.cumsum(starts_N) - 1, -1)
    row_S = row_N[starts_N]
    count_B = np.bincount(row_S, minlength=rows)
    turn_S = np.arange(len(row_S)) - np.repeat(np.cumsum(count_B) - count_B, count_B)
    return row_S, turn_S, which_N


def _summed(values_N: Doubles, which_N: NDArray[np.int64], turns: int) -> Doubles:
    own_N = which_N >= 0
    return np.bincount(which_N[own_N], np.nan_to_num(values_N[own_N]), turns)


def _flat(column: pa.Array) -> tuple[Doubles, NDArray[np.int64]]:
    """Values of all lists one after the other, and how many each has."""
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    values = column.flatten()
    if column.null_count or values.null_count:
        raise ValueError("a null in a column of tokens")
    return values.to_numpy(zero_copy_only=False).astype(float), lengths.astype(np.int64)


def _like(column: pa.Array | None, lengths_B: NDArray[np.int64], name: str) -> Doubles | None:
    """The column's values, if it is there and says something of every completion."""
    if column is None or column.null_count:
        return None
    values_N, of_it_B = _flat(column)
    if not np.array_equal(of_it_B, lengths_B):
        raise ValueError(f"{name} is not as long as credit")
    return values_N
