"""What is one's own is named by its file wherever a choice is expected: strategies, their members, tasks, models, rewards."""

from __future__ import annotations

import pytest
import torch

from configs.compose import CONFIG_DIR, ConfigError, compose_config, compose_strategy, named_strategy
from credit import Rollout
from credit.methods.auxiliary import LikelihoodOfSuccesses
from credit.methods.live import entropy
from trainers.run import grpo, likelihood

FILE = '''
from credit import Strategy, weight


def late(advantages_B, mask_BT, power=1.0):
    """Later tokens get more."""
    return advantages_B[:, None] * (mask_BT.cumsum(1) / mask_BT.sum(1, keepdim=True).clamp(min=1)) ** power


class Late:
    def __init__(self, power=1.0):
        self.power = power

    def __call__(self, advantages_B, mask_BT):
        return late(advantages_B, mask_BT, self.power)


def halved(rewards_B):
    return rewards_B / 2


def third(mask_BT):
    return mask_BT / 3.0


mine = Strategy(weight=weight.constant, spread=late, name="mine")


def make(power=2.0):
    return Strategy(weight=weight.constant, spread=Late(power), name="made")


class Sub(Strategy):
    pass
'''
YAML = """# later tokens get more
defaults: [dr_grpo, _self_]
spread: {_target_: "my_credit.py:late", power: 2.0}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "my_credit.py").write_text(FILE)
    (tmp_path / "my_configs" / "credit").mkdir(parents=True)
    (tmp_path / "my_configs" / "credit" / "late.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def update(strategy) -> torch.Tensor:
    """What a batch would be multiplied with: two groups, rows of several lengths."""
    lengths = torch.tensor([4, 2, 3, 1])
    mask_BT = torch.arange(5)[None] < lengths[:, None]
    rewards_B = torch.tensor([1.0, 0.0, 0.25, 0.5])
    credit = strategy.score(
        Rollout(
            rewards_B=rewards_B,
            rewards_BK=rewards_B[:, None],
            reward_weights_K=torch.ones(1),
            group_B=torch.tensor([0, 0, 1, 1]),
            mask_BT=mask_BT,
            token_ids_BT=torch.zeros(4, 5, dtype=torch.long),
            max_length=5,
        )
    )
    return credit.advantages_BT * credit.weights_BT


def same(ours, theirs) -> bool:
    assert update(theirs).abs().sum() > 0
    return torch.equal(update(ours), update(theirs))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("credit=my_credit.py:late credit.spread.power=2", "late"),
        ("credit=my_credit.py:late credit.spread.power=2 credit.name=later", "later"),
        ("credit=my_credit.py:Late credit.spread.power=2", "Late"),
        ("credit=my_credit.py:make credit.power=2", "made"),
        ("credit=dr_grpo credit.spread=my_credit.py:late credit.spread.power=2", "dr_grpo"),
        ("credit=dr_grpo credit/spread=my_credit.py:late credit.spread.power=2", "dr_grpo"),
    ],
)
def test_every_way_to_name_it_is_the_yaml(here, words, name):
    of_yaml = compose_strategy(["credit=late"], [here / "my_configs"])
    ours = compose_strategy(words.split())
    assert ours.name == name and same(ours, of_yaml)
    assert not torch.equal(update(of_yaml), update(compose_strategy(["credit=my_credit.py:late"]))), "the power is read"


def test_in_python_a_file_is_a_name_too():
    assert same(named_strategy("my_credit.py:late credit/weight=seq_sum"), named_strategy("my_credit.py:mine")) is False
    assert same(named_strategy("my_credit.py:late"), named_strategy("my_credit.py:mine"))
    assert named_strategy("my_credit.py:mine").name == "mine"


def test_a_function_without_a_signal_by_token_is_a_baseline():
    ours = compose_strategy(["credit=my_credit.py:halved"])
    assert ours.baseline.__name__ == "halved" and ours.spread.__name__ == "broadcast"
    assert same(ours, compose_strategy(["credit=dr_grpo", "credit.baseline=my_credit.py:halved"]))


def test_a_subclass_of_strategy_takes_members_by_name():
    ours = compose_strategy(["credit=my_credit.py:Sub", "credit/weight=seq_sum"])
    assert type(ours).__name__ == "Sub" and same(ours, compose_strategy(["credit=dr_grpo", "credit/weight=seq_sum"]))


def test_what_most_strategies_have_not_is_named_by_its_file_or_exchanged(here):
    """With the example of docs/credit/terms.md."""
    page = (CONFIG_DIR.parent / "docs" / "credit" / "terms.md").read_text(encoding="utf-8")
    (here / "my_terms.py").write_text(page.split("```python\n")[1].split("```")[0])
    for start in ("dr_grpo", "sdar credit/teacher=none"):  # named by no YAML before, and by one
        words = [f"credit={start}", "credit.auxiliary=my_terms.py:Confident", "credit.auxiliary.floor=-0.5"]
        auxiliary = compose_strategy(" ".join(words).split()).auxiliary
        assert type(auxiliary).__name__ == "Confident" and (auxiliary.coefficient, auxiliary.floor) == (0.1, -0.5)
    assert compose_strategy(["credit=sdar", "credit/auxiliary=nll"]).auxiliary == LikelihoodOfSuccesses()
    assert compose_strategy(["credit=sdar", "credit.auxiliary=null"]).auxiliary is None
    assert compose_strategy(["credit=taco", "credit/live_weight=entropy"]).live_weight is entropy
    live = compose_strategy(["credit=taco", "credit.live_weight=my_credit.py:third"]).live_weight
    assert live.__name__ == "third", "the settings of the one before it are left behind"


def test_a_setting_of_the_member_that_was_replaced_is_not_taken_along():
    assert "eps" in compose_config("strategy", ["credit=seq_norm"]).credit.baseline
    composed = compose_config("strategy", ["credit=seq_norm", "credit.baseline=my_credit.py:halved"])
    assert dict(composed.credit.baseline) == {"_target_": "my_credit.py:halved"}, "a YAML that others can read"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("credit=my_credit.py", "credit=my_credit.py:name"),
        ("credit=my_credit.py:lat", "did you mean 'late'"),
        ("credit=my_credt.py:late", "Did you mean 'my_credit.py'"),
        ("credit=my_credit:late", "credit=my_credit.py:late"),
        ("credit.spread=my_credit.py:lat", "did you mean 'late'"),
        ("credit=my_credit.py:late credit.spread.powr=3", "Did you mean `credit.spread.power`"),
        ("credit.spread=my_credit.py:halved", "halved"),
    ],
)
def test_what_is_wrong_with_it_is_said(words, said):
    with pytest.raises((ConfigError, ValueError)) as caught:
        update(compose_strategy(words.split()))
    assert said in str(caught.value)


def test_other_choices_are_named_by_their_file_too(here):
    grpo.register_schema()
    likelihood.register_schema()
    (here / "mine.py").write_text(
        "from tasks.base import Task\n"
        "def polite(prompts, completions, **columns): return [0.0 for _ in completions]\n"
        "def sums(count=3): ...\n"
        "def model(task, name='x'): ...\n"
    )
    words = ["task=mine.py:sums", "task.count=4", "model=mine.py:model", "reward=mine.py:polite"]
    config, choices = compose_config("train_grpo", words, with_choices=True)
    assert dict(config.task) == {"_target_": "mine.py:sums", "count": 4}
    assert dict(config.model) == {"_target_": "mine.py:model"}
    assert list(config.reward.funcs) == ["mine.py:polite"] and "guard" in config.reward
    assert (choices["task"], choices["model"], choices["reward"]) == ("sums", "model", "polite")
    with pytest.raises(ConfigError, match="count"):
        compose_config("train_grpo", ["task=mine.py:sums", "task.coun=4"])
    config, choices = compose_config("train_sft", ["weight=my_credit.py:third"], with_choices=True)
    assert dict(config.weight) == {"_target_": "my_credit.py:third"} and choices["weight"] == "third"
