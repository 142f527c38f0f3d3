"""A reward that is none, or the same for all, is told while the run goes on, and in its summary."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainers.run.tell.idle import PATIENCE, IdleSteps, idle_summary, learned_nothing, stretches


def rows(*values, every=1, key="reward"):
    """A row for each (value, spread)."""
    return [{"step": every * (i + 1), key: v, "reward_std": s} for i, (v, s) in enumerate(values)]


FLAT, NONE, LIVELY = (0.0, 0.0), (None, None), (0.5, 0.2)


@pytest.mark.parametrize(
    "logged, found",
    [
        (rows(FLAT, FLAT, LIVELY, NONE, FLAT), [(1, 2), (4, 5)]),
        (rows(LIVELY, FLAT, FLAT, every=5), [(6, 15)]),
        (rows((0.1, 3e-9), (7e6, 0.5), (float("nan"), float("nan"))), [(1, 3)]),
        (rows((0.1, 1e-3), (0.5, None)), []),
        ([{"step": 0, "eval_reward": 0.0}, *rows(FLAT)], [(1, 1)]),
    ],
)
def test_idle_steps_are_those_without_a_difference(logged, found):
    assert [(stretch.first, stretch.last) for stretch in stretches(logged, "reward")] == found


def test_a_loss_is_idle_where_it_stands_still_or_is_no_number():
    logged = [{"step": i + 1, "loss": loss} for i, loss in enumerate([1.0, 1.0, 0.9, None, float("nan"), 0.8])]
    assert [(s.first, s.last) for s in stretches(logged, "loss")] == [(2, 2), (4, 5)]


def test_only_a_run_that_was_idle_from_its_first_step_to_its_last_has_learned_nothing():
    short, whole = rows(*[FLAT] * (PATIENCE - 1)), rows(*[FLAT] * PATIENCE)
    assert idle_summary(short, "reward") == {} and not learned_nothing({})
    summary = idle_summary(whole, "reward")
    assert summary["idle"] == {"steps": 10, "first": 1, "of": 10, "why": "the reward has been 0 for every completion"}
    assert learned_nothing(summary)
    part = idle_summary(rows(LIVELY, *[NONE] * 12, LIVELY), "reward")
    assert part["idle"]["steps"] == 12 and part["idle"]["first"] == 2 and not learned_nothing(part)
    assert part["idle"]["why"] == "the reward has been no number (every reward function abstained)"


def test_it_is_said_once_when_it_begins_and_once_when_it_ends(tmp_path, capsys):
    def told(callback, logged):
        for row in logged:
            state = SimpleNamespace(global_step=row["step"], is_world_process_zero=True)
            callback.on_log(None, state, None, logs={key: value for key, value in row.items() if key != "step"})
        return [line for line in capsys.readouterr().err.splitlines() if line]

    logged = rows(*[FLAT] * 12, *[LIVELY] * 3, *[NONE] * 9)
    callback = IdleSteps("reward", tmp_path / "metrics.jsonl")
    callback.on_train_begin(None, None, None)
    assert told(callback, logged) == [
        "step 10: the reward has been 0 for every completion for 10 steps: nothing can be learned from it.",
        "step 13: the reward varies again.",
    ]
