"""Equations and inequalities: when two of them, or one and a bare value, are one answer."""

from __future__ import annotations

import re
from typing import Any

from rewards.answers.expressions import proportional
from rewards.answers.values import Ordered, Relation, key, same, value

# x, x_1, \lambda, f(x), P(x, y), (x, y), AB, \text{Area}
_NAME = re.compile(
    r"(?:\\text\{[^{}]*\}|\\[a-z]+|[A-Za-z]|[A-Z]{2,3})(?:_\{?\w+\}?)?'?(?:\([A-Za-z](?:,[A-Za-z])*\))?|\([A-Za-z](?:,[A-Za-z])+\)"
)
_TURNED = {">": "<", r"\ge": r"\le", "<": ">", r"\le": r"\ge"}


def same_relation(one: Any, other: Any, percent: str) -> bool:
    """Whether two values, one of them a `Relation`, are one answer: equal or equivalent relations, and x = 5 against 5,
    x > 3 against (3, infinity)."""
    if isinstance(one, Relation) and isinstance(other, Relation):
        a, b = _solved(one), _solved(other)
        if a is not None and b is not None and a[0] == b[0]:
            return same(a[1], b[1], percent)
        return _equivalent(one, other, percent)
    relation, plain = (one, other) if isinstance(one, Relation) else (other, one)
    solved = _solved(relation)
    return solved is not None and same(solved[1], plain, percent)


def _solved(relation: Relation) -> tuple[str, Any] | None:
    """(name, value) of a relation that says what something with a name is: "x = 5", "x \\in [2, 5)", "2 <= x < 5"."""
    signs, sides = relation.signs, relation.sides
    names = [key(side) if _NAME.fullmatch(key(side)) else None for side in sides]
    if set(signs) <= {"=", r"\equiv"} or signs == (r"\in",):
        return (names[0], value(sides[-1])) if names[0] is not None else None
    if set(signs) <= {">", r"\ge"}:
        signs, sides, names = tuple(_TURNED[sign] for sign in signs[::-1]), sides[::-1], names[::-1]
    if not set(signs) <= {"<", r"\le"} or len(sides) > 3:
        return None
    if len(sides) == 3 and names[1] is not None:
        return names[1], _interval(signs[0], value(sides[0]), value(sides[2]), signs[1])
    if len(sides) == 2 and names[0] is not None:
        return names[0], _interval("<", value(r"-\infty"), value(sides[1]), signs[0])
    if len(sides) == 2 and names[1] is not None:
        return names[1], _interval(signs[0], value(sides[0]), value(r"\infty"), "<")
    return None


def _interval(left: str, low: Any, high: Any, right: str) -> Ordered:
    return Ordered("(" if left == "<" else "[", (low, high), ")" if right == "<" else "]")


def _equivalent(one: Relation, other: Relation, percent: str) -> bool:
    """Side by side the same (read from either end), or with differences of sides that are multiples of each other."""
    if len(one.sides) != len(other.sides):
        return False
    for turned in (False, True):
        signs, sides = other.signs, other.sides
        if turned:
            signs, sides = tuple(_TURNED.get(sign, sign) for sign in signs[::-1]), sides[::-1]
            if any(sign == r"\in" for sign in signs):
                continue
        if one.signs != signs:
            continue
        if all(same(value(a), value(b), percent) for a, b in zip(one.sides, sides, strict=True)):
            return True
        if len(sides) == 2 and signs != (r"\in",):
            factor = proportional(_difference(one.sides), _difference(sides))
            if factor is not None and (factor > 0 or signs[0] in ("=", r"\ne", r"\equiv")):
                return True
    return False


def _difference(sides: tuple[str, ...]) -> str:
    return f"({sides[0]}) - ({sides[1]})"
