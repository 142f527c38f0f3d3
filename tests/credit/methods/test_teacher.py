"""Credit by a teacher: twins by loops; rows without one; who is told what."""

from __future__ import annotations

import math
import random

import pytest
import torch

from configs.compose import ConfigError, compose_strategy
from credit import Strategy, weight
from credit.methods.teacher import distilled, rescaled
from credit.signals.teacher import AverageTeacher, ModelTeacher, PolicyTeacher, Sibling, contexts_of, right_sibling


def batch(seed: int) -> dict:
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    mask_BT = torch.tensor([[t < n for t in range(6)] for n in (6, 3, 1, 0, 4, 6)])
    mask_BT[0, 2] = False
    logps_BT, teacher_BT = -3 * torch.rand(2, 6, 6, generator=generator, dtype=torch.float64)
    teacher_BT[4] = torch.nan
    teacher_BT[0, 0] = -1000.0
    advantages_B = torch.tensor([rng.uniform(-1, 1) for _ in range(6)], dtype=torch.float64)
    return {
        "advantages_B": advantages_B,
        "mask_BT": mask_BT,
        "teacher_logps_BT": teacher_BT,
        "scoring_logps_BT": logps_BT,
    }


def difference(given: dict, b: int, t: int) -> float:
    value = float(given["teacher_logps_BT"][b, t] - given["scoring_logps_BT"][b, t])
    return 0.0 if math.isnan(value) else value


@pytest.mark.parametrize("lambda_", [0.0, 0.3])
def test_the_outcome_and_the_teacher_are_mixed(lambda_):
    given = batch(0)
    found_BT = distilled(**given, lambda_=lambda_, clip=2.0)
    for b, t in given["mask_BT"].nonzero().tolist():
        taught = min(max(difference(given, b, t), -2.0), 2.0)
        expected = lambda_ * float(given["advantages_B"][b]) + (1 - lambda_) * taught
        assert float(found_BT[b, t]) == pytest.approx(expected)
    assert found_BT[0, 0] < found_BT[0, 1] and found_BT.isfinite().all()


def test_the_outcome_says_the_sign_and_the_teacher_how_much():
    given = batch(1)
    found_BT = rescaled(**given, lambda_=0.5, clip=0.2)
    for b, t in given["mask_BT"].nonzero().tolist():
        outcome = float(given["advantages_B"][b])
        share = min(max(math.exp(min(math.copysign(1, outcome) * difference(given, b, t), 9)), 0.8), 1.2)
        assert float(found_BT[b, t]) == pytest.approx(outcome * (0.5 + 0.5 * share))
    assert torch.equal(found_BT[4], given["advantages_B"][4].expand(6))  # no teacher: the outcome alone


class Told:
    """Rows of two prompts, in the order 0 1 0 1 0 1."""

    def __init__(self):
        self.prompts = ["p", "q"] * 3
        self.completions = ["x", "y", "z", "y", "a", "w"]
        self.rewards_B = torch.tensor([1.0, 0.0, 0.0, torch.nan, 1.0, 0.5])
        self.group_B = torch.tensor([0, 1] * 3)
        self.columns = {"answer": [7, 8] * 3}
        self.prompt_ids = [[3], [4]] * 3

    def gather(self, values):
        return list(values)


def test_a_context_is_told_of_its_row_and_of_the_others_of_its_prompt():
    seen = []

    def watch(prompt, completion, reward, siblings, columns):
        seen.append((prompt, completion, reward, siblings, columns))
        return f"{prompt}{columns['answer']}" if reward else None

    assert contexts_of(Told(), watch) == ["p7", None, None, None, "p7", "q8"]
    assert seen[0] == ("p", "x", 1.0, [Sibling("z", 0.0), Sibling("a", 1.0)], {"answer": 7})
    assert seen[3] == ("q", "y", None, [Sibling("y", 0.0), Sibling("w", 0.5)], {"answer": 8})
    assert contexts_of(Told(), None) == [[3], [4]] * 3


def test_the_best_other_completion_is_shown_whatever_the_order():
    others = [Sibling("b", 1.0), Sibling("a", 1.0), Sibling("c", 0.7), Sibling("d", None)]
    for order in (others, others[::-1]):
        assert right_sibling("p", "x", 0.0, order, {}, words="Right:") == "p\nRight:\na\n"
    assert right_sibling("p", "x", 0.0, others, {}, success=1.1) is None
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    found = right_sibling(chat, "x", 0.0, [Sibling([{"role": "assistant", "content": "w"}], 1.0)], {}, words="Right:")
    assert found == [chat[0], {"role": "user", "content": "u\n\nRight:\nw\n"}] and chat[1]["content"] == "u"


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (lambda *five: 7, "returned int for row 0: 7"),
        (lambda *five: "", "a text that is not empty"),
        (lambda *five: ["p"], "returned list for row 0"),
        (lambda prompt: "p", "failed on row 0: TypeError"),
        (lambda p, c, r, s, columns: columns["anser"], "failed on row 0: KeyError: 'anser'"),
    ],
)
def test_a_context_that_is_none_of_these_is_told_before_a_model_runs(context, said):
    with pytest.raises(ValueError, match=said):
        contexts_of(Told(), context)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PolicyTeacher(), "has nothing to teach it"),
        (lambda: PolicyTeacher("hint"), "must be a function"),
        (lambda: AverageTeacher(decay=1.0), "below 1"),
        (lambda: Strategy(weight.constant, spread=distilled), "there is no teacher. Add credit/teacher=self"),
        (lambda: compose_strategy(["credit=sdpo", "credit/teacher=slef"]), "Did you mean `self`"),
        (lambda: compose_strategy(["credit=sdpo", "credit.teacher.context=lost.py:hint"]), "no file"),
    ],
)
def test_what_cannot_teach_is_refused_with_the_remedy(make, said):
    with pytest.raises((ValueError, ConfigError), match=said):
        make()


HINT = """
def hint(prompt, completion, reward, siblings, columns, shout=False):
    return f"{prompt}{columns['answer']}" + "!" * shout
"""


def test_a_context_of_ones_own_is_named_by_its_file_with_settings(tmp_path, monkeypatch):
    (tmp_path / "my_hints.py").write_text(HINT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    plain = compose_strategy(["credit=rlsd", "credit.teacher.context=my_hints.py:hint"])
    assert contexts_of(Told(), plain.teacher.context)[0] == "p7"
    node = "{_target_: my_hints.py:hint, shout: true}"
    shouting = compose_strategy(["credit=opd", "credit.teacher.name=x", f"credit.teacher.context={node}"])
    assert isinstance(shouting.teacher, ModelTeacher) and contexts_of(Told(), shouting.teacher.context)[1] == "q8!"
