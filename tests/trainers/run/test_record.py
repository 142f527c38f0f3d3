from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.run.records import Recorder, drop_after, record_files


def columns(groups: list[int], tokens: int = 3, **more) -> dict:
    rows = len(groups)
    return {
        "group": groups,
        "tokens": [["t"] * tokens for _ in range(rows)],
        "credit": [[float(group)] * tokens for group in groups],
        "weight": [[0.5] * tokens for _ in range(rows)],
        **more,
    }


def test_what_is_recorded_is_read_back(tmp_path):
    more = {"reward": [1.0, None], "reward/format": [0.5, float("nan")], "token_ids": [[1, 2, 3], [4, 5, 6]]}
    path = Recorder(tmp_path).record(11, columns([3, 3], **more))
    first, second = pq.read_table(path).to_pylist()
    assert path.name == "step00000011.parquet" and first["step"] == 11
    assert (first["credit"], first["weight"], first["token_ids"]) == ([3.0] * 3, [0.5] * 3, [1, 2, 3])
    assert (first["reward/format"], second["reward"], second["reward/format"]) == (0.5, None, None)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 12))
def test_only_whole_groups_are_kept_and_never_more_rows_than_allowed(groups, limit):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Recorder(folder, max_rows_per_step=limit).record(1, columns(groups))
        kept = [row["group"] for row in pq.read_table(path).to_pylist()]
    assert 0 < len(kept) <= limit
    whole = [group for group in set(kept) if kept.count(group) == groups.count(group)]
    assert len(whole) == len(set(kept)) or len(set(kept)) == 1


def test_folder_stays_below_its_limit_and_still_spans_the_run(tmp_path):
    recorder = Recorder(tmp_path, every=1, max_bytes=40_000)
    for step in range(1, 101):
        if recorder.due(step):
            recorder.record(step, columns([0, 1], credit=np.random.default_rng(step).normal(size=(2, 3)).tolist()))
    files = record_files(tmp_path)
    steps = [int(file.stem[4:]) for file in files]
    assert sum(file.stat().st_size for file in files) <= 40_000
    assert steps[0] == 1 and steps[-1] > 80 and 4 <= len(steps) < 40
    assert recorder.every > 1 and json.loads((tmp_path / "index.json").read_text())["every"] == recorder.every


def test_resumed_recorder_keeps_the_pace_the_folder_has_forced(tmp_path):
    recorder = Recorder(tmp_path, every=2, max_bytes=1)
    for step in (1, 3, 5):
        recorder.record(step, columns([0]))
    assert recorder.every > 2
    assert Recorder(tmp_path, every=2).every == recorder.every
    assert Recorder(tmp_path, every=0).every == 0


def test_due_are_the_first_step_every_nth_after_it_and_the_last(tmp_path):
    recorder = Recorder(tmp_path, every=10)
    assert [step for step in range(1, 26) if recorder.due(step, final=25)] == [1, 11, 21, 25]
    assert recorder.due(8, 12) and not recorder.due(12, 20)
    assert not any(Recorder(tmp_path, every=0).due(step, final=step) for step in range(1, 30))


def test_choice_of_groups_is_the_same_on_every_rank_and_another_at_every_step(tmp_path):
    one, two = Recorder(tmp_path, max_rows_per_step=32), Recorder(tmp_path / "rank1", max_rows_per_step=32)
    picks = [one.choose_groups(step, 16, 8) for step in range(1, 30)]
    assert picks == [two.choose_groups(step, 16, 8) for step in range(1, 30)]
    assert all(len(pick) == 4 and set(pick) <= set(range(16)) for pick in picks)
    assert {group for pick in picks for group in pick} == set(range(16))
    assert Recorder(tmp_path, max_rows_per_step=3).choose_groups(1, 16, 8) and len(one.choose_groups(1, 2, 8)) == 2


def test_records_after_the_checkpoint_go_when_a_run_resumes(tmp_path):
    recorder = Recorder(tmp_path)
    for step in (1, 11, 21):
        recorder.record(step, columns([0]))
    drop_after(tmp_path, 20)
    assert [file.name for file in record_files(tmp_path)] == ["step00000001.parquet", "step00000011.parquet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"credits": [[0.0] * 3]}, "unknown: credits"),
        ({"weight": None}, "missing: weight"),
        ({"credit": [[0.0] * 2]}, "2 entries for 3 tokens"),
        ({"reward": [1.0, 2.0]}, "equally long"),
    ],
)
def test_malformed_records_are_refused_and_leave_no_file(tmp_path, change, message):
    rows = {**columns([0]), **change}
    rows = {name: column for name, column in rows.items() if column is not None}
    with pytest.raises(ValueError, match=message):
        Recorder(tmp_path).record(1, rows)
    assert not record_files(tmp_path)


@pytest.mark.parametrize("bad", [{"every": -1}, {"max_rows_per_step": 0}, {"max_bytes": 0}])
def test_limits_that_make_no_sense_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="at least 1"):
        Recorder(tmp_path, **bad)


def test_a_life_that_goes_on_thins_its_files_when_an_undisturbed_one_does(tmp_path):
    """Killed after the folder was thinned, resumed from before: the files that are left and the pace are the same."""

    def life(folder, steps, recorder):
        for step in steps:
            if recorder.due(step, final=40):
                recorder.record(step, columns([0, 1]))
        return recorder

    def new(folder):
        return Recorder(folder, every=1, max_bytes=30_000)

    whole = life(tmp_path / "whole", range(1, 41), new(tmp_path / "whole"))
    assert whole.every > 1
    for cut, death in ((3, 12), (10, 30), (20, 21)):
        folder = tmp_path / f"cut{cut}"
        kept = life(folder, range(1, cut + 1), first := new(folder)).state_dict()
        life(folder, range(cut + 1, death), first)
        drop_after(folder, cut)
        again = new(folder)
        again.load_state_dict(kept)
        life(folder, range(cut + 1, 41), again)
        assert again.every == whole.every and again.state_dict() == whole.state_dict()
        assert [f.name for f in record_files(folder)] == [f.name for f in record_files(tmp_path / "whole")]


def test_a_run_that_starts_anew_forgets_the_pace_of_its_earlier_life(tmp_path):
    recorder = Recorder(tmp_path, every=1, max_bytes=1)
    for step in range(1, 9):
        recorder.record(step, columns([0, 1]))
    assert recorder.every > 1
    drop_after(tmp_path, 0)
    again = Recorder(tmp_path, every=1, max_bytes=1)
    again.start()
    assert again.every == 1 and again.state_dict()["sizes"] == {}
