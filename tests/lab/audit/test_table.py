"""The table in the terminal: every strategy has a line, whatever could be measured of it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lab.audit.reading import reading_of
from lab.audit.table import show_audit
from lab.audit.words import findings

SEEN = {"value": 2.0, "low": 1.5, "high": 3.0}
UNSEEN = {"value": None, "low": 0.0, "high": None, "note": "its signal is not told from none"}
MEASURES = ("nsr", "norm", "cosine", "relative_bias", "critical_batch", "length_push")


def audit(of: dict) -> dict:
    row = dict.fromkeys(MEASURES, of)
    return {
        "reference": "rloo",
        "batches": 4,
        "completions": 16,
        "strategies": {"rloo": row, "mine.py:late": row},
        "pairs": {"rloo|mine.py:late": {"noise_ratio": of, "told_apart": False, "batches_needed": None}},
        "ranking": [["rloo", "mine.py:late"]],
    }


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_strategy_has_a_line_in_which_no_sentence_stands(width):
    for of, expected in ((SEEN, "2"), (UNSEEN, "n/a")):
        out = io.StringIO()
        show_audit(audit(of), Console(file=out, width=width, markup=False))
        text = out.getvalue()
        assert "mine.py" in text and "reference" in text and expected in text
        assert "not told from none" not in text and ("cosine" in text) is (width == 140)


def test_what_is_not_known_is_no_number_of_times_the_signal():
    assert "times the signal" in " ".join(findings(reading_of(audit(SEEN))))
    assert "times the signal" not in " ".join(findings(reading_of(audit(UNSEEN))))
