"""A strategy of the user's that fails in training: his frames on the terminal, the whole traceback in the run folder."""

from __future__ import annotations

import pytest

from support.runs import SMALL, train

STRATEGY = """# fails
defaults:
  - dr_grpo
  - _self_
name: mine
spread:
  _target_: my_credit.late
"""
CODE = """
import os

def late(advantages_B, mask_BT):
    if os.environ["RANK_THAT_FAILS"] in ("all", os.environ.get("RANK", "0")):
        raise ValueError("boom")
    return advantages_B[:, None] * mask_BT
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "configs" / "credit").mkdir(parents=True)
    (tmp_path / "configs" / "credit" / "mine.yaml").write_text(STRATEGY)
    (tmp_path / "my_credit.py").write_text(CODE)
    return [*SMALL, "credit=mine", "trainer.max_steps=2", "--config-dir", "configs", "run_dir=run"]


def test_an_error_in_training_shows_the_users_frames_and_keeps_the_whole(mine, server, tmp_path):
    done = server.train(*mine, cwd=tmp_path, check=False, RANK_THAT_FAILS="all")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "train_grpo.py: ValueError: boom" in done.stderr and "my_credit.py" in done.stderr
    assert 'raise ValueError("boom")' in done.stderr and "run/error.log" in done.stderr
    log = (tmp_path / "run" / "error.log").read_text()
    assert "Traceback" in log and "trainers/grpo.py" in log and "my_credit.py" in log
    assert not (tmp_path / "run" / "summary.json").exists()


def test_an_exit_in_a_users_code_is_an_error_and_no_end_of_the_run(mine, server, tmp_path):
    (tmp_path / "my_credit.py").write_text(CODE.replace('ValueError("boom")', "SystemExit(0)"))
    done = server.train(*mine, cwd=tmp_path, check=False, RANK_THAT_FAILS="all")
    assert done.returncode == 1 and "SystemExit: 0" in done.stderr and "my_credit.py" in done.stderr
    assert "SystemExit" in (tmp_path / "run" / "error.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["0", "1", "all"])
def test_each_rank_reports_its_own_failure_once_and_none_hangs(failing, mine, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK_THAT_FAILS", failing)
    done = train(*mine, "trainer.per_device_train_batch_size=4", ranks=2, cwd=tmp_path, check=False)
    assert done.returncode != 0
    for rank in ("0", "1"):
        mine_too = failing in ("all", rank)
        said = done.stderr.count(f"[rank {rank}] train_grpo.py: ValueError: boom")
        assert (
            said == (1 if failing == rank else said) <= mine_too
        )  # of two that fail, the launcher may stop the slower
    assert "ValueError: boom" in done.stderr
