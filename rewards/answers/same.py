"""Are two values of mathematical answers (rewards/answers/values.py) one answer?

    same(value("1/2"), value("0.5"))

`same` is symmetric: two values are the same where a teacher would call them one answer, however written; what is decided
in doubt is said in docs/rewards.md. Relations contain values and values relations, so both are compared here.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from rewards.answers.expressions import proportional, same_expression
from rewards.answers.values import Expression, Listed, Measured, Numeral, Ordered, Relation, Words, key, value

# x, x_1, \lambda, f(x), P(x, y), (x, y), AB, \text{Area}
_NAME = re.compile(
    r"(?:\\text\{[^{}]*\}|\\[a-z]+|[A-Za-z]|[A-Z]{2,3})(?:_\{?\w+\}?)?'?(?:\([A-Za-z](?:,[A-Za-z])*\))?|\([A-Za-z](?:,[A-Za-z])+\)"
)
_TURNED = {">": "<", r"\ge": r"\le", "<": ">", r"\le": r"\ge"}


def same(one: object, other: object, percent: str = "fraction") -> bool:
    """Whether two values are one answer. `percent`: as in `rewards.accuracy.numeric_match`."""
    if isinstance(one, Measured) or isinstance(other, Measured):
        units = {side.unit for side in (one, other) if isinstance(side, Measured)}
        amounts = [side.amount if isinstance(side, Measured) else side for side in (one, other)]
        return len(units) == 1 and same(amounts[0], amounts[1], percent)
    if isinstance(one, Relation) or isinstance(other, Relation):
        return _same_relation(one, other, percent)
    if isinstance(one, Words) or isinstance(other, Words):
        return _same_text(one, other)
    if isinstance(one, Listed) and isinstance(other, Listed):
        alike = one.kind == other.kind or ("union" not in (one.kind, other.kind) and len(one.parts) > 1)
        return alike and len(one.parts) == len(other.parts) and _paired(one.parts, other.parts, percent)
    if isinstance(one, Ordered) and isinstance(other, Ordered):
        return (
            (one.opening, one.closing, len(one.parts)) == (other.opening, other.closing, len(other.parts))
            and all(same(a, b, percent) for a, b in zip(one.parts, other.parts, strict=True))
        )  # fmt: skip
    if isinstance(one, Numeral) and isinstance(other, Numeral):
        return _same_number(one, other, percent)
    if isinstance(one, (Numeral, Expression)) and isinstance(other, (Numeral, Expression)):
        return same_expression(one, other)
    return one == other


def _same_number(one: Numeral, other: Numeral, percent: str) -> bool:
    if one.percent != other.percent:
        sign, plain = (one, other) if one.percent else (other, one)
        read = {"fraction": [100], "number": [1]}.get(percent, [100, 1])
        return any(_close(sign.number / by, plain.number, sign.decimal, plain.decimal) for by in read)
    return _close(one.number, other.number, one.decimal, other.decimal)


def _close(a: Fraction, b: Fraction, a_decimal: bool, b_decimal: bool) -> bool:
    """Exactly equal; a decimal is also right to six digits for a number that no decimal can write."""
    if a == b:
        return True
    rounded = (a_decimal and not _terminates(b)) or (b_decimal and not _terminates(a))
    return rounded and abs(a - b) <= max(abs(a), abs(b)) / 10**6


def _terminates(number: Fraction) -> bool:
    below = number.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _same_text(one: object, other: object) -> bool:
    a, b = (side.key if isinstance(side, Words) else key(_written(side)) for side in (one, other))
    label = a.isupper() != b.isupper() and len(a) <= 3  # ABC is a triangle, abc a product
    if isinstance(one, Words) and isinstance(other, Words) and (one.said or other.said) and len(a) > 1 and not label:
        return a.casefold() == b.casefold()
    return a == b and a != ""


def _written(side: object) -> str:
    if isinstance(side, Expression):
        return side.latex
    if isinstance(side, Listed) and side.kind == "list":
        return ",".join(part.key if isinstance(part, Words) else _written(part) for part in side.parts)
    return ""


def _paired(ones: tuple, others: tuple, percent: str) -> bool:
    left = list(others)
    for one in ones:
        match = next((place for place, other in enumerate(left) if same(one, other, percent)), None)
        if match is None:
            return False
        del left[match]
    return True


def _same_relation(one: Any, other: Any, percent: str) -> bool:
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
