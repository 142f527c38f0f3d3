"""Every state of a run is in its checkpoint (docs/credit/exactness.md lists them): the run that goes on from any checkpoint, in
whatever epoch, sees the rows, shows the metrics and ends with the weights of the run that was not stopped."""

from __future__ import annotations

from functools import partial

import pytest
from datasets import Dataset
from transformers import LlamaForCausalLM

from rewards.guard import guarded
from support.resumed import PROMPTS, goes_on_from_everywhere, grpo, vowels
from support.tiny import tiny_model
from trainers.seam.checkpoints import COMPLETE_MARK


# 2 prompts a step. 4 steps an epoch: cuts inside epoch 1, at its end, and inside epoch 2.
def test_every_epoch_goes_on_in_its_own_order(tmp_path):
    whole = goes_on_from_everywhere(grpo(), tmp_path, 8)
    orders = [[whole.prompts[step] for step in epoch] for epoch in (range(1, 5), range(5, 9))]
    assert orders[0] != orders[1], "the epochs have one order, so nothing was tested"


@pytest.mark.parametrize(
    "options",
    {
        "several optimiser steps on a generation batch": dict(steps_per_generation=4, rows=8, max_steps=10),
        "two passes over it": dict(num_iterations=2, gradient_accumulation_steps=2, rows=8),
        "a rest of the table that is left out": dict(rows=7),
        "a table of one batch": dict(rows=2, max_steps=4),
        "no strategy: TRL's own credit": dict(credit=None),
    }.items(),
    ids=lambda case: case[0],
)
def test_a_run_goes_on_from_every_checkpoint(options, tmp_path):
    goes_on_from_everywhere(grpo(**options[1]), tmp_path, options[1].get("max_steps", 8))


def test_a_row_of_metrics_over_several_steps_counts_those_before_the_cut(tmp_path):
    goes_on_from_everywhere(grpo(logging_steps=3, rows=12), tmp_path, 8)


def test_failures_of_a_reward_that_were_counted_and_said_stay_counted_and_said(tmp_path, caplog):
    def picky(completions, **columns):
        return [len(text) / 10 if "a" not in text else float("nan") for text in completions]

    guards = []

    def make(folder):
        guards.append(guarded(picky, max_failed_share=1.0, window=16))
        return grpo(funcs=[guards[-1], vowels])(folder)

    goes_on_from_everywhere(make, tmp_path, 8, cuts=[3])
    whole, resumed = guards
    assert whole.counts.not_finite > 0 and whole.counts == resumed.counts
    assert whole.state_dict() == resumed.state_dict()
    assert sum("failed on row" in record.message for record in caplog.records) == 1, "said again after the resume"


def test_a_reward_with_a_state_of_its_own_goes_on_with_it(tmp_path):
    class Novelty:
        """Pays for completions not seen before in this run."""

        __name__ = "novelty"

        def __init__(self):
            self.seen = []

        def __call__(self, completions, **columns):
            paid = [float(text not in self.seen) for text in completions]
            self.seen += completions
            return paid

        def state_dict(self):
            return {"seen": list(self.seen)}

        def load_state_dict(self, state):
            self.seen = list(state["seen"])

    def make(folder):
        return grpo(funcs=[Novelty(), guarded(Novelty())])(folder)

    whole = goes_on_from_everywhere(make, tmp_path, 8, cuts=[3, 4])
    assert len({row["rewards/novelty/mean"] for row in whole.logs if "reward" in row}) > 2


def test_evaluation_and_dropout_and_a_reference_do_not_come_between(tmp_path):
    """Each draws random numbers or reads states of its own."""
    options = dict(eval_dataset=Dataset.from_dict({"prompt": PROMPTS[20:24]}), eval_strategy="steps", eval_steps=2)
    shape = dict(per_device_eval_batch_size=8, num_generations_eval=2, save_steps=1)
    model = partial(tiny_model, attention_dropout=0.3)
    whole = goes_on_from_everywhere(grpo(model=model, **options, **shape), tmp_path, 8, cuts=[2, 3])
    assert sum("eval_reward" in row for row in whole.logs) == 4


def test_a_reference_that_moves_goes_on_where_it_was(tmp_path):
    """TRL's sync_ref_model mixes the policy into the reference every few steps."""
    tiny_model().save_pretrained(tmp_path / "model")
    moving = dict(beta=0.1, sync_ref_model=True, ref_model_sync_steps=2, ref_model_mixup_alpha=0.5)

    def model():
        return LlamaForCausalLM.from_pretrained(tmp_path / "model")

    whole = goes_on_from_everywhere(grpo(model=model, **moving), tmp_path, 8, cuts=[3, 4])
    assert all(row["kl"] > 0 for row in whole.logs[2:] if "kl" in row)


def test_the_checkpoint_before_the_last_is_kept_until_a_command_has_ended(tmp_path):
    """What is killed after its last step goes on from there: with save_total_limit=1 the run would begin again."""

    def saved():
        return {path.name for path in tmp_path.glob("checkpoint-*")}

    trainer = grpo(save_steps=2, save_total_limit=1)(tmp_path)
    trainer.keeps_one_before_the_last = True
    trainer.train()
    assert saved() == {"checkpoint-6", "checkpoint-8"}
    trainer.rotate(tmp_path)
    assert saved() == {"checkpoint-8"}


def test_checkpoints_are_deleted_only_when_a_newer_one_is_complete(tmp_path, monkeypatch):
    """A kill in between leaves something to resume from, with save_total_limit=1 too."""
    there = []

    def save(trainer, folder):
        there.append([path.name for path in sorted(tmp_path.glob(f"checkpoint-*/{COMPLETE_MARK}"))])

    trainer = grpo(save_steps=2, save_total_limit=1, max_steps=6)(tmp_path)
    monkeypatch.setattr(type(trainer), "_save_beside", save)  # called once a checkpoint is all but marked
    trainer.train()
    assert [len(names) for names in there] == [0, 1, 1]
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-6"}
