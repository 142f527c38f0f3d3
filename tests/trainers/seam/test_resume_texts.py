"""Likelihood training and LHTS go on from every checkpoint, in every epoch, as the run that was not stopped."""

from __future__ import annotations

import pytest
from datasets import Dataset

from credit import weight
from support.resumed import PROMPTS, goes_on_from_everywhere, live, sft
from trainers.lhts import LHTS, LHTSTrainer

HELD_OUT = Dataset.from_list([{"prompt": p, "completion": p + "<eos>"} for p in PROMPTS[20:28]])
CASES = {
    "a batch of one micro-batch": dict(weight="seq_mean"),
    "of two, rows of metrics over three steps": dict(weight="seq_sum", gradient_accumulation_steps=2, logging_steps=3),
    "packed": dict(packing=True, per_device_train_batch_size=1, max_length=16, weight=weight.token_mean),
    "grouped by length": dict(train_sampling_strategy="group_by_length", data="long"),
    "a sampler without a seed of its own": dict(accelerator_config={"use_seedable_sampler": False}),
    "a table smaller than a batch": dict(per_device_train_batch_size=16, max_steps=4),
    "evaluated in between": dict(eval_dataset=HELD_OUT, eval_strategy="steps", eval_steps=3),
}


@pytest.mark.parametrize("case", CASES)
def test_likelihood_training_goes_on_in_the_order_it_had(case, tmp_path):
    options = dict(CASES[case])
    if options.get("data") == "long":
        options["data"] = [{"prompt": p, "completion": p * (1 + i % 7) + "<eos>"} for i, p in enumerate(PROMPTS[:8])]
    whole = goes_on_from_everywhere(sft(**options), tmp_path, options.get("max_steps", 8))
    assert len({str(rows) for rows in whole.prompts.values()}) > (1 if "smaller" in case else 4)
    assert whole.logs[0]["num_tokens"] > 0


@pytest.mark.parametrize("tau", [0.6, (0.5, 1.0)])
def test_lhts_goes_on_with_baseline_draws_and_temperatures(tau, tmp_path):
    lhts = LHTS(tau=tau, horizon=2, max_new_tokens=6, self_samples=0.5)
    goes_on_from_everywhere(sft(LHTSTrainer, lhts=lhts), tmp_path, 8, cuts=[1, 4, 6])


def test_evaluation_takes_no_temperature_from_the_next_step(tmp_path):
    """A model for a range of tau draws one for each row; before, an evaluation between two steps moved the stream of the second."""
    options = dict(lhts=LHTS(tau=(0.5, 1.0), horizon=2, max_new_tokens=6), eval_dataset=HELD_OUT, eval_strategy="steps")
    often = live(sft(LHTSTrainer, **options, eval_steps=1)(tmp_path / "often"))
    never = live(sft(LHTSTrainer, **options, eval_steps=100)(tmp_path / "never"))
    losses = [[row["loss"] for row in life.logs if "loss" in row] for life in (often, never)]
    assert losses[0] == losses[1] and len(losses[0]) == 8
    goes_on_from_everywhere(sft(LHTSTrainer, **options, eval_steps=1), tmp_path / "again", 8, cuts=[3])


def test_a_weight_with_a_state_goes_on_with_it_and_never_sees_evaluation(tmp_path):
    class Warming:
        """Long texts weigh less in the first batches."""

        def __init__(self):
            self.batches = 0

        def __call__(self, mask_BT, lengths_B):
            self.batches += 1
            return mask_BT / (lengths_B.sum() + lengths_B / self.batches)[:, None]

        def state_dict(self):
            return {"batches": self.batches}

        def load_state_dict(self, state):
            self.batches = state["batches"]

    made = []

    def make(folder):
        made.append(Warming())
        return sft(weight=made[-1], eval_dataset=HELD_OUT, eval_strategy="steps", eval_steps=2)(folder)

    goes_on_from_everywhere(make, tmp_path, 8, cuts=[3, 4, 5])
    assert [weight.batches for weight in made] == [8] * 4
