"""Numbers for what signals tell apart."""

from __future__ import annotations

import hashlib


def hashed(*parts: str | bytes) -> int:
    """A non-negative int64, the same in every process."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return int.from_bytes(digest.digest(), "big") >> 1


def hashed_ids(ids: list[int], *more: bytes) -> int:
    """`hashed` of token ids, and of what belongs to them."""
    return hashed(",".join(map(str, ids)), *more)
