r"""Texts as numbers, exactly: "1,234.5", "-3e2", "50%", "3/4", "2 1/2", "6.02 × 10^23", "\frac{3}{4}", "$5", "9 cm".

A comma counts only between groups of three digits, so "1,5" and "1,2,3" are no numbers; nor are "1_000", "0x10", "nan",
"1.000.000" and "five". Dashes before a digit are a sign, and the digits of every script are digits.
"""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

PERCENT = ("either", "fraction", "number")
_LARGEST_EXPONENT = 5000  # beyond this nobody means a number, and writing it out would fill the memory
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d", "-"))
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_MARKS = re.compile(f"[{''.join(_RAISED)}]+|[{''.join(_LOWERED)}]+|[¼-¾⅐-⅞]")

# No part can match the same characters in two ways, so a scan is linear.
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_POWER = r"10 ?(?:\^|\*\*) ?(?:\{ ?[-+]?[0-9]{1,6} ?\}|\( ?[-+]?[0-9]{1,6} ?\)|[-+]?[0-9]{1,6})"
_TIMES = r"(?:\\times|\\cdot|[x×·⋅*])"
_NUMBER = re.compile(
    r"(?P<sign>[-+] ?)?"
    rf"(?:(?P<power>{_POWER})|(?P<plain>{_PLAIN})"
    rf"(?:[eE](?P<e>[-+]?[0-9]{{1,6}})|(?: ?{_TIMES} ?(?P<times>{_POWER}))|"
    r"(?: |(?<=[0-9]) ?and )(?P<above>[0-9]+) ?/ ?(?P<below>[0-9]+)|"
    rf" ?/ ?(?P<divisor>[-+]?(?:{_PLAIN})))?)"
)
# A number inside a text, as written. The digits of a longer word, version or date ("x86", "1.2.3") are none.
_GROUP = r"(?:\{,\}|,\\!|[\u00a0\u2007\u2009\u202f]|\\[,;: !])(?=\d{3}(?!\d))"  # thousands in LaTeX and in print
_DIGITS = rf"\d+(?:(?:,|{_GROUP})\d+)*(?:\.\d+)?(?![.,]?\d)"
_TEN = r"10 ?(?:\^|\*\*) ?(?:\{ ?[-+\u2212]?\d+ ?\}|\( ?[-+\u2212]?\d+ ?\)|[-+\u2212]?\d+)|10[⁺⁻⁰¹²³⁴-⁹]+"
FOUND_NUMBER = re.compile(
    rf"(?<![\w.^])(?<!\d/)(?!\d+/\d+/)(?:[-+\u2010-\u2014\u2212](?:\\?[$€£¥] ?)?)?(?:"
    rf"(?:\d+ ?)?\\[dtc]?frac(?:\{{ ?-?\d+(?:\.\d+)? ?\}}\{{ ?\d+(?:\.\d+)? ?\}}|\d\d)|"
    rf"(?:{_TEN})(?!\d)|"
    rf"{_DIGITS}(?:[eE][-+\u2212]?\d+(?!\d)| ?{_TIMES} ?(?:{_TEN})(?!\d)| \d+/\d+(?![\d/])| ?[¼-¾⅐-⅞]|/\d+(?![\d/]))?|"
    rf"\.\d+(?![.,]?\d)(?:[eE][-+\u2212]?\d+)?|[¼-¾⅐-⅞])(?: ?\\?%)?"
)
_SIGNED_CURRENCY = re.compile(r"^([-+] ?)?(?:US|CA|AU|HK|C|A)?[$€£¥₹₩₽₪₫₴₦฿₱₺] ?([-+] ?)?(?=[.0-9])")
_PERCENT_SIGN = re.compile(r" ?(?:%|percent\b|per cent\b|pct\b)")
# The shape of a unit: up to five words without a digit, in brackets or not.
_UNIT = re.compile(r"(?: ?(?:[^\W\d_]|[°'\"/().$€£¥₹-]|\^\{?[23]\}?)+){1,5}")


class Number(NamedTuple):
    """What a text says: the value as written (25 for "25%"), whether per cent, and the text of a unit behind it."""

    value: Fraction
    percent: bool = False
    unit: str = ""

    def values(self, percent: str = "fraction") -> tuple[Fraction, ...]:
        """What it may stand for: 25 % is 1/4 ("fraction"), 25 ("number"), or each of them ("either")."""
        if not self.percent:
            return (self.value,)
        return {"fraction": (self.value / 100,), "number": (self.value,)}.get(percent, (self.value / 100, self.value))


def read_number(text: str) -> Number | None:
    """The number that the whole text is, with what stands behind it as the unit; None where it is none."""
    text = _without_latex(plain_marks(_GROUPED.sub(",", text)))
    currency = _SIGNED_CURRENCY.match(text)
    if currency:
        text = (currency[1] or currency[2] or "") + text[currency.end() :]
    found = _NUMBER.match(text)
    if not found:
        return None
    rest = text[found.end() :]
    percent = _PERCENT_SIGN.match(rest)
    rest = rest[percent.end() :] if percent else rest
    unit = rest.strip().rstrip(".").strip()
    if unit and not _is_unit(unit, glued=rest[0].isalpha() and not percent):
        return None
    try:
        return Number(_value(found), bool(percent), unit)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None


def exact_number(value: Any) -> Fraction | None:
    """A number of Python or NumPy as it prints (0.1 is one tenth); None for a bool, NaN, inf and whatever is none."""
    if isinstance(value, (str, bytes)) or value is None:
        return None
    if hasattr(value, "item") and not hasattr(value, "__len__"):  # NumPy and torch
        value = value.item()
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return Fraction(repr(value)) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return Fraction(value) if value.is_finite() and abs(value.adjusted()) <= _LARGEST_EXPONENT else None
    return Fraction(value) if isinstance(value, (int, Fraction)) else None


def plain_marks(text: str) -> str:
    """Unicode NFKC, but 10² becomes 10^2 (not 102), H₂ H_2 and 2½ 2 1/2; dashes become "-", digits 0 to 9."""

    def spelt(mark: re.Match) -> str:
        run = mark.group()
        if run[0] in _RAISED:
            digits = "".join(_RAISED[digit] for digit in run)
            return f"^{digits}" if len(digits) == 1 else f"^{{{digits}}}"
        if run[0] in _LOWERED:
            digits = "".join(_LOWERED[digit] for digit in run)
            return f"_{digits}" if len(digits) == 1 else f"_{{{digits}}}"
        return " " + unicodedata.normalize("NFKC", run)

    text = unicodedata.normalize("NFKC", _MARKS.sub(spelt, text)).translate(_DASHES).replace("\u2044", "/")
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(mark)) if mark.isdecimal() else mark for mark in text)


def _value(found: re.Match) -> Fraction:
    if found["power"]:
        value = _power(found["power"])
    else:
        value = _plain(found["plain"])
        if found["e"]:
            value *= _ten_to(int(found["e"]))
        elif found["times"]:
            value *= _power(found["times"])
        elif found["above"]:
            if value.denominator != 1 or "." in found["plain"]:
                raise ValueError("a mixed number begins with a whole one")
            value += Fraction(int(found["above"]), int(found["below"]))
        elif found["divisor"]:
            sign = -1 if found["divisor"].startswith("-") else 1
            value /= sign * _plain(found["divisor"].lstrip("+-"))
    return -value if (found["sign"] or "").startswith("-") else value


def _plain(digits: str) -> Fraction:
    if len(digits) > _LARGEST_EXPONENT:
        raise OverflowError("too large to be meant")
    return Fraction(Decimal(digits.replace(",", "").rstrip(".")))


def _power(text: str) -> Fraction:
    return _ten_to(int(re.split(r"\^|\*\*", text)[1].strip(" {}()").replace(" ", "")))


def _ten_to(exponent: int) -> Fraction:
    if abs(exponent) > _LARGEST_EXPONENT:
        raise OverflowError("too large to be meant")
    return Fraction(10) ** exponent


def _is_unit(text: str, glued: bool) -> bool:
    """Whether words behind a number leave its value alone: "cm", "(apples)", but not "x", "million", "or six". Letters
    may touch the number ("5cm", but not "2x", "3rd") only where everybody knows the unit."""
    words = re.findall(r"[^\W\d_]+|[°$€£¥₹]", text.lower())
    if not words or not _UNIT.fullmatch(text) or (glued and not _GLUED.fullmatch(text.lower())):
        return False
    return not any(_VALUE_WORD.fullmatch(word) or (len(word) == 1 and word in _VARIABLES) for word in words)


_GLUED = re.compile(r"[cmk]m(?:\^\{?[23]\}?)?|in|ft|yd|mi|[mk]g|lbs?|oz|ml|min|hrs?|km/h|mph")
_VARIABLES = "bdeiopqrtuxyz"  # "5 x" is no number; "5 m" is
_VALUE_WORD = re.compile(
    r"or|and|to|through|plus|minus|times|over|by|not|pi|sqrt|root|squared|cubed|factorial|mod|sin|cos|tan|log|ln|exp|"
    r"(?:hundred|thousand|million|billion|trillion|dozen)s?|half|halves|thirds?|(?:four|fif|six|seven|eigh|nin|ten)ths?|"
    r"(?:hundred|thousand)ths?"
)

_GROUPED = re.compile("(?<=[0-9])[\u00a0\u2007\u2009\u202f](?=[0-9]{3}(?![0-9]))")  # NFKC makes plain spaces of them
_BRACED = r"\{\s*([^{}]*?)\s*\}"
_LATEX = (
    (re.compile(r"\\(?:left|right|displaystyle|!)(?![A-Za-z])"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=[0-9])(?:\\[,;: ]|~)(?=[0-9]{3}(?![0-9]))"), ","),
    (re.compile(r"\\([$%#&])"), r"\1"),
    (re.compile(r"\\[,;: ]|~"), " "),
    (re.compile(rf"(?<=[0-9])\s*\\[dtc]?frac\s*{_BRACED}\s*{_BRACED}"), r" \1/\2"),
    (re.compile(rf"\\[dtc]?frac\s*{_BRACED}\s*{_BRACED}"), r"\1/\2"),
    (re.compile(r"(?<=[0-9])\s*\\[dtc]?frac\s*([0-9])\s*([0-9])"), r" \1/\2"),
    (re.compile(r"\\[dtc]?frac\s*([0-9])\s*([0-9])"), r"\1/\2"),
    (re.compile(rf"\\(?:text|textbf|mathbf|mathrm|textrm|mbox|boxed)\s*{_BRACED}"), r" \1"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree"), "°"),
)


def _without_latex(text: str) -> str:
    text = text.strip()
    for mark in ("$$", "$"):
        if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark):
            text = text[len(mark) : -len(mark)].strip()
            break
    if text[:2] in (r"\(", r"\[") and text[-2:] in (r"\)", r"\]"):
        text = text[2:-2].strip()
    for pattern, replacement in _LATEX if "\\" in text or "{" in text or "~" in text else ():
        text = pattern.sub(replacement, text)
    return " ".join(text.split())
