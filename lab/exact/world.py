"""The rules of a world small enough to write down every text: what may be said, what the reward is, where the credit belongs.

A world is a set of rules. Its policy is a softmax over `actions` before every token the policy writes
(lab/exact/policies.py); an environment may put in tokens of its own (tool answers, noise), which are masked: no credit and
no gradient.
`deciding` names the tokens on which credit belongs; everywhere else the exact advantage A* is 0 (tested).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

END = "<eos>"
Text = tuple[str, ...]


def _silent(prompt: str, text: Text) -> Mapping[str, float] | None:
    return None


def _untilted(prompt: str, text: Text) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class World:
    """The rules. Functions take the prompt and the text so far (a tuple of tokens).

    Args:
        name, meaning: for tables; one line.
        prompts: names of the prompts. A batch of the lab holds a group of completions for each of them.
        actions: tokens the policy chooses from. If `END` is among them, it ends the policy's writing.
        reward: of a complete text; a number, or a tuple of numbers, one per reward function (their sum is the reward).
        deciding: positions (of a complete text) that may carry credit.
        max_length: tokens, those of the environment included. Texts that reach it end there.
        observations: tokens only the environment writes.
        observe: the environment's next token and its probabilities, None when it is the policy's turn. Asked before
            every token, also after `END`; a text that has ended is complete once the environment is silent.
        min_length: `END` cannot be chosen before that many tokens stand (as `min_new_tokens`).
        tilt: logits added to the initial tabular policy, to make prompts easy or hard. noise: scale of its random part.
        span_rewards: (prompt, text) -> one number per token, summing to the reward; None: no such signal.
        answer: (prompt, text) -> the action that would be right, had the policy to answer, for signals that read its probability
            (credit/signals/answers.py); None: the chance of success stands for it.
        state_key: (prompt, text so far) -> what the policy has been shown when a turn begins; None: the tokens between the turns.
        vanishing: the true gradient is zero, so only bias and noise can be measured, no direction.
    """

    name: str
    meaning: str
    prompts: Text
    actions: Text
    reward: Callable[[str, Text], float | tuple[float, ...]]
    deciding: Callable[[str, Text], set[int]]
    max_length: int
    observations: Text = ()
    observe: Callable[[str, Text], Mapping[str, float] | None] = _silent
    min_length: int = 0
    tilt: Callable[[str, Text], Mapping[str, float]] = _untilted
    noise: float = 0.6
    span_rewards: Callable[[str, Text], list[float]] | None = None
    answer: Callable[[str, Text], str] | None = None
    state_key: Callable[[str, Text], object] | None = None
    vanishing: bool = False

    @property
    def vocabulary(self) -> Text:
        """Token strings by id: the actions first, then what only the environment writes."""
        return self.actions + self.observations

    def allowed(self, text: Text) -> Text:
        """Actions open to the policy after `text`."""
        return tuple(action for action in self.actions if action != END or len(text) >= self.min_length)

    def is_complete(self, text: Text) -> bool:
        """Whether the text is over, the environment being silent."""
        return len(text) >= self.max_length or END in text
