"""What eval_model.py leaves is shown conversation by conversation, and a line that is no completion is left out."""

from __future__ import annotations

import json

import pytest

from compare.view.__main__ import build_view, main, parse
from compare.view.page import page
from trainers.evaluation.completions import Completion

CALL = {"function": {"name": "move", "arguments": {"where": "left"}}}
TALK = [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": "well", "tool_calls": [CALL]},
    {"role": "tool", "name": "move", "content": "a </script> wall"},
    {"role": "assistant", "content": "oh"},
]


def completion(prompt, sample, **more):
    return Completion(prompt, sample, "oh", 9, True, {"game": 0.5}, reward=0.5, **more).as_dict()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "seed0-abc"
    place.mkdir()
    talks = [completion(p, s, messages=TALK, earned=[0.5, 0.0]) for p in (1, 0) for s in range(2)]
    odd = ["no json", "[]", "{}", json.dumps({**talks[0], "prompt": None}), json.dumps({**talks[0], "scores": 3})]
    (place / "one-1.jsonl").write_text("\n".join([*map(json.dumps, talks), *odd, '{"cut": ']))
    (place / "two-2.jsonl").write_text(json.dumps(completion(0, 0)) + "\n")
    models = [
        {"letter": "A", "name": "m/two", "file": "two-2.jsonl"},
        {"letter": "B", "name": "one", "file": "one-1.jsonl"},
    ]
    odd_models = [{"letter": "C", "name": "elsewhere", "file": "../secret.jsonl"}, 3]
    (place / "evaluation.json").write_text(json.dumps({"task": "game", "models": [*models, *odd_models]}))
    return place


def test_models_stand_side_by_side_and_turns_have_what_they_earned(folder):
    view = build_view(parse([str(folder)]))
    assert view["title"] == "seed0-abc/A two" and view["other"]["title"] == "seed0-abc/B one"
    assert view["facts"][0] == ["model", "m/two"]
    [step] = list(view["other"]["steps"])
    assert [group["group"] for group in step["groups"]] == [0, 1] and step["summary"]["length"] == 9
    row = step["groups"][0]["rows"][0]
    assert row["tokens"] == ['well move {"where": "left"}\n', "tool move: a </script> wall\n", "oh\n"]
    assert row["learns"] == [1, 0, 1] and row["turn"] == [0.5, 0.0, 0.0] and row["A"] == [[0.5, 0.0, 0.0]]
    assert step["groups"][0]["messages"] == [{"role": "user", "text": "go"}]
    [plain] = list(view["steps"])
    assert plain["groups"][0]["rows"][0]["tokens"] == ["oh"]


def test_one_file_alone_is_shown_and_the_page_is_written(folder, capsys):
    assert main([str(folder / "one-1.jsonl")]) == 0
    assert "a \\u003c/script\\u003e wall" in (folder / "credit.html").read_text()
    view = build_view(parse([str(folder / "one-1.jsonl")]))
    assert view["other"] is None and page(view).count("<script>") == 1


def test_what_is_no_evaluation_and_what_it_has_not_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="no credit and no steps"):
        build_view(parse([str(folder), "credit=rloo"]))
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match=r"holds no completions of eval_model\.py"):
        build_view(parse([str(tmp_path / "rows.jsonl")]))
