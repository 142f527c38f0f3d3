"""The words of a command line: what cannot be read, what nobody reads, and what is of another type."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.command_line.overrides import as_one_text, parse_overrides, quoted
from configs.compose import ConfigError
from trainers.command.cli import compose_command
from trainers.run import grpo as run
from trainers.run import likelihood as run_sft

run.register_schema()
run_sft.register_schema()
TABLE = ["task=jsonl", "task.path=rows.jsonl"]


def refusal(*overrides, verb="train_grpo", configs=()) -> str:
    with pytest.raises(ConfigError) as caught:
        compose_command(verb, list(overrides), [str(folder) for folder in configs])
    return str(caught.value)


# ---- values that Hydra's grammar reads as something else


@pytest.mark.parametrize("value", ["####", "<think>", "it's", "a;b", "a!", "(a)", "a=b", "🙂", '"a'])
def test_a_text_that_cannot_be_read_is_named_with_how_to_quote_it(value):
    said = refusal(*TABLE, f"task.answer_marker={value}")
    assert f"`{value}`" in said and "sweep" not in said
    (word,) = shlex.split(said[said.index(": ", said.index("Quote it twice")) + 2 :])
    assert compose_command("train_grpo", [*TABLE, word]).config.task.answer_marker == value


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12))
def test_quoted_twice_any_text_arrives_as_it_is(text):
    assert parse_overrides([f"key={quoted(text)}"])[0].value() == text


@given(
    st.text("ab'\"\\$`! #,", min_size=1, max_size=8).filter(lambda text: text == text.strip() and text[0] not in "'\"")
)
def test_the_word_that_is_suggested_survives_the_shell(text):
    (word,) = shlex.split(as_one_text(f"key={text}"))
    assert parse_overrides([word])[0].value() == text


def test_a_comma_in_a_text_is_told_with_its_quoting_and_a_list_of_choices_with_the_sweep():
    said = refusal(*TABLE, "task.system_prompt=Think, then answer")
    assert said.startswith("task.system_prompt=Think, then answer: ")
    assert said.index("\"task.system_prompt='Think, then answer'\"") < said.index("sweep.py")
    said = refusal("credit=uniform,seq_norm")
    assert said.index("python sweep.py credit=uniform,seq_norm") < said.index("quoted")
    assert "'reward.funcs=[a.py:f,b.py:g]'" in refusal("reward.funcs=a.py:f,b.py:g")
    assert "python sweep.py" in refusal("seed=range(0,3)")


@pytest.mark.parametrize("word", ["credit", "=3", "1=2", "a b=3"])
def test_a_word_that_is_no_setting_is_told_how_settings_are_written(word):
    assert "key=value" in refusal(word)


# ---- what nobody reads


@pytest.mark.parametrize(
    ("verb", "overrides", "said"),
    [
        ("train_grpo", ["+xyzzy=1"], "There is seed, runs"),
        ("train_grpo", ["++sed=1"], "Did you mean `seed`"),
        ("train_grpo", ["+learning_rate=1"], "Did you mean `trainer.learning_rate`"),
        ("train_grpo", ["learning_rate=1"], "Write trainer.learning_rate=1"),
        ("train_grpo", ["output_dir=x"], "run_dir"),
        ("train_grpo", ["++record.evry=1"], "Did you mean `record.every`"),
        ("train_grpo", ["+reward.func=[a.py:f]"], "Did you mean `reward.funcs`"),
        ("train_grpo", ["hydra.run.dir=x"], "run_dir="),
        ("train_grpo", ["hydra/launcher=joblib"], "sweep.py"),
        ("train_grpo", ["credit/weight=[constant,seq_mean]"], "Name one"),
        ("train_grpo", ["credit/auxiliary=[nll,sdar]", "credit/teacher=self"], "Name one"),
        ("train_grpo", ["hydra.searchpath=[file://x]"], "--config-dir"),
        ("train_grpo", ["hydra.verbose=true"], "leave it out"),
        ("train_grpo", ["~record"], "cannot be taken away"),
        ("train_grpo", ["~record.every"], "`record.every`"),
        ("train_grpo", ["~seed"], "cannot be taken away"),
        ("train_grpo", ["~reward"], "must be chosen"),
        ("train_grpo", ["reward=null"], "must name a choice"),
        ("train_sft", ["credit=uniform"], "It belongs to lab.audit, train_grpo.py"),
        ("train_sft", ["+record.every=1"], "`record` is no setting of train_sft.py"),
        ("train_sft", ["experiment=lora_7b_80gb"], "experiment=lora_7b_80gb sets `trainer.max_completion_length`"),
        ("train_grpo", ["experiment=doors", "fooo.bar=1"], "`fooo` is no setting"),
        ("sample", ["trainer.beta=1"], "It belongs to lab.audit, train_grpo.py, train_lhts.py, train_sft.py"),
    ],
)
def test_what_nobody_reads_is_refused_with_the_nearest_right_name(verb, overrides, said):
    assert said in refusal(*overrides, verb=verb)


def test_a_yaml_of_the_users_own_is_held_to_it_too(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n# mine\nlearning_rate: 1.0e-5\n")
    (tmp_path / "experiment" / "hydras.yaml").write_text("# @package _global_\n# mine\nhydra: {run: {dir: x}}\n")
    assert "trainer.learning_rate" in refusal("experiment=mine", configs=[tmp_path])
    assert "run_dir=" in refusal("experiment=hydras", configs=[tmp_path])


def test_what_a_value_refers_to_may_be_added():
    config = compose_command("train_grpo", ["+k=4", "trainer.num_generations=${k}", "++reward.guard.workers=1"]).config
    assert config.trainer.num_generations == 4 and config.reward.guard.workers == 1


def test_what_a_target_takes_may_be_added_and_what_it_does_not_take_is_named(tmp_path, monkeypatch):
    from trainers.command.build import build_task

    (tmp_path / "my_task.py").write_text(
        "from tasks.chain import chain\n\ndef wide(**settings):\n    return chain(**{**settings, 'terms': [2, 2]})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    small = ["task.n_train=8", "task.n_eval=4"]
    assert build_task(compose_command("train_grpo", [*small, "task._target_=my_task.wide"]).config).name
    with pytest.raises(ConfigError, match=r"task.term: `tasks.chain.chain` takes no 'term'. Did you mean `terms`"):
        build_task(compose_command("train_grpo", [*small, "+task.term=[2,3]"]).config)
    with pytest.raises(ConfigError, match=r"task.n_train=many: must be a whole number"):
        build_task(compose_command("train_grpo", ["task.n_train=many"]).config)


# ---- types


@pytest.mark.parametrize(
    ("verb", "word", "said"),
    [
        ("train_grpo", "overwrite=no", "true or false"),  # a text, and so true to Python: it would have deleted the run
        ("train_grpo", "resume=1", "true or false"),
        ("train_grpo", "seed=abc", "whole number"),
        ("train_grpo", "seed=1.5", "whole number"),
        ("train_grpo", "seed=00", "whole number"),
        ("train_grpo", "seed=-1", "from 0 to"),
        ("train_grpo", "seed=null", "whole number"),
        ("train_grpo", "record.every=x", "whole number"),
        ("train_grpo", "record=3", "record.every="),
        ("train_grpo", "processes=two", "whole number"),
        ("train_lhts", "tau=warm", "a number"),
        ("train_lhts", "horizon=two", "whole number"),
    ],
)
def test_a_setting_has_the_type_of_its_default(verb, word, said):
    message = refusal(word, verb=verb)
    assert message.startswith(word) and said in message


def test_values_that_are_meant_pass():
    open_to_any_key = "chat_template_kwargs.enable_thinking=false"
    assert compose_command("sample", [open_to_any_key]).config.chat_template_kwargs == {"enable_thinking": False}
    for verb, words in {"train_lhts": ["tau=[0.5,1]", "horizon=null"], "train_sft": ["examples=3", "seed=7"]}.items():
        compose_command(verb, words)


ODD = ["a b", "a,b=c", "it's", 'so "quoted"', "(x)", "[y]z", "ä{b}", "$HOME", "#1", "a\\b", "&;|<>", "~x", "-y", "100%"]


@pytest.mark.parametrize("name", ODD)
def test_a_path_needs_no_quotes_but_the_shells(name, tmp_path):
    """Hydra's grammar reads these signs as something else; a path that is there, or a place to be made, is one text."""
    (tmp_path / name / "credit").mkdir(parents=True)
    (tmp_path / name / "credit" / "mine.yaml").write_text("defaults: [uniform, _self_]\n")
    there, new = str(tmp_path / name), str(tmp_path / "not there" / name)
    words = [f"model.name={there}", f"run_dir={new}", "model=hf", "credit=mine"]
    config = compose_command("train_grpo", words, [there]).config
    assert (config.model.name, config.run_dir, config.credit.name) == (there, new, "mine")
    twice = [f"model.name={quoted(there)}", f"run_dir={quoted(new)}", *words[2:]]
    assert compose_command("train_grpo", twice, [there]).config == config


def test_a_file_of_that_name_makes_no_text_of_a_number_or_a_choice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("3", "uniform", "true"):
        (tmp_path / name).write_text("")
    config = compose_command("train_grpo", ["seed=3", "credit=uniform", "overwrite=true"]).config
    assert (config.seed, config.overwrite) == (3, True)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.learning_rate=abc", "trainer.learning_rate=abc: must be a number$"),
        ("trainer.max_steps=1.5", "must be a whole number$"),
        ("trainer.bf16=maybe", "must be true or false$"),
        ("trainer.run_name=[1]", "must be a text$"),
        ("trainer.max_steps=null", "leave it out"),
        ("trainer.loss_type=grpoo", "Did you mean `grpo`"),
        ("trainer.importance_sampling_level=sequnce", "Did you mean `sequence`"),
        ("trainer.scale_rewards=grup", "Did you mean `group`"),
        ("credit/wieght=seq_mean", "Did you mean `credit/weight`"),
        ("credit.wieght=seq_mean", "Did you mean `credit.weight`"),
        ("trainer.learning_rate=log(1e-5,1e-3,3)", "one run for each: `python sweep.py"),
    ],
)
def test_values_that_fit_no_field_of_the_trainer_are_told_in_our_words(word, message):
    with pytest.raises(ConfigError, match=message):
        compose_command("train_grpo", [word])


def test_loss_types_of_likelihood_training_are_its_own():
    compose_command("train_sft", ["trainer.loss_type=dft"])
    compose_command("train_grpo", ["trainer.scale_rewards=false"])
