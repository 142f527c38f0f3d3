"""eval_model.py: one command, and the faults of its words, its files and its rewards."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from rewards.accuracy import exact_match
from rewards.guard import guarded
from support.models_saved import save_model
from support.runs import ROOT, environment
from trainers.command.behind.evaluation import prepare_evaluation
from trainers.command.cli import compose_command
from trainers.evaluation.completions import Collector, Completion, Judges
from trainers.evaluation.history import EvaluationHistory, before_after
from trainers.evaluation.measures import counts_of, measures_of
from trainers.evaluation.models import model_at, named_models
from trainers.model.embedded import byte_tokenizer
from trainers.run.eval_model import read_completions, refuse_other_settings, run_eval_model
from trainers.seam.visit import Scoring

REWARD = """
def vowels(completions, **_):
    if any("\\\\" in text for text in completions):
        raise RuntimeError("a backslash")
    return [None if not text else sum(letter in "aeiou" for letter in text) / len(text) for text in completions]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two models, rows, a reward of one's own."""
    folder = tmp_path_factory.mktemp("evaluation")
    for seed, name in enumerate(("one", "two/model")):
        save_model(folder / name, byte_tokenizer(), seed)
    rows = [{"prompt": f"{n}+{n}=" + " " * n, "answer": str(n)} for n in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "vowels.py").write_text(REWARD)
    return folder


def words(place, *more):
    return [
        "model=hf", f"model.name={place / 'one'}", "task=jsonl", f"task.path={place / 'rows.jsonl'}", "task.eval_share=0",
        "split=train", "task.chat=false", f"reward.funcs=[{place / 'vowels.py'}:vowels]", "trainer.max_completion_length=10",
        "n=2", "show=1", f"evals={place / 'evals'}", *more,
    ]  # fmt: skip


def evaluated(place, *more):
    run_eval_model(compose_command("eval_model", words(place, *more)))


@pytest.fixture(scope="module")
def done(place):
    evaluated(place, f"models=[{place / 'two'}]", f"out={place / 'first'}")
    return place / "first"


def completions(folder):
    return {
        file.name: {(one.prompt, one.sample): one for one in read_completions(file)} for file in folder.glob("*.jsonl")
    }


# ---- what a command leaves


def test_numbers_are_those_of_the_completions(done):
    numbers = json.loads((done / "evaluation.json").read_text())
    assert [model["letter"] for model in numbers["models"]] == ["A", "B"] and numbers["prompts"] == 6
    assert all(len(rows) == 12 for rows in completions(done).values())
    for model in numbers["models"]:
        [rows] = [
            rows
            for name, rows in completions(done).items()
            if name.startswith(model["name"].replace("/", "-").strip("-")[-60:])
        ]
        means = [[rows[prompt, s].scores["vowels"] for s in range(2)] for prompt in range(6)]
        means = [sum(known) / len(known) for both in means if (known := [v for v in both if v is not None])]
        assert model["measures"]["rewards/vowels"]["value"] == pytest.approx(sum(means) / len(means))
        assert model["measures"]["length"]["value"] == pytest.approx(sum(one.tokens for one in rows.values()) / 12)
        failed = sum("\\" in one.text for one in rows.values())
        assert (
            model["unscored"]["vowels"]["failed"] == failed == model["unscored"]["vowels"]["kinds"].get("exception", 0)
        )
    [difference] = numbers["differences"]
    first, second = (model["measures"]["length"]["value"] for model in numbers["models"])
    assert difference["measures"]["length"]["value"] == pytest.approx(second - first)


def test_the_page_has_both_models_and_every_measure(done):
    text = (done / "evaluation.md").read_text()
    numbers = json.loads((done / "evaluation.json").read_text())
    assert "| B - A |" in text and all(f"| {name} |" in text for name in numbers["models"][0]["measures"])


def test_other_batches_and_fewer_prompts_give_the_same_completions(place, done):
    evaluated(place, f"out={place / 'small'}", "trainer.per_device_eval_batch_size=5", "limit=4")
    [rows] = completions(place / "small").values()
    assert len(rows) == 8
    assert any(rows.items() <= both.items() for both in completions(done).values())


def test_the_same_command_goes_on_and_more_completions_are_added(place, done, capsys):
    file = max(done.glob("*one*.jsonl"))
    whole = completions(done)[file.name]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:5]) + lines[5][:20])
    evaluated(place, f"models=[{place / 'two'}]", f"out={done}")
    said = capsys.readouterr().out
    assert "7 of 12 completions to come" in said and "all 12 completions are there" in said
    assert completions(done)[file.name] == whole
    evaluated(place, f"out={done}", "n=3")
    assert "6 of 18 completions to come" in capsys.readouterr().out
    assert completions(done)[file.name].items() > whole.items()


def test_a_model_against_a_copy_of_itself_differs_by_nothing(place):
    save_model(place / "copy", byte_tokenizer(), 0)
    evaluated(place, f"models=[{place / 'copy'}]", f"out={place / 'self'}")
    [difference] = json.loads((place / "self" / "evaluation.json").read_text())["differences"]
    assert {one["value"] for one in difference["measures"].values()} == {0.0}


@pytest.mark.slow
def test_two_processes_give_the_same_completions(place, done):
    folder = place / "ranks"
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", str(ROOT / "eval_model.py")]
    given = words(place, f"out={folder}", "trainer.per_device_eval_batch_size=5", "processes=2")
    ran = subprocess.run(
        [*line, *given], env=environment() | {"PYTHONPATH": str(ROOT)}, cwd=place, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    [rows] = completions(folder).values()
    assert len(rows) == 12 and any(rows.items() <= both.items() for both in completions(done).values())


# ---- what is refused, before a model is loaded


@pytest.mark.parametrize(
    "more, message",
    [
        (["n=0"], "n=0 must be"),
        (["k=3"], "k=3.*n=2.*Raise n"),
        (["trainer.temperature=0"], "n=2 times"),
        (["trainer.top_p=0"], "top_p"),
        (["passes=vowel"], "Did you mean 'vowels'"),
        (["split=test"], "evaluation, train"),
        (["split=evaluation"], "no held-out prompts.*split=train"),
        (["limit=0"], "limit=0"),
        (["level=95"], "level=95"),
        (["models=[nowhere/at/all]"], "no such folder"),
        (["models=['nowhere*']"], "no folder with a model matches"),
        (["model.name=."], "holds no model"),
        (["trainer.learning_rate=1e-5"], "learning_rate"),
        (["trainer.temprature=1"], "temperature"),
        (["reward=own_likelihood", "reward.funcs=[rewards.likelihood.own_likelihood]"], "likelihood"),
        (["trainer.use_vllm=true", "models=[one]"], "one model a command"),
    ],
)
def test_bad_words_are_refused_before_a_model_is_loaded(place, more, message, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        prepare_evaluation(compose_command("eval_model", words(place, *more)))


def test_a_folder_with_another_evaluation_is_not_mixed_into(place, done):
    job = prepare_evaluation(compose_command("eval_model", words(place, f"out={done}", "seed=7")))
    with pytest.raises(ValueError, match=r"seed differ.*overwrite=true"):
        refuse_other_settings(job)


def test_the_folder_follows_what_is_evaluated_and_not_how_it_is_shown(place):
    def folder(*more):
        return prepare_evaluation(compose_command("eval_model", words(place, *more))).folder

    assert folder() == folder(
        "limit=3", "n=5", "k=[1]", "threshold=0.5", "trainer.per_device_eval_batch_size=2", "show=0"
    )
    others = [folder("seed=1"), folder("trainer.temperature=0.5"), folder("reward.weights=[2]")]
    assert len({folder(), *others}) == 4


# ---- models


def test_a_run_stands_for_its_model_and_else_for_its_last_checkpoint(tmp_path):
    for name in (
        "done/model",
        "done/checkpoints/checkpoint-9",
        "open/checkpoints/checkpoint-9",
        "open/checkpoints/checkpoint-10",
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    assert model_at(str(tmp_path / "done")).place == str(tmp_path / "done" / "model")
    last = model_at(f"{tmp_path / 'open'}/")
    assert last.place == str(tmp_path / "open/checkpoints/checkpoint-10") and last.label.endswith(
        "open/checkpoints/checkpoint-10"
    )
    (tmp_path / "empty").mkdir()
    found = named_models(None, [str(tmp_path / "*"), str(tmp_path / "done")])
    assert [one.place for one in found] == [str(tmp_path / "done" / "model"), last.place]
    assert model_at("Qwen/Qwen2.5-0.5B").place == "Qwen/Qwen2.5-0.5B"


def test_a_model_that_is_loaded_otherwise_has_other_completions(place):
    def files(*more):
        job = prepare_evaluation(compose_command("eval_model", words(place, *more)))
        return [job.file(named) for named in job.models]

    assert files() == files("model.dtype=auto") != files("model.dtype=bfloat16")
    first, second = files(f"models={place / 'two'}")
    assert [first] == files() and [second] == files(f"model.name={place / 'two'}") and first != second
    words_of_embedded = ["task.n_train=4", "task.n_eval=2"]
    jobs = [
        prepare_evaluation(compose_command("eval_model", [*words_of_embedded, *more]))
        for more in ([], ["model.hidden=8"])
    ]
    assert jobs[0].file(jobs[0].models[0]) != jobs[1].file(jobs[1].models[0])
    by_path = prepare_evaluation(compose_command("eval_model", [*words_of_embedded, f"models={place / 'one'}"]))
    by_name = prepare_evaluation(
        compose_command("eval_model", [*words_of_embedded, "model=hf", f"model.name={place / 'one'}"])
    )
    assert by_path.file(by_path.models[1]) == by_name.file(by_name.models[0])


def test_a_model_that_changed_is_another(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = model_at(str(tmp_path)).fingerprint()
    (tmp_path / "config.json").write_text("{ }")
    assert model_at(str(tmp_path)).fingerprint() != before


# ---- collecting


def judged(*funcs, passes=None):
    names = [func.__name__ for func in funcs]
    return Judges(funcs, [1.0] * len(funcs), names, passes or names[0])


def evaluating(rows):
    """A batch as an evaluating trainer has it: (prompt, text, score)."""
    scoring = Scoring(rows=[{"prompt": prompt} for prompt, _, _ in rows])
    scoring.completions, scoring.completion_ids = [text for _, text, _ in rows], [[5, 1] for _ in rows]
    scoring.openings = [""] * len(rows)
    scoring.rewards_BK = torch.tensor([[score] for _, _, score in rows])
    tokenizer = SimpleNamespace(eos_token_id=1, pad_token_id=0)
    accelerator = SimpleNamespace(process_index=0)
    return SimpleNamespace(
        model=torch.nn.Identity().eval(), processing_class=tokenizer, accelerator=accelerator
    ), scoring


def test_rows_that_fill_the_last_batch_are_counted_once():
    def length(completions, **_):
        return [float(len(text)) for text in completions]

    collector = Collector(judged(length), [{"prompt": "a"}, {"prompt": "b"}], each=2)
    collector(*evaluating([("a", "x", 1.0), ("a", "xx", 2.0), ("b", "xxx", 3.0)]))
    collector(*evaluating([("b", "y", float("nan")), ("a", "x", 1.0), ("a", "xx", 2.0)]))
    assert [(one.prompt, one.sample, one.reward) for one in collector.completions] == [
        (0, 0, 1),
        (0, 1, 2),
        (1, 0, 3),
        (1, 1, None),
    ]
    trainer, scoring = evaluating([("a", "x", 1.0)])
    trainer.model.train()
    collector.reset()
    collector(trainer, scoring)
    assert not collector.completions


def test_failures_are_told_from_abstaining():
    def odd(completions, **_):
        return [None if text == "none" else float(text) for text in completions]

    func = guarded(odd, max_failed_share=1.0)
    scores = func(completions=["1", "none", "x"])
    collector = Collector(judged(func), [{"prompt": p} for p in "abc"])
    numbers = [float("nan") if score is None else score for score in scores]
    collector(*evaluating(list(zip("abc", ["1", "none", "x"], numbers, strict=True))))
    counts = counts_of(collector.completions, ["odd"])["odd"]
    assert counts == {"abstained": 1, "failed": 1, "kinds": {"exception": 1}}


def test_the_answers_that_are_one_are_counted_together():
    answers = [["4", "4.0", "5"], ["7", "7", "8"]]
    found = [
        Completion(p, s, text, 1, True, {"right": float(text in ("4", "4.0", "8"))}, reward=0.0, answer=text)
        for p, texts in enumerate(answers)
        for s, text in enumerate(texts)
    ]
    right = exact_match(name="right")
    right.same = lambda a, b, **_: float(a) == float(b)
    measures = measures_of(found, judged(right), [{"answer": "4"}, {"answer": "8"}], [1, 3])
    assert dict(measures["majority@3"].by_prompt) == {0: 1.0, 1: 0.0}
    assert measures["pass@1"].by_prompt[1] == pytest.approx(1 / 3) and measures["pass@3"].by_prompt[1] == 1


def test_a_run_tells_what_it_has_gained_on_the_same_prompts(tmp_path):
    def score(completions, **_):
        return [1.0] * len(completions)

    rewards = SimpleNamespace(funcs=[score], weights=[1.0], names=["score"])
    history = EvaluationHistory(tmp_path / "evaluations.jsonl", rewards, [{"prompt": p} for p in "abc"], 1)
    for step, values in ((0, [0.0, 0.5, 0.0]), (4, [1.0, 0.0, 0.0]), (8, [1.0, 1.0, 0.0])):
        history._collector(*evaluating(list(zip("abc", "xyz", values, strict=True))))
        history.on_evaluate(None, SimpleNamespace(is_world_process_zero=True, global_step=step), None)
    found = before_after(tmp_path / "evaluations.jsonl", 8)
    assert found["before"]["reward"]["value"] == pytest.approx(1 / 6) and found["after"]["reward"][
        "value"
    ] == pytest.approx(2 / 3)
    assert found["gain"]["rewards/score"]["value"] == pytest.approx(0.5) and found["gain"]["reward"]["low"] is not None
    assert before_after(tmp_path / "evaluations.jsonl", 9) is None and before_after(tmp_path / "no", 8) is None
