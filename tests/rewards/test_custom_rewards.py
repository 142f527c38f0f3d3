"""Custom rewards by file, by dotted name and by YAML; whatever is wrong is told before anything is loaded."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from configs.compose import compose_config
from rewards.accuracy import exact_match
from rewards.build import (
    check_reward_columns,
    check_weights,
    guard_rewards,
    instantiated,
    resolve_rewards,
)
from rewards.extract import whole_text
from rewards.format import regex_format
from rewards.guard import Guard, guard_of
from rewards.load import load_reward
from rewards.maths import math_equal
from rewards.tags import think_answer
from support.reward_samples import chosen
from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "reward").glob("*.yaml"))

REWARDS = """
from helpers import word

def polite(prompts, completions, **columns):
    return [float(word in text) for text in completions]

def no_columns(prompts, completions):
    return []

def misspelt(prompts, completion, **columns):
    return []

def positional(prompts, completions, /, **columns):
    return []

def times(prompts, completions, words, factor=1.0, **columns):
    return [factor * sum(text.count(word) for word in words) for text in completions]

def needs(prompts, completions, answer, trainer_state=None, **columns):
    return [float(text == a) for text, a in zip(completions, answer)]

class Length:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, prompts, completions, **columns):
        return [self.factor * len(text) for text in completions]

class Polite:
    def __call__(self, prompts, completions, **columns):
        return [2.0 for _ in completions]

polite_object = Polite()
number = 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_rewards.py").write_text(textwrap.dedent(REWARDS))
    (tmp_path / "helpers.py").write_text("word = 'please'\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(1)\n")
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    package = tmp_path / "my_package_of_rewards"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kind.py").write_text("def kind(completions, **columns):\n    return [1.0 for _ in completions]\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("own_file_", "my_package_of", "helpers"))]:
        del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def test_a_file_resolves_relative_to_where_the_command_was_given(folder):
    reward = load_reward("my_rewards.py:polite", folder)
    assert reward.__name__ == "polite" and reward(prompts=["", ""], completions=["please", "no"]) == [1.0, 0.0]
    assert load_reward("my_rewards.py:polite", folder) is reward
    assert load_reward(f"{folder}/my_rewards.py:polite_object").__class__.__name__ == "Polite"


def test_a_dotted_name_is_imported_from_there_too(folder):
    assert load_reward("my_package_of_rewards.kind.kind", folder)(completions=["x"]) == [1.0]


@pytest.mark.parametrize(
    "spec, message",
    [
        ("my_reward.py:polite", r"There is no file .*my_reward\.py.*Did you mean 'my_rewards.py'"),
        ("nowhere/x.py:polite", r"There is no file .*Paths start at"),
        ("my_rewards.py:polit", r"no function 'polit'; did you mean 'polite'"),
        ("my_rewards.py:", r"file\.py:function"),
        ("my_rewards.py:no_columns", r"no \*\*columns.*Expected: def reward\(prompts, completions, \*\*columns\)"),
        ("my_rewards.py:misspelt", r"is 'completion' meant to be 'completions'"),
        ("my_rewards.py:positional", "positional-only"),
        ("my_rewards.py:Polite", "is a class. Give an instance"),
        ("my_rewards.py:number", "is int, not a function"),
        ("broken.py:f", "does not import: ModuleNotFoundError"),
        ("exits.py:f", "does not import: SystemExit"),
        (
            "no_such_package.rewards.f",
            r"no module 'no_such_package'.*named with a colon: no_such_package/rewards\.py:f",
        ),
        ("my_package_of_rewards.kind.kid", "did you mean 'kind'"),
        ("polite", "neither file.py:function nor package.module.function"),
    ],
)
def test_what_is_wrong_with_a_name_is_told_with_the_remedy(folder, spec, message):
    with pytest.raises(ValueError, match=message):
        load_reward(spec, folder)


def test_entries_may_be_names_callables_and_targets(folder):
    target = {"_target_": "rewards.format.regex_format", "pattern": "a+", "name": "letters"}
    funcs = resolve_rewards(["my_rewards.py:polite", think_answer(), target], folder)
    assert [func.__name__ for func in funcs] == ["polite", "think_answer", "letters"]
    assert isinstance(funcs[2], regex_format)
    assert resolve_rewards("my_rewards.py:polite", folder)[0].__name__ == "polite"


@pytest.mark.parametrize(
    "funcs, message",
    [
        ([], "No reward functions"),
        ([think_answer(), think_answer()], "Two reward functions are called 'think_answer'"),
        ([{"pattern": "a"}], "needs `_target_`"),
        ([{"_target_": "rewards.format.regex_fromat", "pattern": "a"}], "did you mean 'regex_format'"),
        ([{"_target_": "rewards.fromat.regex_format"}], r"no module 'rewards\.fromat'"),
        ([{"_target_": "rewards.learned.reward_model", "model": "???"}], r"'model' of .* is not set"),
        ([{"_target_": "rewards.format.regex_format", "patern": "a"}], "patern"),
        ([{"_target_": "rewards.extract.last_boxed"}], "called with every dataset column"),
    ],
)
def test_wrong_entries_are_told(funcs, message):
    with pytest.raises(ValueError, match=message):
        resolve_rewards(funcs)


def test_a_target_may_be_a_class_or_a_function_of_a_file_with_arguments(folder):
    length = {"_target_": "my_rewards.py:Length", "factor": 2}
    bound = {"_target_": "my_rewards.py:times", "words": ["please", "thanks"], "factor": 0.5, "name": "thanks"}
    partial = {"_target_": "my_rewards.times", "_partial_": True, "words": ["a"]}
    funcs = resolve_rewards([length, bound, partial], folder)
    assert [func(prompts=[""], completions=["please, thanks"]) for func in funcs] == [[28], [1.0], [2.0]]
    assert [guarded.__name__ for guarded in guard_rewards(funcs, {})] == ["Length", "thanks", "times"]
    assert funcs[1].__name__ == "thanks"  # what TRL reads where there is no guard


def test_a_misspelt_argument_is_not_swallowed_by_the_columns(folder):
    with pytest.raises(ValueError, match=r"no argument 'wrods'; did you mean 'words'"):
        resolve_rewards([{"_target_": "my_rewards.py:times", "wrods": ["a"]}], folder)


def test_compositions_take_functions_of_a_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    gate = {"_target_": "rewards.compose.gate", "reward": "my_rewards.py:polite"}
    gate |= {"by": {"_target_": "rewards.format.regex_format", "pattern": ".{7,}"}}
    (func,) = resolve_rewards([gate], folder)
    assert func.__name__ == "polite_if_regex_format" and func([""] * 2, ["please", "pleased"]) == [0.0, 1.0]


def test_a_missing_dataset_column_is_told_before_the_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = {"_target_": "my_rewards.py:times", "words": ["a"]}
    gate = {"_target_": "rewards.compose.gate", "reward": "my_rewards.py:needs"}
    gate |= {"by": {"_target_": "rewards.accuracy.exact_match", "column": "gold"}}
    free = [words, "my_rewards.py:polite", think_answer(), {"_target_": "rewards.shape.repetition"}]
    check_reward_columns(resolve_rewards(free, folder), ["prompt"])
    funcs = resolve_rewards([gate, "my_rewards.py:needs"], folder)
    check_reward_columns(funcs, ["prompt", "answer", "gold"])
    with pytest.raises(ValueError, match=r"'needs_if_exact_match' needs the dataset column 'gold'"):
        check_reward_columns(funcs, ["prompt", "answer"])
    with pytest.raises(ValueError, match=r"'needs' needs the dataset column 'answer'; did you mean 'answers'"):
        check_reward_columns(funcs[1:], ["prompt", "answers"])


def test_guard_options_are_checked_and_functions_guarded_once():
    (guard,) = guard_rewards([think_answer()], {"timeout": 5})
    assert isinstance(guard, Guard) and guard.timeout == 5
    assert guard_rewards([guard], {}) == [guard]
    plain = think_answer()
    assert guard_rewards([plain], None) == [plain] and guard_of(plain) is None
    with pytest.raises(ValueError, match="did you mean 'timeout'"):
        guard_rewards([plain], {"timout": 5})


def test_weights_pair_with_functions():
    funcs = [think_answer(), regex_format("a")]
    assert check_weights(None, funcs) is None and check_weights([1, 2], funcs) == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"1 reward weights for 2 functions \(think_answer, regex_format\)"):
        check_weights([1], funcs)
    for wrong in (["a", 1], 2, "ab"):
        with pytest.raises(ValueError, match="list of numbers"):
            check_weights(wrong, funcs)
    with pytest.raises(ValueError, match="finite"):
        check_weights([1, float("inf")], funcs)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_reward_config_says_what_it_means_and_can_be_built(path):
    text = path.read_text()
    assert text.startswith("# ") and len(text.splitlines()[0]) < 130
    node = yaml.safe_load(text)
    assert {"funcs"} <= set(node) <= {"funcs", "weights", "guard"}
    if node["funcs"] == "task":
        return
    filled = json.loads(json.dumps(node["funcs"]).replace('"???"', '"some/model"'))
    funcs = resolve_rewards(filled, ROOT)
    check_weights(node.get("weights"), funcs)
    assert all(map(guard_of, guard_rewards(funcs, node.get("guard") or {})))


def test_overrides_are_read_as_the_trainer_reads_them(folder, monkeypatch):
    """By the same parser: the two commands compose the same node, and refuse the same words."""
    register_schema()
    monkeypatch.chdir(folder)
    for words in (
        ["reward.funcs.0.pattern=b+", "reward=regex", "reward.guard.timeout=5"],
        ["reward.funcs=[my_rewards.py:polite]"],
    ):
        assert chosen(*words) == OmegaConf.to_container(compose_config("train_grpo", words).reward)
    for words in (
        ["reward=think_anser"],
        ["reward.funcs.3.pattern=b", "reward=regex"],
        ["reward.guard.timeot=3"],
        ["x=1"],
    ):
        said = []
        for command in ("score", "train_grpo"):
            with pytest.raises(ValueError) as refused:
                compose_command(command, words)
            said.append(str(refused.value).replace("train_grpo.py", "score.py").split(" There is")[0])
        assert said[0] == said[1]


def test_nested_targets_are_built_inside_out():
    gate = {"_target_": "rewards.compose.gate", "reward": {"_target_": "rewards.tags.think_answer"}}
    gate["by"] = {"_target_": "rewards.format.regex_format", "pattern": ".*"}
    assert instantiated(gate).__name__ == "think_answer_if_regex_format"


def test_the_rewards_package_imports_no_torch_trl_or_transformers():
    code = "import sys, pkgutil, rewards\n"
    code += "for module in pkgutil.iter_modules(rewards.__path__): __import__('rewards.' + module.name)\n"
    code += "print(sorted({'torch', 'trl', 'transformers', 'hydra'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr


def test_a_column_may_be_called_text():
    for reward in (exact_match(column="text"), math_equal(extract=whole_text(), column="text")):
        assert reward(prompts=["q"], completions=["4"], text=["4"]) == [1.0]


def test_a_column_called_like_an_argument_that_the_yaml_sets_is_refused(folder):
    (func,) = resolve_rewards([{"_target_": "my_rewards.py:times", "words": ["a"], "factor": 2}], folder)
    check_reward_columns([func], ["prompt", "answer"])
    with pytest.raises(ValueError, match=r"the argument 'factor' of its own.*task.drop_columns=\[factor\]"):
        check_reward_columns([func], ["prompt", "factor"])
