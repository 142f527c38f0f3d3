"""What a task is: rows, the rewards that judge them and, if it has them, a vocabulary and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewards.load import GIVEN
from tasks.environments.dialogue import Dialogue

Row = dict[str, Any]
# What a reward function is called with besides the columns; a column of such a name would collide.
RESERVED = (*GIVEN, "self")


@dataclass
class Task:
    """Everything a run needs to know about its data.

    Args:
        name: one word; names the run folder.
        train, evaluation: rows. "prompt" is a string or a list of chat messages; every other column reaches the rewards
            as a keyword argument. No prompt may stand in both, unless there is only one.
        reward_funcs: callables in TRL's form, `f(prompts, completions, **columns) -> list[float | None]`; their
            `__name__`s are the names in the logs and must differ.
        reward_weights: one per reward function.
        vocabulary: every token the task's texts are made of, tags included (they are ordinary tokens). None: any text.
        demonstrations: `(count, seed) -> rows` with the columns "prompt" and "completion", the same rows for the same
            arguments on every machine; what the embedded model is warm-started on. None: there is nothing to imitate.
        max_completion_length: tokens that the longest good completion needs, end of text included, counted in
            `vocabulary`; a suggestion.
        texts: what train_sft.py learns from and what it holds out, rows with "prompt" and "completion" (and "messages", of a
            whole conversation); None: demonstrations. No opening may stand in both.
        unrewarded: why there are no reward functions, and what to do, where that is to be said.
        places: prompt (as `prompt_key`) -> where it stands ("data.jsonl, line 3"), for messages.
        about: lines that say what was made of which column, for `--dry-run`.
        room: tokens that the run puts behind each prompt; the command sets it, for the model's builder to check.
        environment: makes what one rollout plays with: its public methods are tools (tasks/environments/guarded.py). None: none.
        tools: functions that the policy may call, as TRL's `tools`.
        dialogue: how `vocabulary` holds turns and calls, for the embedded model; None: a plain text.

    Raises:
        ValueError: no training rows, weights that do not pair with rewards, rewards of one name, a column
            whose name is taken, or a prompt in both.
    """

    name: str
    train: list[Row] = field(repr=False)
    evaluation: list[Row] = field(repr=False)
    reward_funcs: list[Callable[..., list[float | None]]]
    reward_weights: list[float]
    vocabulary: tuple[str, ...] | None = None
    demonstrations: Callable[[int, int], list[Row]] | None = None
    max_completion_length: int | None = None
    texts: tuple[list[Row], list[Row]] | None = field(default=None, repr=False)
    unrewarded: str = ""
    places: Mapping[str, str] = field(default_factory=dict, repr=False)
    about: tuple[str, ...] = ()
    room: int = 0
    environment: Callable[[], Any] | None = None
    tools: list[Callable[..., Any]] = field(default_factory=list)
    dialogue: Dialogue | None = None

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError(f"task {self.name}: no training rows.")
        for row in (*self.train, *self.evaluation):
            if "prompt" not in row:
                raise ValueError(f'task {self.name}: a row has no "prompt": {row!r:.200}')
            if clash := [name for name in RESERVED if name in row]:
                raise ValueError(
                    f"task {self.name}: rename the column {clash[0]!r}, rewards are called with something else by that name."
                )
        if len(self.reward_funcs) != len(self.reward_weights):
            raise ValueError(
                f"task {self.name}: {len(self.reward_funcs)} reward functions but {len(self.reward_weights)} weights; "
                "give one weight per function."
            )
        names = [getattr(func, "__name__", str(func)) for func in self.reward_funcs]
        if len(set(names)) < len(names):
            raise ValueError(
                f"task {self.name}: reward names must differ, got {names}; set `__name__` on the functions."
            )
        seen = {prompt_key(row["prompt"]) for row in self.train}
        shared = seen & {prompt_key(row["prompt"]) for row in self.evaluation}
        if shared and len(seen) > 1 and self.environment is None:  # an environment shows more than the prompt
            raise ValueError(
                f"task {self.name}: {len(shared)} prompts stand in both train and evaluation, for example "
                f"{sorted(shared)[0]!r:.200}; remove them from one."
            )


def prompt_key(prompt: Any) -> str:
    """A prompt as one comparable string, chat messages included."""
    return prompt if isinstance(prompt, str) else repr([(m["role"], m["content"]) for m in prompt])
