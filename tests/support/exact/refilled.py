"""Trainers whose prompts always get the same completions, so that what a refill makes of a batch is known beforehand."""

from __future__ import annotations

from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset
from trl import GRPOConfig

from support.resumed import EVERY_STEP, PROMPTS
from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

# Prompts of the first draw, those the reserve has besides, completions of each, rows of each of two ranks.
CASES = {
    "a group lies on two ranks": (["ab", "bb", "ea"], ["cc", "fa", "ad", "gg", "hh"], 4, 6),
    "one more than is needed is drawn": (["ab", "da", "bb", "bc"], ["cc", "fa", "ad", "gg", "hh"], 3, 6),
}


def lengths(prompts, completions, log_extra=None, log_metric=None, **columns):
    """Nothing to learn from a prompt that begins with a, b or c."""
    if log_extra is not None:
        log_extra("shown", [f"{prompt}>{text}" for prompt, text in zip(prompts, completions, strict=True)])
        log_metric("asked", float(len(prompts)))
    return [
        len(text) / 8 if prompt[0] not in "abc" else 0.25 for prompt, text in zip(prompts, completions, strict=True)
    ]


def written(prompt_ids: list[int], place: int) -> list[int]:
    """What is written to a prompt as number `place` of its group: 2 to 6 tokens, and neighbours differ."""
    token = 3 + (sum(prompt_ids) + place) % 8
    return [token] * (1 + (sum(prompt_ids) * 3 + place) % 5) + [1]


def rehearsed(trainer: CreditGRPOTrainer) -> CreditGRPOTrainer:
    """Its sampling is replaced by `written`, with log-probs as an engine of its own would have them.

    `asked`: prompts of the groups that this rank was asked for."""
    size = trainer.num_generations
    trainer.asked = []

    def generate(prompt_ids, *more):
        first = trainer.accelerator.process_index * len(prompt_ids)
        trainer.asked += [tuple(ids) for ids in prompt_ids][::size]
        completions = [written(ids, (first + i) % size) for i, ids in enumerate(prompt_ids)]
        return completions, [[-(sum(ids) % 5 + place + 1) / 4 for place in range(len(ids))] for ids in completions]

    trainer._generate_single_turn = generate
    return trainer


def made(folder, prompts, refill=0, credit="dr_grpo", model=tiny_model, funcs=lengths, **options) -> CreditGRPOTrainer:
    """`tools` and `rollout_func` go to the trainer, other options to `GRPOConfig`."""
    settings = EVERY_STEP | dict(
        per_device_train_batch_size=16, num_generations=4, max_completion_length=6, max_steps=1
    )
    settings |= dict(save_strategy="no", shuffle_dataset=False)
    more = {name: options.pop(name) for name in ("tools", "rollout_func") if name in options}
    return CreditGRPOTrainer(
        model=model(),
        reward_funcs=funcs,
        args=GRPOConfig(str(folder), **(settings | options)),
        train_dataset=Dataset.from_list(rows_of(prompts)),
        processing_class=tiny_tokenizer(),
        credit=credit,
        refill=refill,
        **more,
    )


def rows_of(prompts: list[str]) -> list[dict[str, Any]]:
    return [{"prompt": prompt, "number": PROMPTS.index(prompt)} for prompt in prompts]


def scored(trainer: CreditGRPOTrainer, prompts: list[str]) -> dict:
    """TRL's batch dict of these prompts in training, of this rank."""
    trainer.model.train()
    rows = [dict(row) for row in rows_of(prompts) for _ in range(trainer.num_generations)]
    each = len(rows) // trainer.accelerator.num_processes
    return trainer._generate_and_score_completions(rows[trainer.accelerator.process_index * each :][:each])


def batch_of(folder, case: str) -> dict[str, Any]:
    """The whole batch that a case comes to, row by row and without padding, on however many ranks this is called."""
    prompts, others, size, each = CASES[case]
    ranks = 2 // _ranks()
    options = dict(num_generations=size, per_device_train_batch_size=each * ranks, num_iterations=2)
    trainer = rehearsed(made(folder, prompts + others, refill=3, **options))
    output, found = scored(trainer, prompts), []
    for row, mask in enumerate(output["completion_mask"].bool()):
        told = {name: output[name][row].tolist() for name in ("credit_rewards_B", "credit_group_B")}
        for name in ("completion_ids", "old_per_token_logps", "credit_weights_BT", "credit_advantages_BT"):
            told[name] = output[name][row][mask].tolist()
        told["prompt"] = output["prompt_ids"][row][output["prompt_mask"][row].bool()].tolist()
        found.append(told)
    metrics = {name: values for name, values in trainer._metrics["train"].items() if "time" not in name}
    logs = {name: list(trainer._logs[name]) for name in ("prompt", "completion", "advantages")}
    logs |= {"rewards": list(trainer._logs["rewards"]["lengths"]), "shown": list(trainer._logs["extra"]["shown"])}
    state = trainer._run_state()["carried"]["reserve"]
    assert gather_object([state]) == [state] * _ranks(), "the ranks disagree about the reserve"
    return {"rows": gather_object(found), "metrics": metrics, "logs": logs, "items": int(output["num_items_in_batch"])}


def _ranks() -> int:
    from accelerate import PartialState

    return PartialState().num_processes
