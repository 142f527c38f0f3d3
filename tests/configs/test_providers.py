"""Providers of signals from the command line: a list or a mapping, by file or by choice, and what is said where it is neither."""

from __future__ import annotations

import pytest

from configs.compose import ConfigError, compose_strategy
from configs.fields.help import help_of
from credit.signals import SIGNALS, Column

CODE = """
from credit import provides

@provides(surprise_BT="how unexpected")
def surprise(rows, power=1.0):
    return {}

def surprised(advantages_B, surprise_BT):
    return surprise_BT
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_signals.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "given",
    [
        "[my_signals.py:surprise]",
        "[{_target_: my_signals.surprise}]",
        "{mine: {_target_: my_signals.surprise, power: 2}}",
    ],
)
def test_a_provider_is_named_in_a_list_or_a_mapping_by_file_or_module(folder, given):
    made = compose_strategy(["credit=dr_grpo", "credit.spread=my_signals.py:surprised", f"credit.signals={given}"])
    assert [wanted for _, wanted in made.makers()] == [{"surprise_BT"}]


def test_a_provider_is_chosen_by_name_and_its_settings_by_key():
    (made,) = compose_strategy(["credit=dr_grpo", "credit/signals=column", "credit.signals.column.column=hard"]).signals
    assert isinstance(made, Column) and set(made.provides) == {"hard_B"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["credit.signals=surprise"], "must be a list or a mapping of providers"),
        (["credit.signals=[surprise]"], "credit.signals.0: a provider of signals is a node"),
        (["credit/signals=colum"], "Did you mean `column`"),
        (["credit/signals=column", "credit.signals.column.colum=hard"], "takes no 'colum'. Did you mean `column`"),
        (["credit.signals=[{_target_: credit.weight.constant}]"], "constant is no provider of signals"),
    ],
)
def test_what_is_no_provider_is_told(words, said):
    with pytest.raises(ConfigError, match=said):
        compose_strategy(["credit=dr_grpo", *words])


def test_help_lists_every_signal_that_a_member_may_ask_for():
    text = help_of("train_grpo", "", ["credit/signals"])
    assert all(name in text for name in SIGNALS) and "credit.signals.column.column" in text
