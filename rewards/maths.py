"""Mathematical equality: structure by rewards/answers/values.py, expressions by the parser and the grader of math-verify."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from rewards.answers.frame import Accuracy
from rewards.answers.numbers import PERCENT
from rewards.answers.references import reference_text, references_of
from rewards.answers.same import same
from rewards.answers.values import value
from rewards.extract import last_boxed
from rewards.guard.clock import run_within


class math_equal(Accuracy):
    r"""1 where the answer equals a reference as mathematics (`\frac{1}{2}` is 0.5), else 0.

    Without `extract`, the answer is the last box, or else what TRL's `accuracy_reward` reads: a LaTeX expression that is
    announced ("the final answer is $...$"). With it, the extracted text is the answer. Answers and references are read as
    LaTeX or plain text, with or without delimiters; what counts as equal is said in docs/rewards.md. A text that is no
    mathematics (`\text{Evelyn}`) is compared as a text, so every reference can be scored.

    Each text runs under rewards/guard/clock.py, on any thread; one that takes too long is not scored and counts as failed. What
    no clock in this process stops (one enormous power in C) needs guard option `workers`.

    Args:
        extract: rewards/extract.py, such as in_tag; None: see above.
        column: dataset column with the reference, or a list of references of which any will do; TRL's is "solution".
        percent: what "20%" is against a number without the sign: "fraction" (0.2), "number" (20) or "either".
        timeout: seconds one text may take, parsing and comparing.
        name: the name in the logs.

    Range: 0 or 1; an empty text scores 0. Raises:
        ValueError: math-verify is not installed, or a bad option.
    """

    def __init__(
        self,
        extract: Callable[[str], str | None] | None = None,
        *,
        column: str = "answer",
        percent: str = "fraction",
        timeout: float = 10.0,
        name: str = "math_equal",
    ):
        _math_verify()
        if not timeout > 0:
            raise ValueError(f"timeout={timeout} must be positive seconds.")
        if percent not in PERCENT:
            raise ValueError(f"percent={percent!r} is not one of {', '.join(PERCENT)}.")
        super().__init__(extract or stated_answer(), column, name)
        self.timeout, self.percent = timeout, percent

    def score(self, text: str, /, **row: Any) -> float | None:
        if not references_of(row[self.column]):
            return None
        return run_within(self.timeout, lambda: super(math_equal, self).score(text, **row))

    def same(self, answer: str, reference: Any, **row: Any) -> bool:
        return same(value(answer), value(reference_text(reference)), self.percent)


class stated_answer:
    r"""The content of the last box, else the LaTeX that math-verify finds announced; None without either."""

    def __call__(self, text: str) -> str | None:
        if (boxed := last_boxed()(text)) is not None:
            return boxed
        library, announced = _math_verify()
        found = library.parse(text, extraction_config=[announced], extraction_mode="first_match", parsing_timeout=None)
        return next((part for part in reversed(found) if isinstance(part, str) and part.strip()), None)

    def write(self, answer: str) -> str:
        return last_boxed().write(answer)


_loaded: list = []


def _math_verify() -> tuple[Any, Any]:
    if not _loaded:
        try:
            import math_verify
            from latex2sympy2_extended import NormalizationConfig
        except ImportError:
            raise ValueError(
                "math_equal needs math-verify: pip install 'math-verify[antlr4_9_3]' (this antlr is the one Hydra uses)"
            ) from None
        # It warns on every call that its timeouts are off; they are replaced here.
        for name in ("math_verify.parser", "math_verify.grader"):
            logging.getLogger(name).setLevel(logging.ERROR)
        # What it finds is read by rewards/answers/values.py, so it is to change nothing.
        untouched = NormalizationConfig(basic_latex=False, boxed="none")
        announced = math_verify.LatexExtractionConfig(
            normalization_config=untouched, boxed_match_priority=-1, try_extract_without_anchor=False
        )
        _loaded.append((math_verify, announced))
    return _loaded[0]
