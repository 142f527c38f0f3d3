"""train_sft.py, train_lhts.py and sample.py from the command line: every choice composes, a run ends, mistakes are told."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from configs.compose import ConfigError, compose_config, config_choices
from sampling.ancestral import TokenTemperature
from sampling.smc import SMC
from tasks.corpus import corpus
from trainers.command.build import build_sampler
from trainers.command.cli import compose_command
from trainers.command.prepare import build_weight
from trainers.command.texts import texts_of
from trainers.run.generations import log_probability
from trainers.run.likelihood import register_schema, run_lhts, run_sft
from trainers.run.sample import prompts_of, run_sample, temperature_for

ROOT = Path(__file__).resolve().parents[3]
TINY = ["model.hidden=16", "model.layers=1", "model.heads=2", "model.intermediate=16"]
QUICK = [*TINY, "trainer.max_steps=2", "trainer.per_device_train_batch_size=4", "task.n_train=24", "task.n_eval=4",
         "probe=4", "trainer.use_cpu=true"]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APPORTION_CACHE", str(tmp_path / "cache"))
    register_schema()


@pytest.mark.parametrize("name", config_choices("weight"))
def test_every_weight_builds(name):
    config = compose_config("train_sft", [f"weight={name}"])
    strategy = build_weight(config.weight, name)
    member = getattr(strategy.weight, "func", strategy.weight)
    assert member.__name__ == name


@pytest.mark.parametrize("name", config_choices("sampler"))
def test_every_sampler_builds(name):
    assert callable(build_sampler(compose_config("sample", [f"sampler={name}"])))


def test_gamma_reaches_the_weight():
    config = compose_config("train_sft", ["weight=length_power", "weight.gamma=0.25"])
    assert build_weight(config.weight, "length_power").weight.keywords == {"gamma": 0.25}


def test_a_run_of_likelihood_training_leaves_what_a_report_needs(tmp_path):
    run_sft(compose_command("train_sft", [*QUICK, "weight=seq_mean", f"runs={tmp_path}"]))
    folder = next((tmp_path / "corpus").glob("sft_seq_mean*/seed0"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["weight"] == "seq_mean" and summary["steps"] == 2 and summary["written"]["texts"] == 4
    assert summary["eval_loss_after"] is not None
    assert {"config.yaml", "metrics.jsonl", "curves.png", "written.jsonl"} <= {path.name for path in folder.iterdir()}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("weight/weighted_mean_length" in row for row in rows)
    with pytest.raises(ValueError, match="finished run"):
        run_sft(compose_command("train_sft", [*QUICK, "weight=seq_mean", f"runs={tmp_path}"]))


def test_a_model_fine_tuned_by_lhts_is_sampled_as_it_is(tmp_path):
    stories = ["task=corpus", "task.n_train=24", "task.n_eval=4"]
    blank = [*TINY, "model.pretrain.steps=1", "model.pretrain.batch=4"]
    given = ["trainer.max_steps=2", "trainer.per_device_train_batch_size=4", "probe=4", "max_new_tokens=8"]
    run_lhts(
        compose_command("train_lhts", [*stories, *blank, *given, "tau=0.6", "horizon=2", f"run_dir={tmp_path}/run"])
    )
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["written_before"]["texts"] == summary["written"]["texts"] == 4
    hf = ["model=hf", f"model.name={tmp_path}/run/model", "max_length=6", "limit=1", "num_samples=2"]
    out = tmp_path / "texts.jsonl"
    run_sample(compose_command("sample", [*stories, *hf, "tau=0.6", f"out={out}"]))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2 and all(row["log_weight"] == 0 for row in rows)  # plain sampling: nothing left to correct
    with pytest.raises(ValueError, match=r"trained for tau=0\.6"):
        run_sample(compose_command("sample", [*stories, *hf, "tau=0.3"]))
    with pytest.raises(ValueError, match="sampler=token"):
        run_sample(compose_command("sample", [*stories, *hf, "tau=0.6", "sampler=smc"]))


@pytest.mark.parametrize("verb", [pytest.param("sft", marks=pytest.mark.slow), "lhts"])
def test_what_an_adapter_has_learnt_is_sampled_from_its_folder(verb, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    stories = ["task=corpus", "task.n_train=24", "task.n_eval=4"]
    base, lora = f"{tmp_path}/base/model", f"{tmp_path}/lora/model"
    run_sft(compose_command("train_sft", [*QUICK, "show=0", f"run_dir={tmp_path}/base"]))
    given = [*stories, *QUICK[len(TINY) : len(TINY) + 2], "probe=4", "show=0", "model=hf", f"model.name={base}"]
    given += [
        "model/peft=lora",
        "trainer.learning_rate=0.1",
        "trainer.gradient_accumulation_steps=1",
        f"run_dir={tmp_path}/lora",
    ]
    if verb == "sft":
        run_sft(compose_command("train_sft", [*given, "weight=seq_mean"]))
    else:
        run_lhts(compose_command("train_lhts", [*given, "tau=0.6", "horizon=2", "max_new_tokens=8"]))
    out, ask = tmp_path / "texts.jsonl", ["model=hf", f"model.name={lora}", "max_length=6", "limit=1", "num_samples=2"]
    run_sample(compose_command("sample", [*stories, *ask, "tau=0.6", f"out={out}"]))
    row = json.loads(out.read_text().splitlines()[0])
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), lora)
    log_p = []
    for model in (adapted, AutoModelForCausalLM.from_pretrained(base)):
        prompt = AutoTokenizer.from_pretrained(lora)(row["prompt"])["input_ids"]
        log_p.append(log_probability(model.eval(), prompt, row["tokens"]))
    assert row["log_p"] == pytest.approx(log_p[0], abs=1e-4) and abs(log_p[0] - log_p[1]) > 1e-3
    if verb == "lhts":  # not tempered a second time
        assert row["log_weight"] == 0
        with pytest.raises(ValueError, match="sampler=token"):
            run_sample(compose_command("sample", [*stories, *ask, "tau=0.6", "sampler=smc"]))


def test_temperature_of_an_ordinary_model_is_the_one_asked_for():
    from support.tiny import tiny_model

    assert temperature_for(tiny_model(), "", SMC(), 0.3) == 0.3
    assert temperature_for(tiny_model(), "", TokenTemperature(), 0.3) == 0.3


def test_held_out_texts_are_not_trained_on():
    task = corpus(n_train=40, n_eval=10)
    config = OmegaConf.create({"examples": None, "eval_examples": 10, "seed": 0})
    train, evaluation = texts_of(task, config)
    assert evaluation and not {r["completion"] for r in train} & {r["completion"] for r in evaluation}


def test_a_task_without_texts_names_those_that_have_some():
    task = corpus(n_train=4, n_eval=0)
    task.demonstrations = None
    with pytest.raises(ConfigError, match="task=corpus"):
        texts_of(task, OmegaConf.create({"examples": None, "eval_examples": 1, "seed": 0}))


def test_prompts_come_from_a_file_or_the_task(tmp_path):
    task = corpus(n_train=4, n_eval=2)
    (tmp_path / "p.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    config = OmegaConf.create({"prompts": str(tmp_path / "p.txt"), "limit": None})
    assert prompts_of(config, task) == ["one", "two"]
    config.prompts = None
    assert prompts_of(config, task) == ["story:"]
    (tmp_path / "e.txt").write_text("\n", encoding="utf-8")
    config.prompts = str(tmp_path / "e.txt")
    with pytest.raises(ConfigError, match="one prompt a line"):
        prompts_of(config, task)


@pytest.mark.parametrize(
    ("verb", "arguments", "reason"),
    [
        pytest.param(*("sample", ["tau=0"], "positive number"), marks=pytest.mark.slow),
        pytest.param(*("sample", ["prompts=absent.txt"], "no file"), marks=pytest.mark.slow),
        pytest.param(*("sample", ["sampler=smcc"], "smc"), marks=pytest.mark.slow),
        pytest.param(*("train_sft", ["weight=seq_means"], "seq_mean"), marks=pytest.mark.slow),
        pytest.param(*("train_sft", ["trainer.learning_rate=fast"], "learning_rate"), marks=pytest.mark.slow),
        pytest.param(*("train_sft", ["weight=seq_mean", "trainer.loss_type=dft"], "dft"), marks=pytest.mark.slow),
        pytest.param(*("train_lhts", ["tau=-1"], "positive number"), marks=pytest.mark.slow),
        ("train_lhts", ["horizon=0"], "horizon"),
    ],
)
def test_mistakes_end_with_a_line_that_names_the_remedy(verb, arguments, reason, server):
    done = server.train(*arguments, script=f"{verb}.py", check=False)
    assert done.returncode == 2 and reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("verb", "arguments", "reason"),
    [
        ("sample", ["max_length=0"], "max_length=0"),
        ("sample", ["num_samples=0"], "num_samples=0"),
        ("sample", ["sampler=smc", "sampler.keep=3"], "multiple of keep"),
        ("sample", ["sampler.particles=8"], r"belongs to sampler=smc, sampler=snis"),
        ("sample", ["device=gpu0"], "device=cpu"),
        ("train_sft", ["weight.gamma=0.5"], "belongs to weight=length_power"),
        ("train_sft", ["weight=length_power", "weight.gamma=fast"], "gamma"),
        ("train_sft", ["trainer=grpo"], "does not belong to"),
        ("train_sft", ["examples=0"], "examples=0"),
        ("train_lhts", ["tau=warm"], "must be a number"),
        ("train_lhts", ["horizon=two"], "horizon=two"),
        ("train_lhts", ["clamp=tight"], "clamp=tight"),
        ("train_lhts", ["max_new_tokens=0"], "max_new_tokens=0"),
    ],
)
def test_cheap_mistakes_are_told_before_a_model_is_made(verb, arguments, reason, monkeypatch):
    run = {"sample": run_sample, "train_sft": run_sft, "train_lhts": run_lhts}[verb]
    for module in ("trainers.run.sample", "trainers.command.build"):
        monkeypatch.setattr(f"{module}.build_policy", lambda *_: pytest.fail("a model was made first"))
    with pytest.raises(ValueError, match=reason):
        run(compose_command(verb, arguments))


def test_prompts_that_are_no_text_or_not_in_the_vocabulary_are_refused(tmp_path):
    given = [*TINY, "model=blank", "task.n_train=8", "task=corpus", "max_length=4"]
    for row, reason in (("7", "must be a text"), ('""', "not empty"), ('"Wie geht es?"', "own words only")):
        file = tmp_path / "prompts.jsonl"
        file.write_text(f'{{"prompt": {row}}}\n', encoding="utf-8")
        with pytest.raises(ConfigError, match=reason):
            run_sample(compose_command("sample", [*given, f"prompts={file}"]))
    file.write_text('{"prompt": [{"role": "user", "content": "hi"}]}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="no chat template"):
        run_sample(compose_command("sample", [*given, f"prompts={file}"]))


@pytest.mark.parametrize("verb", ["train_grpo", "train_sft", "train_lhts", "sample"])
def test_help_begins_with_a_command_that_composes(verb):
    from trainers.command.cli import help_text
    from trainers.run.grpo import register_schema as register_grpo

    register_grpo()
    usage = next(line for line in help_text(verb).splitlines() if "[key=value" in line)
    assert f"{verb}.py" in usage and ("accelerate" in usage) == (verb != "sample")
    compose_command(verb, [word for word in usage.split() if "=" in word and "[" not in word])


def test_texts_that_are_cut_are_counted(tmp_path, capsys):
    run_sft(compose_command("train_sft", [*QUICK, "trainer.max_length=12", f"runs={tmp_path}", "show=0"]))
    assert "texts are cut at trainer.max_length=12" in capsys.readouterr().out


def test_tokens_past_the_context_are_refused(tmp_path):
    from sampling.causal_lm import CausalLM
    from support.tiny import tiny_model, tiny_tokenizer

    lm = CausalLM(tiny_model(), tiny_tokenizer())
    with pytest.raises(ValueError, match="context is 64"):
        TokenTemperature()(lm, [[3] * 60], 0.7, 1, 10, torch.Generator())
