"""Rows of a data set become short JSON, whatever stands in them: recording never stops a run."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.run.data_columns import LONGEST_VALUE, MOST_COLUMNS, other_columns, prompt_messages

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner) | st.tuples(inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters()), VALUES, max_size=5))
def test_any_row_becomes_json_that_parquet_takes(row):
    text = other_columns(row)
    assert isinstance(json.loads(text, parse_constant=lambda name: 1 / 0), dict)
    assert pa.array([text], pa.string()).to_pylist() == [text]


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), VALUES)))
def test_any_chat_becomes_json_that_parquet_takes(prompt):
    text = prompt_messages({"prompt": prompt})
    assert [set(message) for message in json.loads(text)] == [set(message) for message in prompt]
    assert pa.array([text], pa.string()).to_pylist() == [text]


def test_values_keep_their_sense_and_lose_their_bulk():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    row = {
        "prompt": "p", "answer": "42", "none": None, "number": np.float32(0.5), "tensor": torch.tensor(3), "nan": np.nan,
        "when": datetime(2020, 1, 2), "price": Decimal("1.10"), "image": object(), "bytes": b"x" * 10**6, "deep": deep,
        "long": "x" * 10**6, "list": list(range(10**5)), "options": ["a", {"b": 1}],
    }  # fmt: skip
    kept = json.loads(other_columns(row))
    assert "prompt" not in kept and "none" not in kept
    assert (kept["answer"], kept["number"], kept["tensor"], kept["nan"]) == ("42", 0.5, 3, "nan")
    assert (kept["when"], kept["price"], kept["options"]) == ("2020-01-02 00:00:00", "1.10", ["a", {"b": 1}])
    assert (kept["image"], kept["bytes"]) == ("<object>", "<bytes>")
    assert kept["long"].endswith("x\u2026") and len(kept["long"]) == len(kept["list"]) == LONGEST_VALUE
    assert len(other_columns({f"c{i}": "x" * 10**5 for i in range(100)})) < MOST_COLUMNS * (LONGEST_VALUE + 20)


def test_prompts_that_are_text_have_no_messages():
    assert prompt_messages({"prompt": "hello"}) is None and prompt_messages({}) is None
    assert json.loads(
        prompt_messages({"prompt": [{"role": "user", "content": [{"type": "image", "image": object()}]}]})
    ) == [{"role": "user", "content": [{"type": "image", "image": "<object>"}]}]
