"""Files of completions, whoever wrote them, become rows, groups and batches; what is wrong with one is said early."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from configs.compose import ConfigError
from tasks.base import Task
from trainers.command.audit.recorded import read_written, recorded_for, rewards_of_written, task_of_written
from trainers.command.recorded.groups import recorded_in_groups
from trainers.command.recorded.rows import recorded_rows
from trainers.command.recorded.said import Said, said_in
from trainers.evaluation.completions import Completion
from trainers.run.records import Recorder

ROWS = [{"prompt": letter, "answer": letter * 2} for letter in "abcd"]


def right(prompts, completions, answer, **columns):
    return [float(text == one) for text, one in zip(completions, answer, strict=True)]


def a_task(func=right) -> Task:
    return Task(name="letters", train=ROWS[1:], evaluation=ROWS[:1], reward_funcs=[func], reward_weights=[1.0])


def written(folder: Path, rows: list, name: str = "drawn.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return file


def settings(file: Path, **own):
    return SimpleNamespace(
        **(
            {"completions": str(file), "completion_column": None, "recorded_rewards": False, "batches": None, "seed": 0}
            | own
        )
    )


def said(folder: Path, *rows, **options) -> list[tuple[Said, dict]]:
    found = recorded_rows(written(folder, list(rows)), "completions", ids_suffice=True)
    return [said_in(place, row, **options) for place, row in found]


def test_rows_of_every_maker_say_the_same(tmp_path):
    ours = {
        "prompt": "a",
        "completion": "hi",
        "token_ids": [5, 6, 1],
        "finish_reason": "stop",
        "logprobs": [-1, -2, -3],
    }
    lists = {"prompt": "a", "completions": ["hi"], "token_ids": [[5, 6, 1]], "ended": [True], "logps": [[-1, -2, -3]]}
    spoken = {"prompt": "a", "completion": [{"role": "assistant", "content": "hi"}], "completion_ids": [5, 6, 1],
              "truncated": False, "sampler_logps": [-1.0, -2.0, -3.0]}  # fmt: skip
    each = [{str(token): {"logprob": -place}, "9": {"logprob": -0.1}} for place, token in enumerate([5, 6, 1], 1)]
    engine = {"request_id": "7", "prompt": "a", "prompt_token_ids": [4], "outputs": [
        {"index": 0, "text": "hi", "token_ids": [5, 6, 1], "cumulative_logprob": -6, "logprobs": each, "finish_reason": "stop",
         "stop_reason": None}]}  # fmt: skip
    server = {"prompt": "a", "choices": [{"message": {"role": "assistant", "content": "hi"}, "token_ids": [5, 6, 1],
              "finish_reason": "stop", "logprobs": {"content": [{"logprob": -1}, {"logprob": -2}, {"logprob": -3}]}}]}  # fmt: skip
    for one, row in said(tmp_path, ours, lists, spoken, engine, server):
        assert (one.text, one.token_ids, one.ended, one.logps) == ("hi", [5, 6, 1], True, [-1, -2, -3])
        assert row == {"prompt": "a"}
    (cut, _), (stopped, _), (silent, _), (bare, _) = said(
        tmp_path,
        {"prompt": "a", "text": "h", "finish_reason": "length"},
        {"prompt": "a", "text": "h", "finish_reason": "stop", "stop_reason": "\n"},
        {"prompt": "a", "text": "h"},
        {"prompt": "a", "token_ids": [5], "logprobs": [None]},
    )
    assert (cut.ended, stopped.ended, silent.ended) == (False, False, None)
    assert bare.text is None and math.isnan(bare.logps[0])


def test_a_record_of_a_run_and_what_eval_model_left_are_read(tmp_path):
    rows = {"group": [0, 0], "tokens": [["h", "i", "<eos>"], ["h"]], "credit": [[0.0] * 3, [0.0]], "weight": [[0.0] * 3, [0.0]],
            "token_ids": [[5, 6, 1], [5]], "truncated": [False, True], "prompt": ["<bos>b", "<bos>b"], "messages": [None, None],
            "columns": ['{"answer": "cut\\u2026"}'] * 2, "policy_logps": [[-1.0, -2.0, -3.0], None], "reward": [2.0, 0.5],
            "reward/right": [1.0, 0.0], "reward/long": [0.0, 1.0], "reward_weights": [[2.0, 0.5]] * 2}  # fmt: skip
    Recorder(tmp_path / "run" / "records").record(1, rows)
    found = read_written(settings(tmp_path / "run", recorded_rewards=True), a_task())
    first, second = found.said
    assert (first.text, first.token_ids, first.ended, first.logps) == ("hi", [5, 6, 1], True, [-1, -2, -3])
    assert (second.text, second.ended, second.logps) == ("h", False, None)
    assert [row["prompt"] for row in found.rows] == ["b", "b"] and found.rows[0][
        "answer"
    ] == "bb"  # the task's own, whole
    rewards = rewards_of_written(settings(tmp_path, recorded_rewards=True), a_task(), found)
    assert dict(zip(rewards.names, rewards.weights, strict=True)) == {"right": 2.0, "long": 0.5}
    made = Completion(0, 0, "aa", 3, True, {"right": 1.0}, reward=1.0, answer="77")
    file = written(tmp_path, [made.as_dict()])
    other = read_written(settings(file), a_task())
    before = {name: value for name, value in made.as_dict().items() if name not in ("messages", "earned", "fault")}
    old = read_written(settings(written(tmp_path, [before], "old.jsonl")), a_task())
    assert (old.rows, old.said[0].text) == (other.rows, "aa")
    talk = replace(made, messages=[{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}])
    with pytest.raises(ConfigError, match="tools"):
        read_written(settings(written(tmp_path, [talk.as_dict()])), a_task())
    assert other.rows[0].items() >= ROWS[0].items() and other.said[0].text == "aa" and other.said[0].ended


def test_groups_are_of_one_prompt_wherever_its_rows_stand_and_what_is_left_over_is_counted():
    prompts = [*"aab", *"ab", "b", *"abc", *"ab"]
    rows = [{"prompt": prompt, "place": place} for place, prompt in enumerate(prompts)]
    texts = [Said(str(place), str(place)) for place in range(len(rows))]
    found = recorded_in_groups("f", rows, texts, 2, 2, None)
    assert [one.text for one in found.said] == ["0", "1", "2", "4", "3", "6", "5", "7"]
    assert (found.total, found.prompts, found.batches, found.alone, found.surplus) == (11, 3, 4, 3, 0)
    assert [row["place"] for row in found.rows] == [int(one.text) for one in found.said]
    three = recorded_in_groups("f", rows, texts, 2, 6, None)
    assert (three.batches, three.surplus) == (1, 2) and [one.text for one in three.said] == [
        "0",
        "1",
        "2",
        "4",
        "3",
        "6",
    ]
    drawn = recorded_in_groups("f", rows, texts, 2, 2, 1)
    groups = lambda recorded: {tuple(one.text for one in recorded.said[at : at + 2]) for at in range(0, 8, 2)}  # noqa: E731
    assert drawn.said != found.said and groups(drawn) == groups(found)
    assert drawn.first(2).said == drawn.said[:4] and drawn.first(2).surplus == 4
    unlike = [{"prompt": prompt, "answer": place % 2} for place, prompt in enumerate(prompts)]
    apart = recorded_in_groups("f", unlike, texts, 2, 2, None, ("answer",))
    assert all(int(a.text) % 2 == int(b.text) % 2 for a, b in zip(apart.said[::2], apart.said[1::2], strict=True))


ONE = {"prompt": "b", "completion": "x"}


@pytest.mark.parametrize(
    ("rows", "own", "said"),
    [
        ([], {}, "has no rows"),
        ([ONE, '{"prompt": "b", \n'], {}, "line 2"),
        ([ONE, {"prompt": "b", "completion": "\ud83d"}], {}, "line 2, column 'completion'"),
        ([{"prompt": "b", "answers": "x"}], {}, "completion_column=..."),
        ([{"completion": "x"}], {}, "line 1: no prompt"),
        ([{"prompt": "", "completion": "x"}], {}, "line 1: no prompt"),
        ([{"prompt": 7, "completion": "x"}], {}, "line 1: a row is of prompt 7"),
        ([{"prompt": "b", "completion": None}], {}, "line 1: A completion must be"),
        ([{"prompt": "b", "completion": None, "token_ids": None, "text": "x"}], {}, "line 1"),
        ([{"prompt": "b", "completion": "", "ended": False}], {}, "empty completion"),
        ([{"prompt": "b", "token_ids": []}], {}, "no tokens"),
        ([{"prompt": "b", "completion": "x", "token_ids": [1, -1]}], {}, "whole numbers"),
        ([{"prompt": "b", "completion": "x", "ended": "maybe"}], {}, "true or false"),
        ([{"prompt": "z", "completion": "x"}], {}, "line 1: its prompt is not among those of task letters"),
        ([ONE, {"prompt": "z", "completion": "x"}], {}, "line 2: its prompt is not among those of task letters"),
        ([ONE, {"prompt": [{"role": "user", "content": "b"}], "completion": "x", "answer": ""}], {}, "line 2 a chat"),
        ([{"prompt": "b", "completion": [{"role": "assistant", "content": "x"}, {"role": "tool", "content": "y"}]}], {}, "tools"),
        ([ONE], {"recorded_rewards": True}, "no `reward` is written there"),
        ([{**ONE, "reward": "good"}], {"recorded_rewards": True}, "is no number"),
        ([ONE, {"prompt": "c", "completion": "x"}], {}, "one completion for each of 2 prompts"),
        ([ONE] * 3, {}, "trainer.num_generations=3"),
        ([ONE] * 16, {}, "trainer.per_device_train_batch_size=4"),
        ([ONE] * 9, {}, "Give at least 16 completions"),
        ([{**ONE, "trainer_state": 1}], {}, "rename the column 'trainer_state'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_the_place_and_the_remedy(tmp_path, rows, own, said):
    config, task = settings(written(tmp_path, rows), **own), a_task()
    config.reward = OmegaConf.create({"funcs": "task", "guard": {"enabled": False}})
    args = SimpleNamespace(
        num_generations=4, generation_batch_size=8, steps_per_generation=1, world_size=1, shuffle_dataset=True
    )
    with pytest.raises(ValueError) as error:
        found = read_written(config, task)
        rewards = rewards_of_written(config, task, found)
        assert task_of_written(task, found).train
        recorded_for(config, found, rewards, args, 4, 0)
    assert said in str(error.value)
