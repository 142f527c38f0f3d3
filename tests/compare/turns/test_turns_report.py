"""Credit and reward by turn in a report: counted by a loop over the records, with hostile ones among them."""

from __future__ import annotations

import csv
import math
import random

import numpy as np
import pyarrow.parquet as pq
import pytest

from compare.read import read_study
from compare.records import find_records, read_record
from compare.report.__main__ import write_report
from compare.report.analysis import Options, analyse
from compare.turns.steps import MOST_TURNS, read_step
from compare.turns.study import part_of, read_turns
from compare.turns.tables import turn_tables, turns_csv
from compare.turns.words import turn_method
from credit.turns.index import runs_of
from support.records import rows, write
from support.reports import write_run


def columns(seed: int, most: int = 12, completions: int = 6, **more):
    """Completions with turns anywhere: none at all, tool text first and last, rows without a score."""
    rng = random.Random(seed)
    tokens = [["x"] * rng.randint(0, most) for _ in range(completions)]
    learns = [[rng.random() < 0.6 for _ in one] for one in tokens]
    ends = [{run[-1]: rng.choice([0.0, 0.0, 0.3, -0.1, 1.0]) for run in runs_of(one)} for one in learns]
    earned = [[end.get(t, 0.0) for t in range(len(one))] for end, one in zip(ends, tokens, strict=True)]
    rewards = [None if b == 2 else sum(one) for b, one in enumerate(earned)]
    made = rows(tokens, [0] * completions, rewards, learns=learns, turn_rewards=earned)
    made["credit"] = [[rng.uniform(-1, 1) for _ in one] for one in tokens]
    return made | more


def looped(record):
    """The same numbers, turn after turn, completion after completion."""
    reached, push, net, earned, idle = {}, {}, {}, {}, 0.0
    for row in record:
        for k, run in enumerate(runs_of(row["learns"])):
            update = [row["credit"][t] * row["weight"][t] for t in run]
            got = sum(row["turn_rewards"][t] for t in run)
            reached[k] = reached.get(k, 0) + 1
            push[k] = push.get(k, 0.0) + sum(map(abs, update))
            net[k] = net.get(k, 0.0) + sum(update)
            earned[k] = earned.get(k, 0.0) + (got if row["reward"] is not None else 0.0)
            idle += sum(map(abs, update)) if got == 0 else 0.0
    return [[each.get(k, 0.0) for k in range(len(reached))] for each in (reached, push, net, earned)], idle


@pytest.mark.parametrize("seed", range(8))
def test_a_step_by_turn_is_what_a_loop_counts(seed, tmp_path):
    path = find_records(write(tmp_path, columns(seed)))[1]
    found, (vectors, idle) = read_step(1, path), looped(read_record(path))
    for name, vector in zip(("reached_K", "push_K", "net_K", "earned_K"), vectors, strict=True):
        assert getattr(found, name) == pytest.approx(np.array(vector), abs=1e-6), name
    assert found.idle == pytest.approx(idle, abs=1e-6) and (found.rows, found.scored, found.left_out) == (6, 5, 0)


def test_completions_with_numbers_that_are_none_are_left_out_and_the_others_count(tmp_path):
    good, bad = columns(1), columns(1)
    bad["credit"][4] = [math.nan] * len(bad["credit"][4])
    bad["reward"][5] = math.inf
    found = read_step(1, find_records(write(tmp_path / "bad", bad))[1])
    less = {name: value[:4] for name, value in good.items()}
    kept = read_step(1, find_records(write(tmp_path / "less", less))[1])
    assert found.left_out == 2 and kept.rows == found.rows == 4
    for name in ("reached_K", "push_K", "net_K", "earned_K"):
        assert np.array_equal(getattr(found, name), getattr(kept, name)), name


def test_shares_sum_to_one_over_any_steps_and_what_was_earned_to_the_mean_reward(tmp_path):
    steps, rewards = [], []
    for seed in (3, 4):
        made = columns(seed)
        made["learns"][0] = [True] * len(made["learns"][0])
        path = find_records(write(tmp_path, made, step=seed))[seed]
        steps.append(read_step(seed, path))
        rewards += [r["reward"] for r in read_record(path) if r["reward"] is not None and any(r["learns"])]
    part, scored = part_of(steps), sum(one.scored for one in steps)
    assert part.share_K.sum() == pytest.approx(1.0)
    assert part.earned_K.sum() * scored == pytest.approx(sum(rewards), abs=1e-6)


def test_a_conversation_of_any_number_of_turns_has_a_bounded_number_of_them(tmp_path):
    tokens, learns = [["x"] * 600], [[t % 2 == 0 for t in range(600)]]
    found = read_step(1, find_records(write(tmp_path, rows(tokens, [0], [1.0], learns=learns)))[1])
    assert len(found.reached_K) == MOST_TURNS and found.reached_K.tolist() == [1.0] * MOST_TURNS
    assert found.push_K.sum() == pytest.approx(300 * 0.125) and found.earned_K is None and found.idle is None


def study(folder, turns: bool = True):
    """Two arms of two seeds, which record three steps of thirty."""
    for arm, seed in (("turns", 0), ("turns", 1), ("dr_grpo", 0), ("dr_grpo", 1)):
        more = {"credit/turns": 3.0, "tools/failure_frequency": 0.1, "environments/failed": 0.0} if turns else {}
        logged = [{"step": i, "reward": 0.01 * i, "generated_tokens": 9 * i, **more} for i in range(1, 31)]
        run = write_run(folder / "errands" / arm / f"seed{seed}", logged)
        for step in (1, 11, 30):
            write(run, columns(100 * seed + step), step)
    return folder


def test_the_report_of_conversations_has_pictures_tables_and_every_turn(tmp_path):
    out = tmp_path / "report"
    write_report(read_study([study(tmp_path / "runs")]), Options(reference="dr_grpo"), out)
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    for said in ("Credit and reward by turn", "tool calls that failed", "credit on turns that earned nothing"):
        assert said in page and said in text
    shown = {
        name for name in ("turns", "credit_by_turn", "earned_by_turn", "tool_failures") if f"]({name}.png)" in text
    }
    assert len(shown) == 4 and "environment_failures" not in text  # none failed
    with (out / "turns.csv").open() as file:
        told = list(csv.DictReader(file))
    by_step: dict[tuple, float] = {}
    for row in told:
        key = (row["arm"], row["seed"], row["step"])
        by_step[key] = by_step.get(key, 0.0) + float(row["credit_share"])
    assert len(by_step) == 12 and all(total == pytest.approx(1.0) for total in by_step.values())


def test_runs_without_turns_have_none_of_it_and_their_records_are_not_read(tmp_path):
    folder = study(tmp_path, turns=False)
    for path in folder.rglob("*.parquet"):
        path.write_bytes(b"broken")
    assert read_turns(analyse(read_study([folder]), Options())) is None


def test_old_broken_and_silent_records_leave_the_rest_as_it_is(tmp_path):
    folder = study(tmp_path)
    old = folder / "errands/turns/seed0/records/step00000001.parquet"
    table = pq.read_table(old).drop_columns(["turn_rewards", "learns"])
    pq.write_table(table.replace_schema_metadata({"apportion_record_format": "1"}), old)
    (folder / "errands/turns/seed1/records/step00000011.parquet").write_bytes(b"broken")
    for path in (folder / "errands/dr_grpo/seed1/records").iterdir():
        path.unlink()
    analysis = analyse(read_study([folder]), Options())
    found = read_turns(analysis)
    text = " ".join(turn_method(found))
    assert len(found.skipped) == 1 and "1 record could not be read" in text and "step00000011" in text
    assert "1 run without records" in text and "Nobody recorded what turns earned in turns" in text
    assert [len(found.steps[key]) for key in sorted(found.steps)] == [3, 0, 3, 2]
    silent = found.steps["turns", "errands", 0][0]
    assert silent.earned_K is None and silent.idle is None and silent.reached_K.max() > 0
    assert next(title for title, _, _ in turn_tables(found, analysis)) == "Turns"
    assert {row["earned"] == "" for row in _dicts(turns_csv(found)) if row["seed"] == "0" and row["step"] == "1"} == {
        True,
        False,
    }


def _dicts(table):
    header, lines = table
    return [dict(zip(header, line, strict=True)) for line in lines]
