"""Feeds a `Recorder` from a running trainer: watches the loss, keeps the rows of some groups, writes them at step end.

trainer.add_callback(CreditRecords("my_run"))        # then: python -m compare.view my_run
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from transformers import TrainerCallback

from trainers.run.data_columns import other_columns, prompt_messages
from trainers.run.files import RECORDS
from trainers.run.records import Recorder, drop_after
from trainers.seam.by_turn import rewards_by_turn, says_turns
from trainers.seam.ends import ends_of
from trainers.seam.environments import faults_of
from trainers.seam.visit import GROUP_B, REWARDS_BK, ROW_B, Scoring, Visit

# column of the record -> signal of the strategy (credit/batch.py)
_FROM_SIGNALS = {
    "policy_logps": "policy_logps_BT",
    "sampler_logps": "sampler_logps_BT",
    "entropies": "entropies_BT",
    "values": "values_BT",
    "span_rewards": "span_rewards_BT",
    "kl_rewards": "kl_rewards_BT",
}
_FORWARD = ("policy_logps", "sampler_logps", "entropies", "values", "ref_logps")  # null where TRL hid the row from it


class CreditRecords(TrainerCallback):
    """Records what the loss really used, on all ranks, without touching a random state.

    One generation batch may feed several optimiser steps and be used several times (`num_iterations`); a record holds
    its rows as the first pass saw them, under the number of the last optimiser step of that pass.

    Args:
        recorder: a folder, below which `records/` is written as a run has it, for `python -m compare.view FOLDER`; or a
            `Recorder` with settings of its own. It writes on the main process; every rank needs the same.
        reward_names: one for each reward function, in TRL's order; None: TRL's own.

    Raises:
        ValueError: added to a trainer without credit, when training begins.
    """

    def __init__(self, recorder: Recorder | str | Path, reward_names: list[str] | None = None):
        self._recorder = recorder if isinstance(recorder, Recorder) else Recorder(Path(recorder) / RECORDS)
        self._reward_names = reward_names
        self._trainer: Any = None
        self._rows: list[dict[str, Any]] = []
        self._tokens = 0
        self._groups: set[int] | None = None
        self._facts: dict[int, dict[str, Any]] = {}  # of the rows to come, by their place in the generation batch

    def attached(self, trainer: Any) -> None:
        """Called by the `CreditGRPOTrainer` that it is added to."""
        self._trainer = trainer
        self._reward_names = self._reward_names or list(trainer.reward_func_names)
        trainer.scoring_observers.append(self.note)
        trainer.credit_observers.append(self.observe)
        trainer.carried["records"] = self._recorder

    def on_train_begin(self, args, state, control, **kwargs):
        if self._trainer is None or self._trainer.credit is None:
            raise ValueError("CreditRecords needs a CreditGRPOTrainer with a credit strategy, whose credit it records.")
        if state.global_step == 0:
            self._recorder.start()
        if state.is_world_process_zero:
            drop_after(self._recorder.folder, state.global_step)

    def note(self, trainer: Any, scoring: Scoring) -> None:
        """One generation batch: keeps what TRL's batch dict does not carry to the loss."""
        if not trainer.model.training:
            return
        self._facts = {}
        if not self._is_wanted(trainer.state.global_step + 1):
            return
        groups = self._chosen(trainer)
        first = trainer.accelerator.process_index * len(scoring.rows)
        earned, faults = _earned_by_turn(trainer, scoring), faults_of(trainer)
        shown = zip(scoring.rows, scoring.prompts, scoring.completion_ids, strict=True)
        for at, (row, prompt, token_ids) in enumerate(shown, first):
            if at // trainer.num_generations in groups:
                # An environment may have added to the prompt.
                facts = {"messages": prompt_messages({**row, "prompt": prompt}), "columns": other_columns(row)}
                of_turns = {name: values[at - first][: len(token_ids)] for name, values in earned.items()}
                of_turns |= {"fault": _shortened(faults[at - first])} if faults else {}
                self._facts[at] = facts | {"length": len(token_ids), "turns": of_turns}

    def observe(self, trainer: Any, visit: Visit) -> None:
        """One micro-batch, called from within the loss."""
        if not trainer.model.training or not self._is_wanted(trainer.state.global_step + 1):
            return
        self._tokens += int(visit.mask_BT.sum())
        groups = self._groups = self._groups or self._chosen(trainer)
        group_B = visit.inputs[GROUP_B].tolist()
        for b in (b for b, group in enumerate(group_B) if group in groups):
            self._rows.append(self._row(trainer, visit, b) | {"group": group_B[b]})

    def _chosen(self, trainer: Any) -> set[int]:
        """The groups to keep of the generation batch whose first step comes next."""
        rows = trainer.num_generations
        groups = trainer.args.generation_batch_size // rows
        return set(self._recorder.choose_groups(trainer.state.global_step + 1, groups, rows))

    def on_step_end(self, args: Any, state, control, **kwargs):
        first, last, final = self._window(state.global_step)
        if state.global_step != last or not self._recorder.due(first, last, final):
            return
        rows, tokens = self._rows, [self._tokens]
        if self._trainer.accelerator.num_processes > 1:
            rows, tokens = gather_object(rows), gather_object(tokens)
        self._rows, self._tokens, self._groups = [], 0, None
        if state.is_world_process_zero and rows:
            rows.sort(key=lambda row: row["group"])
            shared = {"batch_rows": args.generation_batch_size, "batch_tokens": sum(tokens)}
            rows = [row | shared for row in rows]
            self._recorder.record(last, {name: [row[name] for row in rows] for name in rows[0]})
        if self._trainer.accelerator.num_processes > 1:
            self._recorder.every = broadcast_object_list([self._recorder.every])[
                0
            ]  # it doubles where files are written

    def _is_wanted(self, step: int) -> bool:
        first, last, final = self._window(step)
        return step <= last and self._recorder.due(first, last, final)

    def _window(self, step: int) -> tuple[int, int, int]:
        """(first, last) optimiser step of the first pass over the generation batch of `step`, and the run's last."""
        args = self._trainer.args
        steps = max(1, args.steps_per_generation // args.gradient_accumulation_steps)
        first = (step - 1) // (steps * args.num_iterations) * steps * args.num_iterations + 1
        final = self._trainer.state.max_steps
        return first, min(first + steps - 1, final), final

    def _row(self, trainer: Any, visit: Visit, b: int) -> dict[str, Any]:
        inputs, signals = visit.inputs, visit.signals
        facts = self._facts.get(int(inputs[ROW_B][b]), {})
        seen = int(inputs["completion_mask"][b].sum())  # tool text is kept, padding is not
        length = facts.get("length", seen)  # TRL may hide a truncated row whole
        tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
        prompt_ids = inputs["prompt_ids"][b][inputs["prompt_mask"][b].bool()].tolist()
        token_ids = inputs["completion_ids"][b, :length].tolist()

        def tokens_of(values_BT: Tensor) -> list[float]:
            return values_BT[b, :length].detach().float().tolist()

        row = {
            "prompt": tokenizer.decode(prompt_ids),
            "messages": facts.get("messages"),
            "columns": facts.get("columns"),
            "token_ids": token_ids,
            "tokens": token_texts(tokenizer, token_ids),
            "truncated": bool(token_ids) and token_ids[-1] not in ends_of(trainer),
            "learns": visit.mask_BT[b, :length].tolist(),
            "credit": tokens_of(visit.advantages_BT),
            "weight": tokens_of(visit.weights_BT),
            "reward": _number(signals["rewards_B"][b]),
            "advantage": _number(signals["advantages_B"][b]),
            "max_length": int(signals["max_length"]),
            "strategy": trainer.credit.name,
            "reward_weights": trainer.reward_weights.tolist(),
        }
        row |= facts.get("turns", {})
        row |= {name: tokens_of(signals[key]) for name, key in _FROM_SIGNALS.items() if key in signals}
        if "ref_per_token_logps" in inputs:
            row["ref_logps"] = tokens_of(inputs["ref_per_token_logps"])
        if length and not seen:
            row |= {name: None for name in _FORWARD if name in row}
        rewards_K = inputs[REWARDS_BK][b].tolist()
        return row | {f"reward/{name}": value for name, value in zip(self._reward_names, rewards_K, strict=True)}


def _earned_by_turn(trainer: Any, scoring: Scoring) -> dict[str, list[list[float]]]:
    """What this rank's rows earned token by token and turn by turn, where a reward function says it."""
    if scoring.mask_BT is None or not says_turns(trainer):
        return {}
    earned_BT, by_turn_BT = rewards_by_turn(trainer, scoring)
    return {"span_rewards": earned_BT.tolist(), "turn_rewards": by_turn_BT.tolist()}


def token_texts(tokenizer: Any, token_ids: list[int]) -> list[str]:
    """The text each token adds. Decoded with the token before it, so that tokenizers which strip a leading space at
    the start of a text do not strip all of them; half a multi-byte character shows as U+FFFD."""
    texts, before = [], None
    for token in token_ids:
        alone = tokenizer.decode([token])
        if before is not None:
            left, both = tokenizer.decode([before]), tokenizer.decode([before, token])
            alone = both[len(left) :] if both.startswith(left) else alone
        texts.append(alone)
        before = token
    return texts


def _shortened(text: str | None, most: int = 300) -> str | None:
    return text if text is None or len(text) <= most else f"{text[: most - 1]}\u2026"


def _number(value: Tensor) -> float | None:
    return None if torch.isnan(value) else float(value)
