"""An audit of a language model whose every text can be written down says what enumeration knows, and so does the update's own audit
while the model trains."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "audit"))
from forbidden_end import exact_biases
from letters import LENGTH, ROWS, exact_numbers, learner_of, paid, write_model

from configs.compose import named_strategy
from lab.audit.estimates import Audit, audit_of
from lab.measure.scoring import Scorer
from trainers.audit.candidates import LENGTH as PUSH
from trainers.audit.candidates import Candidate
from trainers.audit.engine import AuditPlan, Engine
from trainers.audit.store import Store
from trainers.audit.trainer import AuditTrainer
from trainers.command.rows import as_dataset
from trainers.grpo import CreditGRPOTrainer
from trainers.run.tell.online_audit import OnlineAudit

NAMES = ("seq_norm", "spans")  # of whole rows and biased; different at every token
COPIES, GENERATIONS, BATCHES, STEPS = 8, 4, 16, 60


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("letters"), copies=COPIES)


@pytest.fixture(scope="module")
def exact(place) -> dict[str, dict[str, float]]:
    """Of a batch of `COPIES` groups for each prompt: as much signal as one of a group each, and so much less noise."""
    learner = learner_of(place)
    found = {}
    for name in NAMES:
        numbers = exact_numbers(Scorer(named_strategy(name), learner), GENERATIONS)
        assert numbers is not None
        found[name] = numbers | {"nsr": numbers["nsr"] / COPIES}
    return found


@pytest.fixture(scope="module")
def audit(place) -> Audit:
    return audited(place, NAMES)


def settings(place: Path, folder: Path, **more: Any) -> dict[str, Any]:
    rows = [json.loads(line) for line in (place / ROWS).read_text().splitlines()]
    options = dict(
        output_dir=str(folder), per_device_train_batch_size=len(rows) * GENERATIONS, num_generations=GENERATIONS,
        gradient_accumulation_steps=1, max_completion_length=LENGTH, loss_type="dr_grpo", report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    return dict(
        model=AutoModelForCausalLM.from_pretrained(place),
        processing_class=AutoTokenizer.from_pretrained(place, padding_side="left"),
        reward_funcs=[paid],
        train_dataset=as_dataset(rows),
        args=GRPOConfig(**(options | more)),
    )


def audited(place: Path, names: Sequence[str]) -> Audit:
    reference = named_strategy("rloo")
    candidates = [Candidate("rloo", reference), *(Candidate(name, named_strategy(name)) for name in names)]
    folder = place.parent / "audit"
    trainer = AuditTrainer(
        candidates=[*candidates, Candidate(PUSH, reference, of_length=True)], **settings(place, folder)
    )
    store = Store(folder, True)
    store.begin({}, overwrite=True)
    plan = AuditPlan(batches=BATCHES, share_batches=0, sketch=None)
    return audit_of(Engine(trainer, plan, store, ["paid"]).collect())


def test_every_interval_of_a_whole_audit_holds_what_enumeration_knows(audit, exact):
    for name, known in exact.items():
        for metric in ("nsr", "norm", "cosine", "relative_bias", "length_push"):
            found = audit.strategies[name][metric]
            slack = 1e-3 if metric in ("cosine", "relative_bias") else 1e-6
            assert found.low - slack <= known[metric] <= found.high + slack, (name, metric, found, known[metric])
        norm = audit.strategies[name]["norm"]
        assert norm.high / 2 < known["norm"] < 2 * norm.low  # so that a factor of 2 would be seen


@pytest.mark.slow
def test_what_training_logs_of_itself_is_what_enumeration_and_the_audit_say(tmp_path):
    """Steps of length 0. A mean of sixty is within four of its standard errors of the truth but once in 10,000 times. Of one prompt,
    because halves of a batch take its prompts for drawn."""
    place = write_model(tmp_path / "model", prompts=1, copies=COPIES)
    exact = exact_numbers(Scorer(named_strategy("spans"), learner_of(place, prompts=1)), GENERATIONS)
    assert exact is not None
    trainer = CreditGRPOTrainer(credit="spans", **settings(place, tmp_path, learning_rate=0.0, max_steps=STEPS))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(OnlineAudit(every=1, window=STEPS))
    trainer.train()
    logged = [row for row in trainer.state.log_history if "audit/signal" in row]
    assert len(logged) == STEPS
    signal = exact["norm"] ** 2
    for what, truth in (("signal", signal), ("noise", signal * exact["nsr"] / COPIES)):
        values = torch.tensor([row[f"audit/{what}"] for row in logged], dtype=torch.float64)
        error = float(values.std()) / STEPS**0.5
        assert abs(float(values.mean()) - truth) < 4 * error < 0.9 * truth, (what, values.mean(), truth, error)
    offline = audited(place, ["spans"]).strategies["spans"]["nsr"]
    assert offline.low <= logged[-1]["audit/nsr"] <= offline.high


def test_forbidding_the_end_biases_what_does_not_average_to_zero_unless_log_probs_know_it():
    rows = exact_biases()
    assert all(row["bias_if_known"] == 0 for row in rows)
    bias = {(row["forbidden"], row["baseline"]): row["bias"] for row in rows}
    for tokens in (2, 3):
        assert bias[tokens, "no critic"] is None and bias[tokens, "the right V(s)"] == 0  # None: backwards
        assert bias[0, "leave one out"] == 0 < 0.01 < bias[tokens, "leave one out"]
