r"""Mathematics as people write it, LaTeX with or without delimiters or plain text, in one notation.

`normal_form` changes only how things are written (`\dfrac34` is `\frac{3}{4}`, `32,\!348` is 32348, `sqrt(2)` is `\sqrt{2}`);
what two notations mean is rewards/answers/values.py.
"""

from __future__ import annotations

import re

from rewards.answers.numbers import plain_marks

_BRACED = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_SYMBOLS = {
    "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "°": r"^\circ ", "∅": r"\emptyset ", "±": r"\pm ", "∓": r"\mp ", "×": r"\times ", "·": r"\cdot ",
    "⋅": r"\cdot ", "÷": "/", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "≈": r"\approx ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ", "ω": r"\omega ", "′": "'",
}  # fmt: skip
_SYMBOL = re.compile("|".join(_SYMBOLS))
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:displaystyle|textstyle|limits|nolimits)(?![A-Za-z])", " "),
        (r"\\m?(?:left|right)\s*\.", " "),
        (r"\\(?:left|right|mleft|mright|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg)(?![A-Za-z])\s*", " "),
        (r"\\[lr]brace(?![A-Za-z])", lambda found: r"\{" if "l" in found.group()[:2] else r"\}"),
        (r"\\(?:lvert|rvert|vert)(?![A-Za-z])", "|"),
        (r",?\s*\\!\s*,?\s*(?=[0-9]{3}(?![0-9]))", ","),
        (r"\\!|\\/|\\mathstrut|\\strut", ""),
        (r"\{,\}|\{ , \}", ","),
        (r"(?<=[0-9])(?:\\[,;: ]|~)(?=[0-9]{3}(?![0-9]))", ","),
        (r"\\[,;:>]|~|\\q?quad(?![A-Za-z])|(?<!\\)\\ |\\(?:hspace|vspace|phantom)\s*\{[^{}]*\}", " "),
        (r"\\(?:textbf|textit|textrm|texttt|textsf|textnormal|mathrm|mathit|mathsf|mbox|hbox|rm|bf|it)(?=\s*\{)", r"\\text"),
        (r"\{\\(?:rm|bf|it|cal)\s+([^{}]*)\}", r"\\text{\1}"),
        (r"\\(?:mathbf|boldsymbol|bm|vec|mathcal|ensuremath)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(mathbb|overline)\s+([A-Za-z0-9])(?![A-Za-z0-9])", r"\\\1{\2}"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\\(?:leq|leqslant|leqq)(?![A-Za-z])|<=|=<", r"\\le "),
        (r"\\(?:geq|geqslant|geqq)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\neq(?![A-Za-z])|!=", r"\\ne "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\(?:varnothing|O)(?![A-Za-z])", r"\\emptyset "),
        (r"\\bigcup(?![A-Za-z])", r"\\cup "),
        (r"\\(?:colon)(?![A-Za-z])", ":"),
        (r"\\(?:mid)(?![A-Za-z])", "|"),
        (r"\\ast(?![A-Za-z])|\\star(?![A-Za-z])", r"\\cdot "),
        (r"\\(?:cdots|ldots|dots)(?![A-Za-z])", "..."),
        (r"\\(?:\$|#|&)|(?<![A-Za-z\\])\$|[€£¥]", ""),
        (r"\\%", "%"),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])", " "),
        (r"\\text\s*\{\s*\}", " "),
        (r"(?<![A-Za-z\\])sqrt\s*\(((?:[^()]|\([^()]*\))*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*\(((?:[^()]|\([^()]*\))*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*([0-9]+|[A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<![A-Za-z\\])(?:infinity|infty|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"(?<![A-Za-z\\])(pi|theta|alpha|beta|omega|lambda)(?![A-Za-z])", r"\\\1 "),
        (r"(?<![A-Za-z\\])(arc(?:sin|cos|tan)|sin|cos|tan|cot|sec|csc|log|ln|exp|max|min|gcd)(?![A-Za-z])", r"\\\1 "),
        (r"\*\*", "^"),
        (r"\*", r" \\cdot "),
        (r"(?<=[)\]])\s*U\s*(?=[(\[])", r" \\cup "),
        (r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])(?![0-9])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9])\s*([0-9]+)", r"\\frac{\1}{\2}"),
        (rf"\\frac\s*([0-9A-Za-z])\s*{_BRACED}", r"\\frac{\1}{\2}"),
        (rf"\\frac\s*{_BRACED}\s*([0-9A-Za-z])", r"\\frac{\1}{\2}"),
        (r"([\^_])\s*\{\s*([0-9A-Za-z])\s*\}", r"\1\2"),
        (r"\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}", " and "),
        # A product, not the mixed number for which the parser takes it: 2(3), (2)(3).
        (r"(?<=[0-9])(?<![_^][0-9]) ?\((?=-? ?[0-9./]+\)|-? ?\\frac)", r" \\cdot ("),
        (r"(?<=\)) ?\((?=-? ?[0-9./]+\))", r" \\cdot ("),
        (r"\s+", " "),
    )
]  # fmt: skip


def normal_form(text: str) -> str:
    r"""The text in one notation, without delimiters, `\boxed`, a final point, currency and degrees."""
    text = unwrapped(plain_marks(_SYMBOL.sub(lambda found: _SYMBOLS[found.group()], text)))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return unwrapped(text)


def unwrapped(text: str) -> str:
    r"""Without `$...$`, `\(...\)`, `\[...\]`, `\boxed{...}` round it, and without a mark of a sentence behind it."""
    while True:
        shorter = text.strip().rstrip(",;").strip()
        if shorter.endswith(".") and not shorter.endswith(".."):
            shorter = shorter[:-1].strip()
        for start, end in _DELIMITERS:
            inner = shorter[len(start) : -len(end)]
            around = shorter.startswith(start) and shorter.endswith(end) and len(shorter) >= len(start + end)
            if around and start not in inner and not inner.endswith("\\"):
                shorter = inner
        if (found := _BOXED.fullmatch(shorter) or _GROUP.fullmatch(shorter)) is not None:
            shorter = found[1]
        if shorter == text:
            return text
        text = shorter


def split(text: str, separator: re.Pattern) -> list[str]:
    """Pieces between separators that stand outside of all brackets, braces and environments."""
    return split_with(text, separator)[0]


def split_with(text: str, separator: re.Pattern) -> tuple[list[str], list[str]]:
    """The same, and the separators."""
    pieces, found, depth, start, place = [], [], 0, 0, 0
    while place < len(text):
        if depth == 0 and (cut := separator.match(text, place)) and cut.end() > place:
            pieces.append(text[start:place].strip())
            found.append(cut.group().strip())
            start = place = cut.end()
            continue
        bracket = _BRACKET.match(text, place)
        if bracket:
            depth = max(depth + (1 if bracket.lastgroup == "open" else -1), 0)
        place = bracket.end() if bracket else place + 1
    return [*pieces, text[start:].strip()], found


def enclosed(text: str) -> tuple[str, str, str] | None:
    r"""(opening, inside, closing) of a text that one pair of brackets encloses: ( [ \{ \langle, closed by any of ) ] \}."""
    first, depth = _BRACKET.match(text), 0
    if first is None or first.group() not in _OPENING:
        return None
    for bracket in _BRACKET.finditer(text):
        depth += 1 if bracket.lastgroup == "open" else -1
        if depth == 0:
            whole = bracket.end() == len(text) and bracket.group() in _CLOSING
            return (first.group(), text[first.end() : bracket.start()].strip(), bracket.group()) if whole else None
    return None


_OPENING, _CLOSING = ("(", "[", r"\{", r"\langle"), (")", "]", r"\}", r"\rangle")
_BOXED = re.compile(rf"\\(?:boxed|fbox)\s*{_BRACED}")
_GROUP = re.compile(_BRACED)
_BRACKET = re.compile(
    r"(?P<open>\\\{|[({\[]|\\begin\{[a-z]+\*?\}|\\langle|\\lfloor|\\lceil)|"
    r"(?P<close>\\\}|[)}\]]|\\end\{[a-z]+\*?\}|\\rangle|\\rfloor|\\rceil)"
)
