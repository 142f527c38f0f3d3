"""A refusal of ours is one line; an error in a user's code shows his frames; one of ours shows all of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import userio.tracebacks as tracebacks
from configs.compose import ConfigError, compose_strategy
from userio.tracebacks import explain, frames_of_user, is_refusal, write_log

USERS = """
def deep(n):
    return deep(n - 1) if n else fails()

def fails():
    raise ValueError("boom")

def missing():
    return {}["nothing"]

def calls(function):
    return function()
"""


@pytest.fixture
def users(tmp_path):
    (tmp_path / "my_code.py").write_text(USERS)
    spec = importlib.util.spec_from_file_location("my_code", tmp_path / "my_code.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def tests_are_ours(monkeypatch):
    """Else the frame of every test is a user's."""
    monkeypatch.setattr(tracebacks, "_ROOMS", (*tracebacks._ROOMS, "tests"))


def caught(function, *arguments) -> Exception:
    with pytest.raises(Exception) as info:
        function(*arguments)
    return info.value


def refuse():
    raise ConfigError("give the other")


def wrapped(function):
    try:
        function()
    except ValueError as error:
        raise ConfigError(f"task: {error}") from error


def test_a_refusal_of_ours_is_its_message():
    error = caught(refuse)
    assert is_refusal(error) and explain(error) == "give the other"
    error = caught(compose_strategy, ["credit=nosuch"])
    assert is_refusal(error) and "Traceback" not in explain(error)


@pytest.mark.parametrize("bug", [lambda: {}["ours"], lambda: int("12a"), lambda: json.loads("{"), lambda: [][1]])
def test_a_bug_of_ours_shows_its_whole_traceback_though_it_be_a_value_error(bug):
    error = caught(bug)
    assert not is_refusal(error) and "Traceback" in explain(error) and Path(__file__).name in explain(error)


@pytest.mark.parametrize("name", ["fails", "missing"])
def test_an_error_of_the_users_shows_his_frames_and_where_the_rest_is(name, users, tmp_path):
    error = caught(getattr(users, name))
    assert not is_refusal(error) and [frame.name for frame in frames_of_user(error)] == [name]
    log = write_log(tmp_path, error, "training", rank=1)
    said = explain(error, log)
    assert f"in {name}" in said and "my_code.py" in said and "Traceback" not in said and str(log) in said
    assert log.name == "error.rank1.log" and "Traceback" in log.read_text() and __file__ in log.read_text()
    assert "Traceback" in explain(error)  # no log, so all of it


def test_only_the_last_frames_of_the_users_are_shown(users):
    error = caught(users.deep, 20)
    said = explain(error, Path("error.log"))
    assert said.count("my_code.py") == tracebacks.SHOWN and "in fails" in said


def test_a_refusal_that_a_users_code_ran_into_or_caused_shows_where(users):
    assert "in calls" in explain(caught(users.calls, refuse))
    said = explain(caught(wrapped, users.fails))
    assert said.startswith("task: boom\n") and "in fails" in said and "Traceback" not in said


def test_what_a_library_raises_on_purpose_is_a_refusal_only_before_training():
    from trl import GRPOConfig

    error = caught(lambda: GRPOConfig("unused", report_to="none", bf16=False, num_generations=7))
    assert is_refusal(error) and not is_refusal(error, libraries=False)
    assert "Traceback" in explain(error, Path("error.log"))


def test_a_log_that_cannot_be_written_is_no_error(users, tmp_path):
    assert write_log(tmp_path / "nowhere", caught(users.fails), "training") is None


def test_a_log_keeps_what_was_there_before(users, tmp_path):
    for _ in range(2):
        write_log(tmp_path, caught(users.fails), "training")
    assert (tmp_path / "error.log").read_text().count("boom") >= 2
