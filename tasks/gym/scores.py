"""reasoning-gym's own scorers as a reward, kept from running what a model writes."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.text.completions import completion_text
from tasks.gym.rows import GymEntry, gym_dataset

_LONGEST = 2000  # characters of an answer that a scorer with an expression parser is asked about
_SYMPY = re.compile(r"\b(sympy|sp)\.(parse_expr|sympify)\(|from sympy\.parsing")
_CALLED = re.compile(r"([A-Za-z_]\w*)\s*\(")
_FUNCTIONS = {
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "exp",
    "log",
    "ln",
    "sqrt",
    "Abs",
    "abs",
    "Integral",
}


class gym_score:
    """What reasoning-gym gives for the answer of each completion, 0 to 1; 0 where a completion has no answer, and where the scorer
    fails on it.

    Some scorers hand the answer to `eval` or to sympy's parser, which evaluates Python. The first read literals only here; the
    second are asked about expressions only: numbers, names, operators and the usual functions.

    Args:
        extract: a completion's text -> its answer, or None (rewards/extract.py).
        settings: those of each task by its name.
        entries: what the column `entry` counts.
        name: the name in the logs.
    """

    def __init__(
        self,
        extract: Callable[[str], str | None],
        settings: Mapping[str, Mapping],
        entries: Sequence[tuple[str, GymEntry]],
        name: str = "answer",
    ):
        self.extract, self.settings, self.entries, self.__name__ = extract, settings, list(entries), name
        self._datasets: dict[str, Any] = {}

    def __getstate__(self):
        return {**self.__dict__, "_datasets": {}}  # some hold functions that cannot be sent to another process

    def __call__(self, completions: Sequence[Any], entry: Sequence[int], **columns: Any) -> list[float]:
        return [self._score(completion_text(one), number) for one, number in zip(completions, entry, strict=True)]

    def _score(self, text: str, number: int) -> float:
        answer = self.extract(text)
        if answer is None:
            return 0.0
        name, entry = self.entries[number]
        dataset = self._dataset(name)
        if _evaluates(dataset) and not is_expression(answer):
            return 0.0
        try:
            return float(dataset.score_answer(answer=answer, entry=entry))
        except (KeyboardInterrupt, TimeoutError):
            raise
        except Exception:  # the scorer cannot read it, so it is not right
            return 0.0

    def _dataset(self, name: str) -> Any:
        if name not in self._datasets:
            self._datasets[name] = gym_dataset(name, self.settings[name])
            _read_literals_only(self._datasets[name])
        return self._datasets[name]


def is_expression(text: str) -> bool:
    """Whether a text is arithmetic and nothing else: no quotes, attributes or calls but of the usual functions."""
    if len(text) > _LONGEST or "__" in text or re.search(r"[^\w\s+\-*/^().,=]|\.\s*[A-Za-z_]", text):
        return False
    return set(_CALLED.findall(text)) <= _FUNCTIONS and text.count("**") + text.count("^") <= 64


def _evaluates(dataset: Any) -> bool:
    return _SYMPY.search(inspect.getsource(sys.modules[type(dataset).__module__])) is not None


def _read_literals_only(dataset: Any) -> None:
    """A module's own name `eval` comes before Python's."""
    scorer = type(dataset).score_answer
    if re.search(r"\beval\(", inspect.getsource(scorer)):
        sys.modules[scorer.__module__].__dict__["eval"] = ast.literal_eval
