"""Text that cannot act. What a model, a folder or a file says is printed and drawn through this."""

from __future__ import annotations

import unicodedata

_ACTIVE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def visible(text: str) -> str:
    """`text` with control, format and surrogate characters (escape codes, bidirectional overrides, zero-width marks)
    written out as \\x1b, \\u202e and so on. Newlines stay. The result always encodes to UTF-8."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in _ACTIVE else _code(c) for c in text)


def _code(character: str) -> str:
    names = {"\t": "\\t", "\r": "\\r"}
    point = ord(character)
    return names.get(character) or (f"\\x{point:02x}" if point < 256 else f"\\u{point:04x}")
