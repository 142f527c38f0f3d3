"""Which column is what: defaults that are taken where they are there, dotted paths, conversations, preference data."""

import json

import pytest

from tasks.conversations import asked_and_answered, messages_of
from tasks.jsonl import jsonl


def said(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def writer(rows, name="data.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    return writer


ROWS = [{"prompt": f"{n}+1=", "completion": f"<answer>{n + 1}</answer>", "answer": n + 1} for n in range(20)]


def test_prompt_completion_and_answer_in_one_file_serve_both_verbs(write):
    task = jsonl(write(ROWS))
    assert [func.__name__ for func in task.reward_funcs] == ["format", "answer"]
    assert all(
        set(row) == {"prompt", "answer"} for row in task.train + task.evaluation
    )  # no reward sees the completion
    learnt, held_out = task.texts
    assert (len(learnt), len(held_out)) == (len(task.train), len(task.evaluation)) == (18, 2)
    assert {row["completion"] for row in learnt} | {row["completion"] for row in held_out} == {
        row["completion"] for row in ROWS
    }


def test_without_an_answer_there_are_texts_to_learn_and_no_rewards_with_the_reason(write):
    task = jsonl(write([{"prompt": row["prompt"], "completion": row["completion"]} for row in ROWS]))
    assert task.texts and not task.reward_funcs and "no column 'answer'" in task.unrewarded
    assert [func.__name__ for func in jsonl("data.jsonl", answer_column=None).reward_funcs] == ["format"]


def test_a_row_without_a_completion_is_asked_but_not_learnt(write):
    task = jsonl(
        write([*ROWS, {"prompt": "x", "answer": 1}, {"prompt": "y", "answer": 1, "completion": ""}]), eval_share=0
    )
    assert len(task.train) == 22 and len(task.texts[0]) == 20
    with pytest.raises(ValueError, match=r"line 21, column 'completion': a completion must be"):
        jsonl("data.jsonl", completion_column="completion")


@pytest.mark.parametrize(
    ("row", "settings", "prompt", "answer"),
    [
        (
            {"prompt": "a", "reward_model": {"ground_truth": "4"}},
            {"answer_column": "reward_model.ground_truth"},
            "a",
            "4",
        ),
        ({"prompt": "a", "answers": {"text": ["x", "y"]}}, {"answer_column": "answers.text.1"}, "a", "y"),
        ({"turns": [{"v": "q"}, {"v": "z"}]}, {"prompt_column": "turns.0.v", "answer_column": "turns.-1.v"}, "q", "z"),
        ({"prompt": "a", "x.y": "1", "x": {"y": "2"}}, {"answer_column": "x.y"}, "a", "1"),  # the very name first
        ({"prompt": "a", "meta": '{"truth": [7]}'}, {"answer_column": "meta.truth.0"}, "a", 7),  # JSON in a text
        ({"prompt": "a", "answer": {"aliases": ["p", "q"]}}, {"answer_column": "answer.aliases"}, "a", ["p", "q"]),
    ],
)
def test_a_dotted_path_leads_into_objects_lists_and_json_texts(write, row, settings, prompt, answer):
    (found,) = jsonl(write([row]), eval_share=0, **settings).train
    assert (found["prompt"], found["answer"]) == (prompt, answer)


def test_the_object_that_a_path_leads_into_still_reaches_the_rewards(write):
    row = {"prompt": "a", "reward_model": {"style": "rule", "ground_truth": "4"}, "extra": {"k": 1}}
    (found,) = jsonl(write([row]), eval_share=0, answer_column="reward_model.ground_truth").train
    assert found["reward_model"]["style"] == "rule" and found["extra"] == {"k": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answer_column": "meta.truht"}, r"line 1: there is no 'meta.truht'.*meta has the keys truth, list"),
        ({"answer_column": "meta.list.5"}, r"meta.list is a list of 2"),
        ({"answer_column": "mta.truth"}, r"no column 'mta.truth'"),
        (
            {"prompt_column": "meta.q", "answer_column": "meta.truth", "drop_columns": ["prompt"]},
            r"line 1: there is no 'meta.q' \(task.prompt_column\)",
        ),
        ({"prompt_column": "prompt2", "answer_column": None}, r"no column 'prompt2'.*It has: prompt, meta"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_there_is_instead(write, settings, message):
    with pytest.raises(ValueError, match=message):
        jsonl(write([{"prompt": "a", "meta": {"truth": "1", "list": [1, 2]}}] * 2), **settings)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"question": "q", "answer": "1"}, "task.prompt_column=question"),
        ({"instruction": "q", "output": "1"}, "task.prompt_column=instruction"),
    ],
)
def test_a_prompt_by_another_usual_name_is_hinted_at(write, row, hint):
    with pytest.raises(ValueError, match=hint):
        jsonl(write([row]))
    task = jsonl(write([{"prompt": "q", "reward_model": {"ground_truth": "1"}}]))
    assert "task.answer_column=reward_model.ground_truth" in task.unrewarded


CHAT = said(("system", "s"), ("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2"))


def test_a_conversation_is_asked_up_to_its_last_answer_and_learnt_whole(write):
    rows = [{"messages": [*CHAT[:1], {"role": "user", "content": f"{n}"}, *CHAT[2:]]} for n in range(10)]
    task = jsonl(write(rows))
    assert task.train[0]["prompt"] == rows[int(task.train[0]["prompt"][1]["content"])]["messages"][:-1]
    assert set(task.train[0]) == {"prompt"}
    learnt, _ = task.texts
    assert learnt[0]["messages"][:-1] == learnt[0]["prompt"] and learnt[0]["messages"][-1] == CHAT[-1]
    assert learnt[0]["completion"] == "2"
    with_system = jsonl("data.jsonl", system_prompt="other")  # a conversation's own comes first
    assert with_system.train[0]["prompt"][0] == CHAT[0]


def test_a_conversation_that_ends_with_a_question_is_all_prompt():
    assert (
        asked_and_answered(CHAT[:4], "here")["prompt"] == CHAT[:4]
        and asked_and_answered(CHAT[:4], "here")["completion"] is None
    )
    with pytest.raises(ValueError, match="here: nobody asks"):
        asked_and_answered(said(("system", "s"), ("assistant", "1")), "here")


def test_tool_turns_stay_in_the_prompt():
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    messages = [
        *said(("user", "q")),
        call,
        {"role": "tool", "name": "f", "content": "7"},
        *said(("assistant", "seven")),
    ]
    parts = asked_and_answered(messages_of(messages, "here"), "here")
    assert parts["prompt"] == messages[:3] and parts["completion"] == "seven"


def test_sharegpt_is_read_and_an_unknown_speaker_is_named(write):
    chat = [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    task = jsonl(write([{"conversations": chat}]), eval_share=0)
    assert task.train[0]["prompt"] == said(("system", "s"), ("user", "q")) and task.texts[0][0]["completion"] == "a"
    with pytest.raises(ValueError, match=r"line 1, column 'conversations'.*speaker 'alien'"):
        jsonl(write([{"conversations": [{"from": "alien", "value": "x"}]}]))


def test_a_chat_in_a_csv_cell_is_json_and_what_python_printed_is_refused(write, tmp_path):
    chat = json.dumps(said(("user", "q"))).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'prompt,answer\n"{chat}",1\n')
    assert jsonl("a.csv", eval_share=0).train[0]["prompt"] == said(("user", "q"))
    (tmp_path / "b.csv").write_text("messages,answer\n\"[{'role': 'user', 'content': 'q'}]\",1\n")
    with pytest.raises(ValueError, match=r"b.csv, line 2, column 'messages'.*Python has printed.*json.dumps"):
        jsonl("b.csv", messages_column="messages")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([], "must be a list of messages"),
        ("hello", "must be a list of messages"),
        ([{"role": "user"}], '"role" and "content"'),
        (["hello"], "got 'hello'"),
        ([{"role": 3, "content": "x"}], '"role" and "content"'),
    ],
)
def test_a_broken_conversation_is_named_with_row_and_column(write, cell, message):
    with pytest.raises(ValueError, match=rf"data.jsonl, line 2, column 'messages'.*{message}"):
        jsonl(write([{"messages": CHAT}, {"messages": cell}]))


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            r"task.completion_column=chosen.*task.drop_columns=\[rejected\]",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, r"task.drop_columns=\[chosen,rejected\]"),
        ({"chosen": CHAT, "rejected": CHAT}, r"task.messages_column=chosen"),
        ({"prompt": "q", "completion": "a", "label": True}, r"KTOTrainer.*task.drop_columns=\[label\]"),
    ],
)
def test_preference_data_are_named_as_such_with_what_to_do(write, row, remedy):
    with pytest.raises(ValueError, match=rf"data.jsonl is preference data: data.jsonl, line 1.*{remedy}"):
        jsonl(write([row]))


def test_the_remedies_for_preference_data_work(write):
    path = write([{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(4)])
    task = jsonl(path, completion_column="chosen", answer_column=None, drop_columns=["rejected"])
    assert {row["completion"] for row in task.texts[0]} == {"a"} and set(task.train[0]) == {"prompt"}
    assert jsonl(path, drop_columns=["chosen", "rejected"], answer_column=None).texts is None
    path = write([{"chosen": CHAT, "rejected": CHAT}])
    assert jsonl(path, messages_column="chosen", answer_column=None, drop_columns=["rejected"], eval_share=0).texts


def test_conversations_that_open_alike_stay_on_one_side_and_white_space_makes_no_other_prompt(write):
    rows = [{"messages": said(("user", f"q{n}"), ("assistant", "a"))} for n in range(30)]
    rows += [{"messages": [*row["messages"], *said(("user", "more"), ("assistant", "b"))]} for row in rows]
    task = jsonl(write(rows), eval_share=0.3)
    opened = [{row["prompt"][0]["content"] for row in side} for side in (task.train, task.evaluation)]
    assert not opened[0] & opened[1] and len(opened[1]) == 9
    rows = [{"prompt": f"{n} + {n}{end}", "answer": n} for n in range(30) for end in ("", " ", "\n")]
    task = jsonl(write(rows), eval_share=0.3)
    texts = [{row["prompt"].strip() for row in side} for side in (task.train, task.evaluation)]
    assert not texts[0] & texts[1] and len(task.train) == 63


def test_neither_chat_nor_system_prompt_moves_the_held_out_questions(write):
    path = write(ROWS)
    plain = [row["prompt"] for row in jsonl(path, eval_share=0.3).evaluation]
    for settings in ({"chat": True}, {"system_prompt": "Think."}):
        assert [row["prompt"][-1]["content"] for row in jsonl(path, eval_share=0.3, **settings).evaluation] == plain


def test_prompts_that_are_too_long_can_be_left_out_and_are_counted(write, caplog):
    rows = [*ROWS, {"prompt": "x" * 50, "answer": 1}]
    assert len(jsonl(write(rows), max_prompt_chars=10, eval_share=0).train) == 20
    assert "1 of 21 rows left out" in caplog.text
    with pytest.raises(ValueError, match="leaves no row"):
        jsonl("data.jsonl", max_prompt_chars=1)


@pytest.mark.parametrize(
    "stray", ["3 mails", 7, said(("user", "hm"), ("assistant", "no"))], ids=["text", "number", "chat"]
)
@pytest.mark.parametrize("prompt", ["q{}", said(("user", "q{}"))], ids=["text", "chat"])
def test_a_column_messages_beside_a_prompt_is_neither_split_by_nor_learnt(write, prompt, stray):
    rows = [json.loads(json.dumps({"prompt": prompt}).replace("{}", str(n))) for n in range(20)]
    task = jsonl(write([row | {"completion": "yes", "messages": stray} for row in rows]))
    assert (len(task.train), len(task.evaluation)) == (18, 2)
    assert all("messages" not in row and row["completion"] == "yes" for side in task.texts for row in side)
    assert "left out messages" in task.about and "rewards  no other column" in task.about


def test_an_answer_that_is_an_object_is_named_by_its_own_column(write):
    with pytest.raises(ValueError, match=r"as in task\.answer_column=reward_model\.ground_truth"):
        jsonl(write([{"prompt": "q", "reward_model": {"ground_truth": "1"}}]), answer_column="reward_model")


def test_the_first_row_shows_what_became_of_each_column(write):
    row = {"question": "1+1?", "reward_model": {"ground_truth": "2"}, "level": 3, "junk": 0}
    task = jsonl(
        write([row]),
        prompt_column="question",
        answer_column="reward_model.ground_truth",
        drop_columns=["junk"],
        eval_share=0,
    )
    text = "\n".join(task.about)
    for line in (
        "row      data.jsonl, line 1",
        "prompt   column 'question': '1+1?'",
        "answer   column 'reward_model.ground_truth': '2'",
        "level=3",
        "left out junk",
        "split    1 rows to train on; 0 held out",
    ):
        assert line in text
