"""Mathematical equivalence, by math-verify."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from rewards.base import TextReward
from rewards.clock import run_within


class math_equal(TextReward):
    r"""1 where the answer equals a reference as mathematics (`\frac{1}{2}` is 0.5), else 0.

    Without `extract`, the answer is what TRL's `accuracy_reward` reads: a LaTeX expression that is boxed or announced
    ("the final answer is $...$"). With it, the extracted text is the answer, in any notation math-verify knows ("1/2").
    A reference that math-verify cannot parse cannot be scored (None).

    math-verify's own timeouts use SIGALRM and fail off the main thread. They are switched off, and each text runs
    under rewards/clock.py instead, on any thread; a text that takes too long is not scored and counts as failed. What
    no clock in this process stops (one enormous power in C) needs guard option `workers`.

    Args:
        extract: rewards/extract.py, such as in_tag; None: see above.
        column: dataset column with the reference, or a list of references of which any will do; TRL's is "solution".
        timeout: seconds one text may take, parsing and comparing.
        name: the name in the logs.

    Range: 0 or 1; an empty text scores 0. Raises:
        ValueError: math-verify is not installed, or a bad timeout.
    """

    def __init__(
        self,
        extract: Callable[[str], str | None] | None = None,
        *,
        column: str = "answer",
        timeout: float = 10.0,
        name: str = "math_equal",
    ):
        _math_verify()
        if not timeout > 0:
            raise ValueError(f"timeout={timeout} must be positive seconds.")
        self.extract, self.column, self.columns = extract, column, (column,)
        self.timeout, self.__name__ = timeout, name

    def score(self, text: str, **row: Any) -> float | None:
        references = row[self.column]
        if not isinstance(references, (list, tuple)):
            references = [references]
        references = [reference for reference in references if reference is not None]
        return run_within(self.timeout, lambda: _score(text, references, self.extract))


def _score(text: str, references: list, extract: Callable[[str], str | None] | None) -> float | None:
    library, tex_only = _math_verify()
    golds = [library.parse(str(reference), parsing_timeout=None) for reference in references]
    golds = [gold for gold in golds if gold]
    if not golds:
        return None
    if extract is not None:
        answer = library.parse(extract(text) or "", parsing_timeout=None)
    else:
        answer = library.parse(text, extraction_config=[tex_only], extraction_mode="first_match", parsing_timeout=None)
    return float(any(library.verify(gold, answer, timeout_seconds=None) for gold in golds))


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
        extraction = math_verify.LatexExtractionConfig(
            normalization_config=NormalizationConfig(units=True),
            boxed_match_priority=0,
            try_extract_without_anchor=False,
        )
        _loaded.append((math_verify, extraction))
    return _loaded[0]
