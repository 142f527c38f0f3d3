"""Conversations of `sample.py`: played as an evaluation plays them, with the log-probability of all that the policy wrote.

The weights towards sequence temperature are those of plain texts (sampling/model.py): prod_t Z_t over the policy's own tokens. What tools
answer has one distribution under both temperatures, and so no weight.

Shapes: T tokens of a conversation, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from trl import GRPOConfig

from configs.compose import ConfigError
from rewards.build import guard_rewards
from rewards.text.turns import turns_of
from sampling.ancestral import TokenTemperature
from tasks.base import Row, Task
from trainers.evaluation.completions import Completion, Judges, passes_by_default
from trainers.evaluation.talks import lines_of_talk
from trainers.evaluation.trainer import EvaluationTrainer, Place
from trainers.run.data_columns import other_columns
from userio.visible import visible


@dataclass(frozen=True)
class Drawn:
    """A conversation with what its tokens say: `tokens`, `wrote` (1: the policy's own), log p, and the weight towards p_alpha."""

    made: Completion
    tokens: list[int]
    wrote: list[int]
    log_p: float
    log_weight: float


def refuse_whole_texts(sampler: Any, name: str, task: Task) -> None:
    """Raises ConfigError where a sampler would take up a text again in its middle."""
    if not isinstance(sampler, TokenTemperature):
        raise ConfigError(
            f"sampler={name} goes back into texts, copies and drops them, and what task {task.name} plays with cannot be taken back. "
            "Conversations are sampled by sampler=token, with the weights towards sequence temperature in `out`."
        )


class SamplingTrainer(EvaluationTrainer):
    """Notes for each place in `drawn`: the token ids, whose is which (1: the policy's), log p and log weight."""

    alpha: float = 1.0

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.drawn: dict[Place, tuple] = {}

    def _generate(self, prompts: list):
        made = super()._generate(prompts)
        model = self.accelerator.unwrap_model(self.model)
        whose = made[2] or [[1] * len(ids) for ids in made[1]]
        for place, prompt_ids, ids, wrote in zip(self.here, made[0], made[1], whose, strict=True):
            self.drawn[place] = (ids, wrote, *log_numbers(model, prompt_ids, ids, wrote, self.alpha))
        return made


@torch.no_grad()
def log_numbers(
    model: Any, prompt_ids: Sequence[int], ids: Sequence[int], wrote: Sequence[int], alpha: float
) -> tuple[float, float]:
    """(log p, sum of log Z_t) over the tokens that the policy wrote, Z_t = sum_v p(v|x_<t)^alpha."""
    if not ids:
        return 0.0, 0.0
    tokens = torch.tensor([[*prompt_ids, *ids]], device=model.device)
    logits_TV = model(input_ids=tokens).logits[0, len(prompt_ids) - 1 : -1].double()
    logps_TV = logits_TV.log_softmax(-1)
    own_T = torch.tensor(wrote, device=model.device, dtype=torch.bool)
    chosen_T = logps_TV.gather(1, tokens[0, len(prompt_ids) :, None])[:, 0]
    return float(chosen_T[own_T].sum()), float((alpha * logps_TV).logsumexp(-1)[own_T].sum())


def conversations(
    model: Any,
    tokenizer: Any,
    task: Task,
    rows: Sequence[Row],
    *,
    samples: int,
    tau: float,
    max_length: int,
    rounds: int | None,
    template: dict[str, Any],
    seed: int,
    folder: str,
) -> list[Drawn]:
    """`samples` conversations of each row at token temperature tau. The task's rewards judge them, if it has any.

    Args:
        rounds: turns at most that call tools; None: as many as `max_length` tokens have room for.
        template: arguments of the chat template. folder: a place that TRL may make its own.
    """
    funcs = guard_rewards(list(task.reward_funcs) or [_nothing], {"max_failed_share": 1.0})
    weights = list(task.reward_weights) or [1.0]
    names = [getattr(func, "__name__", type(func).__name__) for func in funcs]
    places = [(prompt, sample) for prompt in range(len(rows)) for sample in range(samples)]
    batch = min(64, len(places))
    trainer = SamplingTrainer(
        model=model,
        tokenizer=tokenizer,
        args=GRPOConfig(
            output_dir=folder,
            use_cpu=model.device.type == "cpu",
            bf16=False,
            temperature=tau,
            top_k=0,
            max_completion_length=max_length,
            max_tool_calling_iterations=rounds,
            chat_template_kwargs=template,
            num_generations=2,
            num_generations_eval=1,
            per_device_train_batch_size=2 * batch,
            per_device_eval_batch_size=batch,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
        ),
        task=task,
        rows=rows,
        places=places,
        judges=Judges(funcs, weights, names, passes_by_default(funcs, weights, names)),
        seed=seed,
    )
    trainer.alpha = 1 / tau
    trainer.evaluate()
    found = {(one.prompt, one.sample): one for one in trainer.collector.completions}
    return [Drawn(found[place], *trainer.drawn[place]) for place in places]


def record_of(one: Drawn, row: Row, sampler: str, tau: float) -> dict[str, Any]:
    """A line of `out`: that of a plain text, and the conversation with what its turns earned."""
    made = one.made
    return {
        "prompt": row["prompt"],
        "text": made.text,
        "tokens": one.tokens,
        "log_p": one.log_p,
        "log_weight": one.log_weight,
        "sampler": sampler,
        "tau": tau,
        "columns": json.loads(other_columns(row)),
        "wrote": one.wrote,
        "messages": made.messages,
        "reward": made.reward,
        "scores": made.scores,
        "earned": made.earned,
        "ended": made.ended,
        "fault": made.fault,
    }


def show_conversations(found: Sequence[Drawn]) -> None:
    """Each turn by turn, and what they come to."""
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    for one in found:
        first, *others = lines_of_talk(one.made.messages or [], one.made.earned)
        console.print(f"\n[bold]{escape(visible(first))}[/bold]")
        for line in others:
            console.print(f"  {escape(visible(line))}")
        facts = [f"reward {'-' if one.made.reward is None else f'{one.made.reward:.3g}'}", f"log p {one.log_p:.2f}"]
        facts += [] if one.made.ended else ["cut off"]
        facts += [f"the environment went wrong: {one.made.fault[1]}"] if one.made.fault else []
        console.print(f"  [dim]{escape(visible(', '.join(facts)))}[/dim]")
    rewards = [one.made.reward for one in found if one.made.reward is not None]
    turns = sum(len(turns_of(one.made.messages)) for one in found) / len(found)
    mean = f"mean reward {sum(rewards) / len(rewards):.3f}" if rewards else "no rewards"
    faults = sum(one.made.fault is not None for one in found)
    print(
        f"\n{len(found)} conversations, {turns:.1f} turns each, {mean}" + (f", {faults} went wrong" if faults else "")
    )


def _nothing(completions: list, **columns: Any) -> list[None]:
    """The score of a task without rewards."""
    return [None] * len(completions)
