"""The audit's trainer on fixed rollouts, and what it finds for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trl import GRPOConfig

from configs.compose import compose_strategy
from credit.strategy import Strategy
from support.exact.exactness import fresh, rich_rollouts
from support.exact.replay import FixedRollouts, replay_trainer
from support.exact.swapped import lengths, letters, prompts
from support.tiny import tiny_model, tiny_tokenizer
from trainers.audit.candidates import LENGTH, Candidate
from trainers.audit.engine import AuditPlan, Engine
from trainers.audit.given.tokens import take_recorded
from trainers.audit.gradients import Gradients, gradients_of
from trainers.audit.parameters import chosen_parameters
from trainers.audit.sketch import sketch_of
from trainers.audit.store import Store
from trainers.audit.trainer import AuditTrainer
from trainers.command.recorded.groups import recorded_in_groups
from trainers.command.recorded.rows import recorded_rows
from trainers.command.recorded.said import said_in


def audit_trainer(
    strategies: Mapping[str, Strategy] | Sequence[Candidate],
    rollouts: FixedRollouts,
    folder: str,
    accumulation: int = 1,
    model=None,
    **options,
) -> AuditTrainer:
    """Every generation batch is `rollouts`."""
    candidates = [Candidate(*pair) for pair in strategies.items()] if isinstance(strategies, Mapping) else strategies

    def made(credit, **keywords):
        return AuditTrainer(candidates=candidates, **keywords)

    model = tiny_model() if model is None else model
    return replay_trainer(model, tiny_tokenizer(), rollouts, None, folder, accumulation, made, **options)


def found_on(trainer: AuditTrainer, extra: Sequence[Candidate] = (), seed: int = 0) -> Gradients:
    """All numbers of the gradients, tensors in order of their names."""
    rows = next(trainer.batches_of_rows())
    chosen = chosen_parameters(trainer.model)
    parameters = [chosen[name] for name in sorted(chosen)]
    sketch = sketch_of([parameter.shape for parameter in parameters], None)
    return gradients_of(trainer, trainer.scored(rows, seed, extra), parameters, sketch, extra)


def sampling_audit(names: Sequence[str], folder: Path, batches: int = 3, **settings: Any) -> Engine:
    """An audit of the tiny model that samples: two reward functions, the pseudo-strategy for length among the candidates."""
    candidates = [Candidate(name, compose_strategy([f"credit={name}"])) for name in names]
    candidates.append(Candidate(LENGTH, compose_strategy(["credit=rloo"]), of_length=True))
    options = dict(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=6,
        gradient_accumulation_steps=2,
        num_generations=3,
        max_completion_length=6,
        loss_type="dr_grpo",
        reward_weights=[1.0, 0.5],
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        seed=3,
    )
    trainer = AuditTrainer(
        model=tiny_model(),
        reward_funcs=[letters, lengths],
        args=GRPOConfig(**(options | settings.pop("options", {}))),
        train_dataset=prompts(count=20),
        processing_class=tiny_tokenizer(),
        candidates=candidates,
    )
    store = Store(folder / "audit", trainer.accelerator.is_main_process)
    store.begin({}, overwrite=False)
    return Engine(
        trainer,
        AuditPlan(batches=batches, **({"share_batches": 2, "warmup": 2} | settings)),
        store,
        ["letters", "lengths"],
    )


def fixed_audit(names: Sequence[str], folder: Path, accumulation: int = 1, **settings: Any) -> Engine:
    """An audit whose batches are all the same given rollouts, on as many ranks as there are."""
    candidates = [Candidate(name, fresh(compose_strategy([f"credit={name}"]))) for name in names]
    candidates.append(Candidate(LENGTH, compose_strategy(["credit=rloo"]), of_length=True))
    options = dict(reward_weights=[1.0, 0.5, -0.3], mask_truncated_completions=True)
    trainer = audit_trainer(candidates, rich_rollouts(1), str(folder / "trainer"), accumulation, **options)
    store = Store(folder / "audit", trainer.accelerator.is_main_process)
    store.begin({}, overwrite=False)
    plan = AuditPlan(**({"batches": 2, "share_batches": 1, "warmup": 2, "sketch": 512} | settings))
    return Engine(trainer, plan, store, ["first", "second", "third"])


def deal_out(engine: Engine, file: Path, seed: int | None = None) -> Engine:
    """The audit takes the completions of a file. seed: of the order of their groups; None: that of the file."""
    args = engine.trainer.args
    pairs = [said_in(place, row) for place, row in recorded_rows(file, "completions", ids_suffice=True)]
    rows, said = [row for _, row in pairs], [one for one, _ in pairs]
    recorded = recorded_in_groups(
        str(file), rows, said, engine.trainer.num_generations, args.generation_batch_size, seed
    )
    take_recorded(engine.trainer, recorded)
    return engine
