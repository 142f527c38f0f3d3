"""What is wrong with a reward's configuration is told before a model is loaded."""

import pytest

from configs.compose import ConfigError, compose_config
from rewards.guard import guard_of
from trainers.command.build import build_rewards, build_task
from trainers.run.grpo import register_schema

FILE = """
def words(prompts, completions, words, **columns):
    return [float(any(word in text for word in words)) for text in completions]

def gold(prompts, completions, gold, **columns):
    return [0.0 for _ in completions]
"""


@pytest.fixture
def rewards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some_rewards.py").write_text(FILE)
    register_schema()

    def build(*overrides, config_dirs=()):
        config = compose_config("train_grpo", ["task.n_train=8", "task.n_eval=2", *overrides], config_dirs)
        return build_rewards(config, build_task(config))

    return build


def test_guard_options_are_settings_though_the_yaml_does_not_list_them(rewards):
    (func,) = rewards("reward=think_answer", "reward.guard.timeout=7", "reward.guard.max_failed_share=0.1").funcs
    assert guard_of(func).timeout == 7
    with pytest.raises(ConfigError, match=r"Did you mean `reward\.guard\.timeout`"):
        rewards("reward=think_answer", "reward.guard.timout=7")


def test_a_yaml_of_ones_own_binds_arguments_and_guards_each_function_by_itself(rewards, tmp_path):
    (tmp_path / "mine" / "reward").mkdir(parents=True)
    (tmp_path / "mine" / "reward" / "mine.yaml").write_text("""# two functions
funcs:
  - {_target_: some_rewards.py:words, words: [please], name: polite}
  - _target_: rewards.guard.guarded
    func: {_target_: some_rewards.py:words, words: [now], name: rude}
    timeout: 3
""")
    built = rewards("reward=mine", "reward.guard.timeout=7", config_dirs=["mine"])
    assert built.weights == [1.0, 1.0]
    assert [(func.__name__, guard_of(func).timeout) for func in built.funcs] == [("polite", 7), ("rude", 3)]
    assert built.funcs[0](prompts=[""], completions=["please"]) == [1.0]


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["reward.funcs=[some_rewards.py:gold]"],
            "reward: .*'gold' needs the dataset column 'gold'; there are: answer",
        ),
        (["reward.funcs=[some_reward.py:gold]"], "Did you mean 'some_rewards.py'"),
        (["reward.funcs=[]"], "No reward functions"),
        (["reward=think_answer", "reward.weights=[1,2]"], "2 reward weights for 1 functions"),
        (["reward=think_answer", "reward.weights=3"], "list of numbers"),
    ],
)
def test_what_is_wrong_is_told(rewards, overrides, message):
    with pytest.raises(ConfigError, match=message):
        rewards(*overrides)
