"""Members of a strategy that keep state: it is saved, evaluation never feeds it, and state that is lost is refused."""

from __future__ import annotations

import pytest
import torch

from credit import Strategy, weight
from support.resumed import HELD_OUT, goes_on_from_everywhere, grpo, live
from trainers.seam.checkpoints import refuse_unresumable
from trainers.seam.members import FILE, untouched


class RunningMean:
    """A = R - mean of all rewards so far, this batch included."""

    def __init__(self):
        self.total, self.count = torch.zeros(()), 0

    def __call__(self, rewards_B):
        self.total, self.count = self.total + rewards_B.sum().cpu(), self.count + len(rewards_B)
        return rewards_B - self.total / self.count

    def batches(self, rows=8):
        return self.count / rows


class SavedMean(RunningMean):
    def state_dict(self):
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state):
        self.total, self.count = state["total"], state["count"]


def strategy(baseline) -> Strategy:
    return Strategy(weight.constant, baseline, name="mine")


def closure():
    kept = {"total": 0.0, "count": 0}

    def running(rewards_B):
        kept["total"] += float(rewards_B.sum())
        kept["count"] += len(rewards_B)
        return rewards_B - kept["total"] / kept["count"]

    return running, lambda: kept["count"]


def rebound():
    count = 0

    def running(rewards_B):
        nonlocal count
        count += len(rewards_B)
        return rewards_B / count

    return running, lambda: count


def attribute():
    def running(rewards_B):
        running.count += len(rewards_B)
        return rewards_B / running.count

    running.count = 0
    return running, lambda: running.count


def default():
    def running(rewards_B, kept=[]):  # noqa: B006
        kept.append(float(rewards_B.sum()))
        return rewards_B - kept[-1]

    return running, lambda: 8 * len(running.__defaults__[0])


COUNT = 0


def of_the_module():
    global COUNT
    COUNT = 0

    def running(rewards_B):
        global COUNT
        COUNT += len(rewards_B)
        return rewards_B / COUNT

    return running, lambda: COUNT


def bound():
    mean = RunningMean()
    return mean.__call__, lambda: mean.count


def instance():
    mean = RunningMean()
    return mean, lambda: mean.count


KEPT_SOMEWHERE = [closure, rebound, attribute, default, of_the_module, bound, instance]


def test_a_member_goes_on_with_the_state_it_had(tmp_path):
    made = []

    def make(folder):
        made.append(SavedMean())
        return grpo(strategy(made[-1]), **HELD_OUT)(folder)

    goes_on_from_everywhere(make, tmp_path, 8)
    assert len(made) == 8 and all(mean.batches() == 8 for mean in made), (
        "other batches than those of training were counted"
    )
    assert len({float(mean.total) for mean in made}) == 1


@pytest.mark.parametrize("credit", ["prompt_ema", "spo"])
def test_what_is_remembered_of_prompts_goes_on_to_the_bit(credit, tmp_path):
    """Every prompt is seen three times; without its memory the last visit would be another."""
    whole = goes_on_from_everywhere(grpo(credit, rows=4, max_steps=6, **HELD_OUT), tmp_path, 6, cuts=[3])
    state = whole.trainer.credit.baseline.state_dict()
    assert len(state["keys"]) == 4, "prompts of evaluation were remembered, or keys differ between epochs"


@pytest.mark.parametrize("kept", KEPT_SOMEWHERE, ids=lambda make: make.__name__)
def test_evaluation_feeds_no_member_wherever_it_keeps_its_state(kept, tmp_path):
    member, count = kept()
    live(grpo(strategy(member), max_steps=3, eval_on_start=True, **HELD_OUT)(tmp_path))
    assert count() == 3 * 8


@pytest.mark.parametrize("kept", KEPT_SOMEWHERE, ids=lambda make: make.__name__)
def test_a_member_whose_state_would_be_lost_is_not_resumed(kept, tmp_path, caplog):
    """Said in training, and refused from the checkpoint: by the commands before a model is loaded, and by the trainer."""
    live(grpo(strategy(kept()[0]), max_steps=3)(tmp_path))
    assert sum("baseline of credit strategy 'mine' keeps state" in record.message for record in caplog.records) == 1
    with pytest.raises(ValueError, match=r"baseline.*keeps state.*state_dict\(\).*load_state_dict"):
        refuse_unresumable(tmp_path, end=3)
    with pytest.raises(ValueError, match="overwrite=true"):
        live(grpo(strategy(kept()[0]), max_steps=3)(tmp_path), tmp_path / "checkpoint-2")
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {f"checkpoint-{step}" for step in (1, 2, 3)}


@pytest.mark.parametrize("credit", ["seq_norm", "opo", "value credit/critic=head", "dr_grpo credit/ratio=sequence"])
def test_a_member_of_this_repository_keeps_nothing(credit, tmp_path, caplog):
    live(grpo(credit, max_steps=2)(tmp_path))
    assert not (tmp_path / "checkpoint-2" / FILE).exists() and "keeps state" not in caplog.text
    refuse_unresumable(tmp_path)


def test_a_state_that_would_not_come_back_from_a_file_is_refused_at_the_start(tmp_path):
    class Odd(SavedMean):
        def state_dict(self):
            return {"mean": self}

    with pytest.raises(ValueError, match=r"baseline.*what a checkpoint does not"):
        grpo(strategy(Odd()))(tmp_path)


def test_a_checkpoint_without_the_state_of_a_member_is_refused(tmp_path):
    live(grpo("dr_grpo", max_steps=2)(tmp_path))
    with pytest.raises(ValueError, match="does not hold the state of the baseline"):
        live(grpo(strategy(SavedMean()))(tmp_path), tmp_path / "checkpoint-1")


def test_a_member_that_cannot_be_copied_and_learns_from_evaluation_stops_it(tmp_path):
    class Uncopied(RunningMean):
        def __init__(self):
            super().__init__()
            self.rows = (row for row in "ab")  # a generator: neither copied nor saved

    with (
        pytest.raises(ValueError, match=r"evaluation has changed it.*state_dict"),
        untouched(strategy(mean := Uncopied())),
    ):
        mean(torch.ones(2))


def test_a_live_member_keeps_its_state_over_micro_batches_and_resume(tmp_path):
    class Seen:
        """Credit that shrinks with the tokens seen so far."""

        def __init__(self):
            self.tokens = 0

        def __call__(self, advantages_B, policy_logps_BT, mask_BT):
            self.tokens += int(mask_BT.sum())
            return advantages_B[:, None] / (1 + self.tokens / 100) * mask_BT

        def state_dict(self):
            return {"tokens": self.tokens}

        def load_state_dict(self, state):
            self.tokens = state["tokens"]

    def make(folder):
        return grpo(Strategy(weight.constant, spread=Seen(), name="live"), gradient_accumulation_steps=2, **HELD_OUT)(
            folder
        )

    whole = goes_on_from_everywhere(make, tmp_path, 8, cuts=[1, 3, 5])
    assert whole.trainer.credit.spread.tokens > 100
