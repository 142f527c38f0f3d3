"""What is said where a file of the user's has the name of a module that was loaded from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.compose import ConfigError, locate
from rewards.load import load_reward
from userio.namesakes import taken, taken_by


def test_a_file_with_the_name_of_a_loaded_module_is_named_with_both_places(tmp_path):
    assert not taken("json", tmp_path) and not taken("", tmp_path)
    (tmp_path / "json.py").touch()
    said = taken("json.decoder", tmp_path)
    assert str(tmp_path / "json.py") in said and json.__file__ in said
    assert not taken("json", Path(json.__file__).parents[1]), "the module itself is no namesake"


def test_the_module_that_an_import_wanted_is_found_behind_what_it_caused(tmp_path):
    (tmp_path / "json.py").touch()
    error = ValueError("outer")
    error.__cause__ = ImportError("cannot import name 'x' from 'json'", name="json")
    assert taken_by(error, tmp_path) == taken("json", tmp_path) != ""
    assert not taken_by(ValueError("nothing was imported"), tmp_path)


@pytest.mark.parametrize("line", ["from rewards import helper", "import rewards.helper"])
def test_a_reward_file_whose_neighbour_has_the_name_of_a_package_of_ours(tmp_path, line):
    (tmp_path / "rewards.py").write_text("helper = 1")
    (tmp_path / "mine.py").write_text(f"{line}\ndef polite(prompts, completions, **columns): ...\n")
    with pytest.raises(ValueError, match=f"not {tmp_path / 'rewards.py'}: rename"):
        load_reward("mine.py:polite", tmp_path)
    with pytest.raises(ValueError, match=f"not {tmp_path / 'rewards.py'}: rename"):
        load_reward("mine.polite", tmp_path)
    with pytest.raises(ValueError, match=f"not {tmp_path / 'rewards.py'}: rename"):
        load_reward("rewards.polite", tmp_path)


def test_a_strategy_file_whose_neighbour_has_the_name_of_a_package_of_ours(tmp_path, monkeypatch):
    (tmp_path / "credit.py").write_text("helper = 1")
    (tmp_path / "my_late_credit.py").write_text("from credit import helper\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=f"not {tmp_path / 'credit.py'}: rename"):
        locate("my_late_credit.late")
