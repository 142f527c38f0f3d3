"""Expressions read by latex2sympy (the parser of math-verify) and compared by their values at a few points."""

from __future__ import annotations

import logging
import random
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

# The parser needs twice the time for every further brace.
_NESTED = re.compile(r"\{ *(?:\{ *){5}|(?:\^\w){9}")
_DIGITS = 30
_EQUAL = 1e-25
_SIGNS = (1, -1, 2, -2, 3, -3)  # of the points
# Powers of powers of numbers, factorials of large ones: SymPy would write them out. They are compared letter by letter.
_ENORMOUS = re.compile(r"\^[\s{(]*[0-9]+[\s})]*\^|\^[\s{(]*[0-9]{5,}|[0-9]{5,}\s*!|!\s*[)}]*\s*!")
_TINY = 1e-300  # fractions less apart are one
_LARGEST = 3000  # digits that whole numbers are compared to


def same_expression(one: Any, other: Any) -> bool:
    """Whether two `Numeral`s or `Expression`s are equal wherever they can be evaluated; else whether math-verify says so."""
    a, b = _written(one), _written(other)
    if a == b:
        return True
    if _is_symbol(a) and _is_symbol(b):
        return False
    if parsed(a) is None or parsed(b) is None:
        return False
    rounded = any(getattr(side, "decimal", False) and _digits(side.number) >= 6 for side in (one, other))
    verdict = _agree(a, b, 1e-6 if rounded else _EQUAL)
    return _verified(parsed(a), parsed(b)) if verdict is None else verdict


def proportional(one: str, other: str) -> float | None:
    """The constant by which one expression is a multiple of the other, not 0; None where there is none."""
    factors = []
    for a, b in ((_at(one, sign), _at(other, sign)) for sign in _SIGNS):
        if a is None or b is None:
            continue
        if abs(a) < _EQUAL and abs(b) < _EQUAL:
            continue
        if abs(a) < _EQUAL or abs(b) < _EQUAL:
            return None
        factors.append(a / b)
    if len(factors) < 3 or any(abs(factor - factors[0]) > _EQUAL * abs(factors[0]) for factor in factors):
        return None
    return float(factors[0].real) if abs(factors[0].imag) < _EQUAL * abs(factors[0]) else None


@lru_cache(maxsize=1024)
def parsed(latex: str) -> Any:
    """A SymPy object with exact numbers, i the imaginary unit; None where it cannot be parsed."""
    if _ENORMOUS.search(latex) or _NESTED.search(latex):
        return None
    import sympy
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    try:
        read = latex2sympy(
            latex,
            is_real=False,
            normalization_config=NormalizationConfig(malformed_operators=True, nits=False, boxed="none"),
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except Exception:  # the parser raises whatever it comes upon
        return None
    if not isinstance(read, (sympy.Basic, sympy.MatrixBase)):
        return None
    exact: dict = {number: sympy.Rational(str(number)) for number in read.atoms(sympy.Float)}
    exact |= {symbol: sympy.I for symbol in read.atoms(sympy.Symbol) if str(symbol) == "i"}
    try:
        read = read.xreplace(exact)
        return read.doit() if read.has(sympy.Sum, sympy.Product, sympy.Derivative, sympy.Limit) else read
    except Exception:
        return None


def _agree(one: str, other: str, tolerance: float) -> bool | None:
    """Whether the two agree at every point; None where neither has a value at any."""
    symbols = _symbols(one) or _symbols(other)
    told = missing = False
    for sign in _SIGNS if symbols else _SIGNS[:1]:
        a, b = _at(one, sign), _at(other, sign)
        if a is None or b is None:
            missing = missing or a is not b
        elif abs(a - b) > tolerance * max(abs(a), abs(b)):
            return False
        else:
            told = True
    if told and not symbols and tolerance == _EQUAL:
        return _same_digits(parsed(one), parsed(other))
    return True if told else False if missing else None


def _same_digits(x: Any, y: Any) -> bool:
    """Whether fractions agree exactly, and large numbers in every digit before the point: 1 - 1/2^100 is not 1, and 2^100
    is not 2^100 - 1."""
    import mpmath

    size = abs(x.evalf(_DIGITS))
    if not size.is_finite or size < 10**20:
        return not (x.is_rational and y.is_rational) or bool(abs(x.evalf(_LARGEST) - y.evalf(_LARGEST)) < _TINY)
    digits = int(mpmath.log10(mpmath.mpf(size._mpf_))) + 20
    if digits > _LARGEST:
        return x == y
    return bool(abs(x.evalf(digits) - y.evalf(digits)) < 0.5)


@lru_cache(maxsize=8192)
def _at(latex: str, sign: int) -> Any:
    """The value of an expression at a point; None where it has no finite one."""
    import mpmath

    try:
        point = {symbol: _coordinate(str(symbol), sign) for symbol in _symbols(latex)}
        real, imaginary = parsed(latex).evalf(_DIGITS, subs=point).as_real_imag()
        value = mpmath.mpc(*(mpmath.mpf(part._to_mpmath(100)) for part in (real, imaginary)))
    except Exception:  # no number, or none that can be evaluated there
        return None
    return value if mpmath.isfinite(value) else None


def _coordinate(symbol: str, sign: int) -> Any:
    """Where a symbol is evaluated: fixed, but without a relation to the other symbols."""
    import sympy

    rng = random.Random(f"{symbol} {sign}")
    return sympy.Rational(rng.randint(100, 999), rng.randint(101, 499)) * (1 if sign > 0 else -1)


def _symbols(latex: str) -> tuple:
    return tuple(getattr(parsed(latex), "free_symbols", ()))


def _verified(x: Any, y: Any) -> bool:
    """math-verify's verdict, asked both ways round."""
    import math_verify

    logging.getLogger("math_verify.grader").setLevel(logging.ERROR)  # it warns that its own timeouts are off
    return all(math_verify.verify(a, b, timeout_seconds=None) for a, b in ((x, y), (y, x)))


def _written(side: Any) -> str:
    if hasattr(side, "latex"):
        return side.latex
    number: Fraction = side.number / (100 if side.percent else 1)
    if number.denominator == 1:
        return str(number.numerator)
    sign = "-" if number < 0 else ""
    return rf"{sign}\frac{{{abs(number.numerator)}}}{{{number.denominator}}}"


def _digits(number: Fraction) -> int:
    return len(str(number.numerator).lstrip("-")) if number else 0


def _is_symbol(text: str) -> bool:
    return re.fullmatch(r"\\?[A-Za-z]|\\[a-z]+", text.strip()) is not None and text.strip() not in (
        r"\pi",
        "e",
        r"\infty",
    )
