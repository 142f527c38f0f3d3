"""Majority vote: the answer that most of a prompt's completions give (Wang et al. 2022, arXiv 2203.11171).

Which answers are one is asked of the reward function that compares them, so "1/2" and "0.5" are counted together where the
task says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rewards.guard.clock import run_within

_SECONDS = 10.0  # for comparing two answers


def majority(answers: Sequence[str | None], passed: Sequence[bool], same: Callable[[str, str], bool]) -> float:
    """1 where the most common answer passes, 0 where it does not; where several are equally common, the share of them that
    passes. Completions without an answer have no vote; without any answer it is 0.

    Args:
        answers: of the completions of one prompt; None: none was found.
        passed: whether each completion passes.
        same: whether two answers are one.
    """
    groups: list[tuple[str, list[int]]] = []
    for place, answer in enumerate(answers):
        if answer is None:
            continue
        group = next((places for text, places in groups if text == answer), None)
        if group is None:
            group = next((places for text, places in groups if _same(same, answer, text)), None)
        if group is None:
            groups.append((answer, [place]))
        else:
            group.append(place)
    if not groups:
        return 0.0
    most = max(len(places) for _, places in groups)
    votes = [any(passed[place] for place in places) for _, places in groups if len(places) == most]
    return sum(votes) / len(votes)


def _same(same: Callable[[str, str], bool], one: str, other: str) -> bool:
    try:
        return bool(run_within(_SECONDS, lambda: same(one, other)))
    except Exception:  # what cannot be compared is not one
        return False
