"""What likelihood training learns from and is judged by, from a table: the rows that the table holds out, pairs or conversations."""

import json

import pytest

from configs.compose import ConfigError
from trainers.command.cli import compose_command
from trainers.command.prepare import prepare_grpo, prepare_lhts, prepare_sft
from trainers.run.grpo import register_schema as register_grpo
from trainers.run.likelihood import register_schema

register_schema()
register_grpo()


def said(*texts):
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def composed(rows, *words, verb="train_sft", **files):
        for name, content in {"data": rows, **files}.items():
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        return compose_command(verb, ["task=jsonl", "task.path=data.jsonl", "run_dir=run", *words])

    return composed


PAIRS = [{"prompt": f"{n % 20}+1=", "completion": f"{n}.", "answer": n} for n in range(40)]


def test_the_rows_that_the_table_holds_out_are_evaluated_and_none_of_their_prompts_is_learnt(command):
    job = prepare_sft(command(PAIRS, "task.eval_share=0.25"))
    learnt, held_out = ({row["prompt"] for row in rows} for rows in (job.train, job.evaluation))
    assert not learnt & held_out and (len(job.train), len(job.evaluation)) == (30, 5)
    assert sorted(map(str, job.train)) == sorted({str(row) for row in job.train})  # each once
    asked = prepare_grpo(
        command(PAIRS, "task.eval_share=0.25", "trainer.per_device_train_batch_size=8", verb="train_grpo")
    )
    assert held_out == {row["prompt"] for row in asked.task.evaluation}  # both verbs hold out the same


def test_an_evaluation_file_is_what_is_evaluated(command):
    given = [{"prompt": "100+1=", "completion": "101", "answer": 101}]
    job = prepare_sft(command(PAIRS, "task.eval_path=held.jsonl", held=given))
    assert [row["completion"] for row in job.evaluation] == ["101"] and len(job.train) == 40


def test_nothing_is_held_out_where_that_is_asked_for(command):
    job = prepare_sft(command(PAIRS, "task.eval_share=0"))
    assert job.evaluation == [] and len(job.train) == 40 and not job.args.eval_on_start


def test_one_answer_a_conversation_is_a_prompt_and_its_completion(command):
    job = prepare_sft(command([{"messages": said(f"q{n}", "a")} for n in range(10)]))
    assert set(job.train[0]) == {"prompt", "completion"} and job.train[0]["completion"] == said("", "a")[1:]
    assert not job.args.assistant_only_loss


def test_conversations_of_several_answers_stay_whole_and_the_assistants_turns_are_learnt(command):
    rows = [{"messages": said(f"q{n}", "a", "more", "b")} for n in range(9)] + [{"messages": said("q", "a")}]
    job = prepare_sft(command(rows))
    assert all(set(row) == {"messages"} for row in job.train + job.evaluation) and job.args.assistant_only_loss
    assert not prepare_sft(command(rows, "trainer.assistant_only_loss=false")).args.assistant_only_loss
    (row, *_) = prepare_lhts(command(rows, verb="train_lhts")).train
    assert set(row) == {"prompt", "completion"}


def test_the_verb_that_lacks_something_says_what(command):
    rows = [{"prompt": f"{n}", "completion": "x"} for n in range(20)]
    with pytest.raises(ConfigError, match=r"no column 'answer'.*task.answer_column=null.*reward.funcs"):
        prepare_grpo(command(rows, "trainer.per_device_train_batch_size=8", verb="train_grpo"))
    with pytest.raises(ConfigError, match=r"no texts to learn from.*task.messages_column.*task.completion_column"):
        prepare_sft(command([{"prompt": f"{n}", "answer": "x"} for n in range(20)]))
