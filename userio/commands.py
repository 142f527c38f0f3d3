"""Commands named in messages, as whoever reads them can give them: installed, there are no scripts and no configs/ to point at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (_HOME / "train_grpo.py").is_file()
_SCRIPT = r"(train_grpo|train_sft|train_lhts|sample|eval_model|sweep)\.py\b"


def as_installed(text: str) -> str:
    """The text as it is in a checkout; else `python sweep.py` is `apportion sweep`, `accelerate launch train_grpo.py` takes
    the module, and files of configs/ are where `apportion configs` says."""
    if IN_CHECKOUT:
        return text
    text = re.sub(rf"\bpython {_SCRIPT}", r"apportion \1", text)
    text = re.sub(rf"((?:accelerate launch|torchrun)\b[^`\n]*? ){_SCRIPT}", r"\1-m apportion.\2", text)
    return re.sub(r"(?<![\w/])configs/accelerate\b", '"$(apportion configs)"/accelerate', text)


def asks_for_help(arguments: Sequence[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(arguments)
