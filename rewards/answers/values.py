r"""What a mathematical answer says: numbers, lists, sets, intervals and tuples, matrices, equations, texts, expressions.

    value("3, 5, 7") == Listed(...)

Readable text always has a value (at worst itself). Which values are one answer: rewards/answers/same.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewards.answers.latex import enclosed, normal_form, split, split_with
from rewards.answers.numbers import read_number


@dataclass(frozen=True)
class Words:
    """Words, or what is compared letter by letter. `said`: it was marked as text."""

    key: str
    said: bool = False


@dataclass(frozen=True)
class Numeral:
    """A number. `decimal`: written with a decimal point, so it may be rounded."""

    number: Fraction
    decimal: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Based:
    """A number in another base, as written."""

    digits: str
    base: str


@dataclass(frozen=True)
class Measured:
    """Something with a unit."""

    amount: object
    unit: str


@dataclass(frozen=True)
class Listed:
    """Values in any order; `kind` list, set or union."""

    kind: str
    parts: tuple


@dataclass(frozen=True)
class Ordered:
    """Values in order: a tuple or an interval (by its brackets), or the rows of a matrix."""

    opening: str
    parts: tuple
    closing: str


@dataclass(frozen=True)
class Relation:
    """Sides with =, <, \\le, \\in ... between them."""

    signs: tuple[str, ...]
    sides: tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    """Anything else, as LaTeX."""

    latex: str


@lru_cache(maxsize=4096)
def value(text: str) -> object:
    """The value of an answer or a reference."""
    return _value(normal_form(text)) if len(text) <= _LONGEST else Words(key(text), said=True)


def _value(text: str) -> object:
    text = _SPELT_OUT.get(text.strip(), text.strip())
    if (words := _TEXT.fullmatch(text)) is not None:
        inside = words[1].strip()
        return (
            _value(inside)
            if re.match(r"[-+]?\.?[0-9]", inside) and read_number(inside)
            else Words(key(inside), said=True)
        )
    if _is_prose(text) or _RATIO.fullmatch(text):
        return Words(key(text), said=bool(re.search("[A-Za-z]{2}", text)))
    text = _grouped(text)
    if len(parts := [part for part in split(text, _COMMA) if part]) > 1:
        return _listed("list", parts)
    if _PLUS_MINUS.search(text):
        return _listed("list", [_with_signs(text, "+", "-"), _with_signs(text, "-", "+")])
    sides, signs = split_with(text, _SIGN)
    if signs and all(sides):
        return Relation(tuple(_SIGNS.get(sign, sign) for sign in signs), tuple(sides))
    if len(parts := split(text, _CUP)) > 1 and all(parts):
        return _listed("union", parts)
    if (matrix := _MATRIX.fullmatch(text)) is not None:
        rows = [row for row in split(matrix[1], _ROW) if row]
        return Ordered(
            "matrix", tuple(Ordered("row", tuple(map(_value, split(row, _AMPERSAND))), "") for row in rows), ""
        )
    if (found := enclosed(text)) is not None:
        opening, inside, closing = found
        parts = split(inside, _COMMA_ONLY)
        if (opening, closing) == (r"\{", r"\}") and "|" not in inside and ":" not in inside:
            return _listed("set", [part for part in parts if part])
        if len(parts) > 1 and all(parts) and opening != r"\{":
            return Ordered(opening, tuple(map(_value, parts)), closing)
        if (opening, closing) == ("(", ")") and inside:
            return _value(inside)
    return _single(text)


def _single(text: str) -> object:
    number = read_number(text)
    if number is not None and not number.unit:
        return Numeral(number.value, "." in text, number.percent)
    if (found := _REPEATING.fullmatch(text)) is not None:
        return Numeral(_repeating(found))
    if (found := _BASED.fullmatch(text)) is not None:
        return Based(found[1].upper(), found[2])
    if (found := _UNIT.fullmatch(text)) is not None and found[1].strip():
        return Measured(_value(found[1]), _unit(found[2] + (found[3] or "")))
    if number is not None and number.unit:
        return Measured(Numeral(number.value, "." in text), _unit(number.unit))
    return Expression(text)


def key(text: str) -> str:
    r"""For comparing letter by letter: without spaces, `\text`, and the brackets and the point of a lone letter."""
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\s+", "", text).strip(".").replace("{}", "")
    return text[1:-1] if re.fullmatch(r"\([A-Za-z]\)", text) else text


def _listed(kind: str, parts: list[str]) -> object:
    values: list = []
    for part in map(_value, parts):
        values += part.parts if isinstance(part, Listed) and part.kind == "list" else [part]
    return Listed(kind, tuple(values))


def _with_signs(text: str, plus: str, minus: str) -> str:
    return re.sub(r"\\mp(?![A-Za-z])\s*", minus, re.sub(r"\\pm(?![A-Za-z])\s*", plus, text))


def _is_prose(text: str) -> bool:
    bare = re.sub(r"\\text\s*\{[^{}]*\}", "word", text)
    if re.search(r"[\\^_=<>+*/{}|0-9]", bare):
        return False
    words = re.findall(r"[A-Za-z]+", bare)
    words = [word for word in words if word not in ("and", "or")]
    return any(len(word) > 2 for word in words) or bool(re.fullmatch(r"[A-Z]{2,}", bare)) or bare.count("word") > 1


def _grouped(text: str) -> str:
    """Thousands joined, outside of brackets: 10,080 is one number, (1,234) two."""
    if "," not in text:
        return text
    pieces, commas = split_with(text, _THOUSANDS)
    return (
        "".join(piece + mark.replace(",", "") for piece, mark in zip(pieces, [*commas, ""], strict=True))
        if commas
        else text
    )


def _repeating(found: re.Match) -> Fraction:
    sign, whole, fixed, repeated = found.groups()
    number = Fraction(int(whole or "0")) + Fraction(int(fixed or "0"), 10 ** len(fixed))
    number += Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(fixed))
    return -number if sign else number


def _unit(text: str) -> str:
    words = re.sub(r"[^a-z0-9/^² ]", " ", re.sub(r"\\text|[{}]", " ", text.lower())).split()
    words = [_UNITS.get(word, word[:-1] if len(word) > 3 and word.endswith("s") else word) for word in words]
    words = [_UNITS.get(word, word) for word in words]
    joined = " ".join(words)
    for power, name in (("^2", "square"), ("^3", "cubic")):
        if joined.startswith(name + " "):
            joined = joined[len(name) + 1 :] + power
    return joined.replace(" ^", "^")


_UNITS = {
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "kilometer": "km", "kilometre": "km", "meter": "m",
    "metre": "m", "feet": "ft", "foot": "ft", "inches": "in", "inch": "in", "yard": "yd", "mile": "mi", "hr": "hour",
    "h": "hour", "minute": "min", "second": "sec", "s": "sec", "gram": "g", "kilogram": "kg", "pound": "lb", "lbs": "lb",
    "sq": "square", "cu": "cubic", "degree": "", "degrees": "", "dollar": "", "dollars": "", "percent": "%",
    "units": "unit", "cents": "cent", "liter": "l", "litre": "l",
}  # fmt: skip
_SPELT_OUT = {r"\mathbb{R}": r"(-\infty,\infty)", r"\{\}": r"\emptyset", r"\{ \}": r"\emptyset"}
_LONGEST = 2000  # characters; longer texts are compared letter by letter
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_COMMA = re.compile(r"\s*[,;]\s*(?:and\b|or\b)?\s*|\s+(?:and|or)\s+")
_COMMA_ONLY = re.compile(r"\s*[,;]\s*")
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_SIGN = re.compile(r"=|<|>|\\(?:le|ge|ne|in|approx|equiv|subset)(?![A-Za-z])")
_SIGNS = {r"\approx": "="}
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")  # not \pmod, which also begins so
_CUP = re.compile(r"\\cup(?![A-Za-z])")
_ROW, _AMPERSAND = re.compile(r"\\\\(?:\[[^\]]*\])?"), re.compile("&")
_MATRIX = re.compile(r"\\begin\{[pbB]?(?:small)?matrix\}(.*)\\end\{[pbB]?(?:small)?matrix\}", re.DOTALL)
_RATIO = re.compile(r"[0-9.]+(?:\s*:\s*[0-9.]+)+(?:\s*(?:\\text\s*\{)?\s*[AaPp]\.?\s*[Mm]\.?\s*\}?)?")
_REPEATING = re.compile(r"(-?)\s*([0-9]*)\.([0-9]*)\s*\\(?:overline|bar|dot)\s*\{?\s*([0-9]+)\s*\}?")
_BASED = re.compile(
    r"([0-9A-Fa-f]+)\s*_\s*\{?\s*(?:\\text\s*\{)?\s*([0-9]{1,2}|two|three|four|five|six|seven|eight|nine)\s*\}*"
)
_UNIT = re.compile(r"(.*?)\s*\\text\s*\{([^{}]*)\}\s*(\^\{?[0-9]\}?)?", re.DOTALL)
