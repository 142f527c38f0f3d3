"""What the page of an audit says, and that nothing in an audit.json can make it say or do anything else."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab.audit.page import write
from lab.audit.picture import log_window
from lab.audit.reading import Found, measured, read_audit, reading_of
from lab.audit.words import bias_in_cell, definitions, findings, first_sentence, reservations, told, told_percent
from support.reports import audit_of, with_ends

NUMBERS = st.one_of(
    st.none(), st.floats(), st.integers(), st.text("abc", max_size=3), st.booleans(), st.lists(st.none(), max_size=1)
)
ENDS = st.fixed_dictionaries({}, optional=dict.fromkeys(("value", "low", "high", "note"), NUMBERS))
SAID = st.one_of(NUMBERS, ENDS)
ROWS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("nsr", "relative_bias", "critical_batch", "length_push", "cosine"), SAID)
)
NAMES = st.sampled_from(["rloo", "a", "b|c", "<b>", "\x1b[31m"])
AUDITS = st.fixed_dictionaries(
    {"strategies": st.dictionaries(NAMES, ROWS, min_size=1)},
    optional={
        "about": SAID,
        "reference": st.one_of(NAMES, st.none()),
        "batches": NUMBERS,
        "completions": NUMBERS,
        "ranking": st.one_of(NUMBERS, st.lists(st.one_of(NAMES, NUMBERS, st.lists(NAMES, max_size=3)), max_size=3)),
        "pairs": st.one_of(SAID, st.dictionaries(st.sampled_from(["rloo|a", "a|rloo", "a|b|c", "z"]), SAID)),
        "shares": st.one_of(
            SAID, st.dictionaries(NAMES, st.dictionaries(st.sampled_from(["position", "reward"]), SAID))
        ),
    },
)


def said(audit) -> str:
    return "\n".join(findings(reading_of(audit)))


def test_the_ranking_stands_in_words_with_what_would_tell_a_group_apart():
    text = said(audit_of({"rloo": 2.0, "opo": 2.1, "seq_norm": 4.0}, ["rloo", "opo"], ["seq_norm"]))
    assert "Least noise: rloo and opo, from 2.0" in text
    assert "With 32 batches they cannot be told apart; about 90 would do." in text
    assert re.search(r"Next: seq_norm, 4.0.*\(2.0.*times the noise of rloo\)", text)
    assert "no number of batches that would do is in sight" in said(
        audit_of({"rloo": 2.0, "opo": 2.1}, ["rloo", "opo"], needed=None)
    )


def test_a_group_of_one_is_never_said_to_be_undecided():
    assert "cannot be told apart" not in said(audit_of({"rloo": 2.0, "opo": 5.0}))


def test_bias_is_named_where_its_interval_excludes_zero_and_bounded_elsewhere():
    text = said(audit_of({"rloo": 2.0, "dr_grpo": 2.0, "seq_norm": 2.0}, bias={"seq_norm": 0.5}))
    assert re.search(r"seq_norm is biased: its update moves 50.*% as far across rloo's as along it", text)
    assert re.search(r"No bias was seen in dr_grpo; with 32 batches one below 10.%", text)
    assert "rloo is biased" not in text  # the yardstick has none to itself


def test_an_update_that_points_backwards_is_called_so():
    audit = audit_of({"rloo": 2.0, "gtpo": 2.0})
    audit["strategies"]["gtpo"]["relative_bias"] = with_ends(1000.0, 400.0, 1000.0)
    assert "gtpo is biased: its update points backwards" in said(audit)


def test_what_a_batch_is_worth_follows_from_the_critical_batch():
    text = said(audit_of({"rloo": 0.25, "seq_norm": 4.0}))
    assert "signal outweighs noise under rloo" in text and "noise outweighs signal under seq_norm" in text
    assert re.search(r"signal equals noise at 16.*completions.*from 64 to 128 a step", text)
    audit = audit_of({"rloo": 0.25, "seq_norm": 4.0, "opo": 4.0})
    audit["strategies"]["opo"]["critical_batch"] = {
        "value": None,
        "low": 100.0,
        "high": None,
    }  # no number, and an end that says enough
    assert "noise outweighs signal under seq_norm and opo" in said(audit)
    assert re.search(r"rloo in the place of seq_norm is worth 16.*times as many completions", text)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Found(1.8, 1.5, 2.1), "1.80 [1.50, 2.10]"),
        (Found(1.8, 1.5, math.inf), "1.8 [1.5, no bound]"),
        (Found(high=0.12), "below 0.12"),
        (Found(low=3.0, high=math.inf), "above 3"),
        (Found(low=3.0, high=4.0), "3 to 4"),
        (Found(low=0.0, high=math.inf, note="any"), "any"),
        (Found(), "n/a"),
    ],
)
def test_what_bounds_a_number_is_said_and_nothing_else(found, text):
    assert told(found).replace("\u00a0", " ") == text


def test_percent_of_what_is_no_number_has_no_sign_of_percent():
    assert told_percent(Found(note="not seen")) == "not seen" and told_percent(Found(0.1, 0.05, 0.2)).endswith(
        "\u00a0%"
    )


def test_an_end_that_is_null_is_no_bound_and_none_of_both_no_interval():
    half, neither = (
        measured({"value": 2.0, "low": 1.0, "high": None}),
        measured({"value": 2.0, "low": None, "high": None}),
    )
    assert (half.low, half.high) == (1.0, math.inf) and math.isnan(neither.low) and not neither.bounded


def test_noise_that_an_estimate_made_negative_is_no_number():
    audit = audit_of({"rloo": 2.0})
    audit["strategies"]["rloo"]["nsr"] = with_ends(-1.0, -3.0, 9.0)
    found = reading_of(audit).numbers["rloo"]["nsr"]
    assert not found.known and (found.low, found.high) == (0.0, 9.0)


def test_a_pair_reads_the_same_from_both_sides():
    reading = reading_of(audit_of({"a": 1.0, "b": 4.0}))
    there, back = reading.pair("b", "a"), reading.pair("a", "b")
    assert there.ratio.value == pytest.approx(1 / back.ratio.value) == 4.0
    assert there.ratio.low == pytest.approx(1 / back.ratio.high) and there.ratio.low < there.ratio.value


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example({"strategies": {"rloo": {"nsr": {"value": None, "note": math.inf}}}})
@given(AUDITS)
def test_any_audit_is_read_and_told(audit):
    reading = reading_of(json.loads(json.dumps(audit)))
    lines = [*findings(reading), *reservations(reading), *definitions(reading), *first_sentence(reading)]
    assert lines and sorted(reading.order) == sorted(audit["strategies"])
    assert not any(re.search(r"\bnan\b|\binf\b", line) for line in lines)


def test_slices_are_called_by_the_tokens_that_are_in_them_and_one_slice_is_none():
    audit = audit_of({"rloo": 2.0})
    ends = [(0, 1), (1, 8), (8, None)]
    position = [{"from": a, "to": b, "share": with_ends(0.3)} for a, b in ends]
    place = [part | {"length": length} for part in position for length in ([1, 24], [24, 25])]
    audit["shares"] = {"rloo": {"position": position, "turn": position[:1], "place": place}}
    reading = reading_of(audit)
    assert [one.label for one in reading.shares["position"]["rloo"]] == ["0", "1\u20137", "8+"]
    assert list(reading.shares) == ["position"]
    assert set(reading.places["rloo"]) == {(row, one) for row in ("1\u201323", "24") for one in ("0", "1\u20137", "8+")}


def test_what_is_not_seen_is_said_in_words_once_and_its_parts_are_not_drawn():
    audit = audit_of({"rloo": 2.0, "opo": 2.1})
    unseen = "its direction is not seen with 8 batches, so there is no upper end"
    audit["strategies"]["opo"]["relative_bias"] = {"value": None, "low": 0.0, "high": None, "note": unseen}
    share = {"value": None, "low": None, "high": None, "note": None}
    known = {"value": 0.5, "low": 0.4, "high": 0.6, "note": None}
    kinds = {"opo": share, "rloo": known}
    audit["shares"] = {
        name: {"turn": [{"from": turn, "to": turn + 1, "share": each} for turn in (0, 1)]}
        for name, each in kinds.items()
    }
    reading = reading_of(audit)
    assert reading.unseen == ("opo",) and set(reading.shares["turn"]) == {"rloo", "opo"}
    lines = "\n".join(reservations(reading))
    assert f"The bias of opo has no number: {unseen}." in lines and "update of opo goes is not shown" in lines
    assert bias_in_cell(reading.numbers["opo"]["relative_bias"]) == "n/a"
    backwards = "points backwards: its mean update lowers the reward"
    assert bias_in_cell(Found(low=math.inf, high=math.inf, note=backwards)) == "backwards"
    audit["shares"] = {"opo": {"turn": [{"from": turn, "to": turn + 1, "share": share} for turn in (0, 1)]}}
    assert reading_of(audit).shares == {}


def test_the_same_direction_is_told_from_a_bias_that_was_not_seen_and_from_one_that_could_hide():
    audit = audit_of(dict.fromkeys(("rloo", "dr_grpo", "opo", "value"), 2.0))
    audit["strategies"]["dr_grpo"]["relative_bias"] = with_ends(0.0)
    audit["strategies"]["value"]["relative_bias"] |= {"high": None}
    text = said(audit)
    assert "The update of dr_grpo has the direction of rloo's" in text
    assert re.search(r"No bias was seen in opo; with 32 batches one below 10.%", text)
    assert "No bias was seen in value, and with 32 batches any could be hidden" in text


def test_a_logarithmic_axis_spans_a_width_that_can_be_drawn():
    far = [
        Found(1e-15, 1e-15, 1e-15),
        Found(2.0, 1.0, math.inf),
        Found(3.0, 1e-12, 9.0),
        Found(1e15),
        Found(high=math.inf),
    ]
    low, high = log_window(far, 1.0)
    assert 0 < low < 1.0 < 9.0 < high and high / low < 1e8
    assert log_window([Found(), Found(0.0, 0.0, math.inf)], 1.0) is None
    assert log_window([Found(low=3.0, high=math.inf)], 1.0) == pytest.approx((1 / 1.3, 3 * 1.3))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Names that would act, numbers that are none, intervals without an end."""
    bad = "<script>alert(1)</script>|`*_[a](http://b)\x1b[31m\u202e" + "x" * 120
    audit = audit_of({"rloo": 2.0, bad: 8.0, "wide": 3.0, "none": 1.0}, ["rloo", "wide"], [bad, "gone"])
    audit["strategies"]["wide"]["nsr"] = {"value": float("inf"), "low": 2.0, "high": float("inf")}
    audit["strategies"]["none"] = {"nsr": float("nan"), "relative_bias": "much", "length_push": 1e300}
    audit["shares"] = {bad: {"position": [with_ends(0.5), {"from": 1, "to": None, "share": None}, {"values": [0.2, math.nan, 0.4]}]},
                       "rloo": {"reward": {"<b>": with_ends(-0.2), "b": 1.2}, "turn": "no list"}}  # fmt: skip
    audit["about"]["command"] = "<img src=http://evil/x>"
    folder = tmp_path_factory.mktemp("audit")
    write(audit, folder)
    return folder


def test_the_page_stands_alone_and_runs_nothing(hostile):
    html = (hostile / "audit.html").read_text()
    assert "default-src 'none'" in html and "<script" not in html and "\x1b" not in html and "\u202e" not in html
    assert not re.search(r"<(img|link|a|iframe)\b[^>]*(src|href)=(?!\"data:image/png)", html)
    assert html.count("<img ") == len(list(hostile.glob("*.png"))) > 2


def test_the_json_beside_the_page_is_strict_and_reads_back_to_the_same(hostile):
    text = (hostile / "audit.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    reading, _ = read_audit(hostile)
    assert reading.numbers["wide"]["nsr"].low == 2.0 and math.isinf(reading.numbers["wide"]["nsr"].high)


def test_markdown_and_csv_hold_what_the_page_holds(hostile):
    markdown, rows = (hostile / "audit.md").read_text(), (hostile / "strategies.csv").read_text().splitlines()
    assert "<script>" not in markdown.replace("\\<script>", "") and len(rows) == 5
    assert set(re.findall(r"\((\w+)\.png\)", markdown)) == {path.stem for path in hostile.glob("*.png")}


def test_a_folder_without_an_audit_is_told_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"python -m lab.audit makes one"):
        read_audit(tmp_path)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(ValueError, match="no strategy was audited"):
        read_audit(tmp_path)
