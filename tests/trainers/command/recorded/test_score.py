"""python -m rewards.score: completions typed, in files and in a task's rows; totals; and what is refused."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import pytest

from rewards.score import main
from tasks.chain import chain
from trainers.evaluation.completions import Completion

REWARDS = """
def polite(prompts, completions, **columns):
    return [float("please" in text) for text in completions]

class Length:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, prompts, completions, **columns):
        return [self.factor * len(text) for text in completions]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_file_")]:
        del sys.modules[name]


def test_scoring_shows_which_part_passed(capsys):
    assert main(["reward=think_answer", "--completion", "<think>a</think><answer> </answer>"]) == 0
    shown = capsys.readouterr().out
    assert "think_answer             0.875" in shown and "- answer: filled" in shown and "+ answer: close" in shown


def test_settings_of_the_reward_may_stand_behind_the_texts(capsys):
    tag = "<think>a</think><answer>1</answer>"
    assert main(["reward=think_answer", "--completion", tag, "reward.weights=[3.0]", "--json"]) == 0
    row, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["reward"] == 3.0 == totals["totals"]["reward"]["mean"] and totals["rows"] == 1


def test_scoring_a_file_of_completions_gives_one_json_object_a_row(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    rows = [{"completion": "4", "answer": 4}, {"text": "5", "answer": [4, 5]}, {"completion": "5"}]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    target = "{_target_: rewards.accuracy.numeric_match}"
    assert (
        main(
            [
                f"reward.funcs=[{target}, my_rewards.py:polite]",
                "reward.weights=[1, 0.5]",
                "--file",
                "rows.jsonl",
                "--json",
            ]
        )
        == 0
    )
    *records, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert last["totals"]["numeric_match"]["abstained"] == 1
    assert [record["scores"]["numeric_match"] for record in records] == [1.0, 1.0, None]
    assert [record["reward"] for record in records] == [1.0, 1.0, 0.0]


def test_scoring_reports_a_failing_reward_and_goes_on(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    Path("odd.py").write_text("def odd(completions, **columns):\n    return [1 / len(text) for text in completions]\n")
    assert main(["reward.funcs=[odd.py:odd]", "--completion", "ab", "--completion", ""]) == 0
    captured = capsys.readouterr()
    assert "0.5" in captured.out and "not scored" in captured.out and "1 of 2 rows failed (1 exception)" in captured.err


def test_scoring_finds_the_yaml_of_a_folder_of_ones_own(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "mine" / "reward").mkdir(parents=True)
    yaml_text = "# length\nfuncs: [{_target_: my_rewards.py:Length, factor: 2}]\nweights: null\nguard: {}\n"
    (folder / "mine" / "reward" / "length.yaml").write_text(yaml_text)
    assert main(["reward=length", "--config-dir", "mine", "--completion", "abc"]) == 0
    assert "Length                   6" in capsys.readouterr().out
    assert main(["reward=lenth", "--config-dir", "mine", "--completion", "abc"]) == 2
    assert "Did you mean `length`?" in capsys.readouterr().err


def test_scoring_shows_the_parts_of_a_composition_that_fails(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    Path("odd.py").write_text("import sys\ndef odd(completions, **columns):\n    sys.exit(3)\n")
    both = "{_target_: rewards.compose.weighted_sum, rewards: [odd.py:odd, my_rewards.py:polite]}"
    assert main([f"reward.funcs=[{both}]", "--completion", "please"]) == 0
    shown = capsys.readouterr().out
    assert "? odd                      not scored" in shown and "+ polite                   1" in shown


def test_totals_are_the_statistics_of_the_scores(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    Path("half.py").write_text(
        "def half(completions, **_):\n    return [None if t == '-' else float(t) for t in completions]\n"
    )
    texts = ["0.5", "1", "0", "-", "x", "1"]
    Path("texts.txt").write_text("\n".join(texts))
    arguments = ["reward.funcs=[half.py:half, my_rewards.py:polite]", "reward.weights=[2, 1]", "--file", "texts.txt"]
    assert main([*arguments, "--json", "rows=0"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)["totals"]
    known = [0.5, 1, 0, 1]
    assert found["half"]["mean"] == pytest.approx(statistics.mean(known))
    assert found["half"]["deviation"] == pytest.approx(statistics.stdev(known)) and found["half"]["passed"] == 0.5
    assert (found["half"]["abstained"], found["half"]["failed"], found["half"]["kinds"]) == (1, 1, {"exception": 1})
    assert found["polite"]["abstained"] == found["polite"]["failed"] == 0
    assert (
        found["reward"]["mean"] == pytest.approx(sum(2 * one for one in known) / 6) and found["reward"]["passed"] == 0
    )
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert (
        "6 row(s)" in shown and "1." not in shown.split("6 row(s)")[0]
    )  # the rows of a file are shown only where rows= asks
    assert main([*arguments, "rows=2"]) == 0
    assert "2. 1\n" in (shown := capsys.readouterr().out) and "3. 0" not in shown


def test_completions_stand_under_any_column(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    rows = [{"q": "a", "made": {"texts": ["please", "no"]}}, {"q": "b", "made": {"texts": ["x"]}}]
    Path("rows.json").write_text(json.dumps(rows))
    given = ["reward.funcs=[my_rewards.py:polite]", "completion_column=made.texts", "--json"]
    for source in (
        ["--file", "rows.json"],
        ["task=jsonl", "task.path=rows.json", "task.prompt_column=q", "task.answer_column=null"],
    ):
        assert main([*given, *source]) == 0
        *found, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sorted((row["completion"], row["reward"]) for row in found) == [("no", 0), ("please", 1), ("x", 0)]


def test_a_tasks_own_rewards_judge_with_the_columns_of_its_prompts(tmp_path, capsys):
    task = chain(n_train=4, n_eval=3)
    words = ["task=chain", "task.n_train=4", "task.n_eval=3", "--json"]
    right = [
        {"prompt": row["prompt"], "response": f"<think></think><answer>{row['answer']}</answer>"} for row in task.train
    ]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*right, {"prompt": "1=", "response": "1"}])
    )
    assert main([*words, "--file", str(tmp_path / "a.jsonl"), "completion_column=response"]) == 0
    captured = capsys.readouterr()
    *rows, last = [json.loads(line) for line in captured.out.splitlines()]
    assert [row["scores"]["answer"] for row in rows] == [1, 1, 1, 1, None] and last["totals"]["answer"][
        "abstained"
    ] == 1
    assert "1 of 5 prompts are not among the task's" in captured.err
    # what eval_model.py left, with an `answer` of its own
    made = Completion(2, 0, f"<think></think><answer>{task.evaluation[2]['answer']}</answer>", 9, True, {}, answer="77")
    (tmp_path / "b.jsonl").write_text(json.dumps(made.as_dict()) + "\n")
    assert main([*words, "--file", str(tmp_path / "b.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["reward"] == 1


def test_help_tells_choices_settings_and_options(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("task=", "think_answer", "completion_column=null", "--completion", "--file"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["reward=judge", "--completion", "a"], "`reward.funcs[0].model` must be given"),
        (["reward=math", "--completion", "a"], "needs the dataset column 'answer'; there are: none."),
        (["reward=regex", "reward.weights=2", "--completion", "a"], "reward.weights"),
        (["reward=think_answer"], "Nothing to score"),
        (["reward=think_anser", "--completion", "a"], "Did you mean `think_answer`?"),
        (["reward=think_answer", "--completion", "a", "row=3"], "Did you mean `rows`?"),
        (["reward=think_answer", "--completoin", "a"], "--completoin"),
        (["task=chain"], "completion_column=... (there is answer)"),
        (["reward=think_answer", "--completion", "a", "rows=-1"], "rows=-1"),
        (["reward=think_answer", "--file", "none.txt"], "--file: no file none.txt"),
        (["reward=task", "--completion", "a"], "rewards of a task"),
        (["reward.funcs=[none.py:f]", "--completion", "a"], "There is no file"),
        (["reward=think_answer", "--column", "answer", "--completion", "a"], "NAME=VALUE"),
    ],
)
def test_scoring_says_what_is_wrong_and_ends_with_two(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_recorded_conversation_is_shown_by_turn(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    call = {"type": "function", "function": {"name": "guess", "arguments": {"number": 3}}}
    talk = [
        {"role": "assistant", "content": "three?", "tool_calls": [call]},
        {"role": "tool", "name": "guess", "content": "higher"},
        {"role": "assistant", "content": "four"},
    ]
    rows = [{"completion": talk, "turn_rewards": [0.5, -1]}, {"completion": talk, "turn_rewards": None}]
    Path("talks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["reward.funcs=[rewards.text.turn_column.turn_column]", "--file", "talks.jsonl"]
    assert main([*command, "--json"]) == 0
    first, second, _totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["parts"] == {"turn_rewards": {"turn 1": 0.5, "turn 2": -1.0}} and first["reward"] == -0.5
    assert second["parts"] == {"turn_rewards": {}} and second["reward"] is None
    assert main([*command, "rows=2"]) == 0
    assert "+ turn 1                   0.5" in capsys.readouterr().out
