"""`key=value` is cut in one place only."""

from __future__ import annotations

import re

import pytest

from support.runs import ROOT
from userio.words import check_option, is_path, word_of


@pytest.mark.parametrize(
    "text, key, value, name",
    [
        ("a=b=c", "a", "b=c", "a"),
        ("++credit.eps=", "++credit.eps", "", "credit.eps"),
        ("~credit", "~credit", None, "credit"),
        ("=1", "", "1", ""),
    ],
)
def test_a_word_is_cut_at_its_first_sign(text, key, value, name):
    word = word_of(text)
    assert (word.key, word.value, word.name, word.text) == (key, value, name, value or "")


def test_an_unknown_option_is_told_with_all_there_are():
    check_option("out", ("out",))
    with pytest.raises(ValueError, match=re.escape("ou= is no option; there are: out, --all.")):
        check_option("ou", ("out",), "--all")


def test_no_other_file_cuts_words():
    house = [path for path in ROOT.glob("*/**/*.py") if path.parts[len(ROOT.parts)] not in ("tests", "benchmarks")]
    cutting = {
        str(path.relative_to(ROOT))
        for path in house
        if re.search(r"""partition\(["']=["']\)|split\(["']=["']""", path.read_text(encoding="utf-8"))
    }
    assert cutting == {"userio/words.py"}


def test_a_path_may_have_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_path("runs/a,b=c/seed0") and not is_path("out=runs/x") and not is_path("b=c")
    (tmp_path / "b=c").mkdir()
    assert is_path("b=c")
