"""A key of the prompt, for members that remember prompts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from credit.signals.contract import Rows, Signal, named_columns, signal
from credit.signals.keys import hashed, hashed_ids

_IMAGES = ("image", "images")


class PromptKey:
    """`prompt_B`: the same number for the same prompt in every batch, epoch, process and run; of different ones, different numbers.

    It is a hash of the prompt's token ids, and of its images if the data set has some.

    Args:
        column: a column of the data set to hash instead, for prompts that have a name of their own or are worded anew each time.
    """

    def __init__(self, column: str | None = None):
        self.column = column
        meaning = "int64 key of the prompt, the same in every batch, epoch, process and run"
        self.provides: dict[str, Signal] = {"prompt_B": signal("prompt_B", "both", meaning)}

    def check_columns(self, there: Collection[str]) -> None:
        """Raises ValueError: there is no such column."""
        if self.column is not None and self.column not in there:
            raise ValueError(f"the data set has no column {self.column!r}; there is {named_columns(there)}.")

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        if self.column is None:
            shown = [rows.columns[name] for name in _IMAGES if name in rows.columns]
            parts = zip(rows.prompt_ids, *shown, strict=True)
            keys = [hashed_ids(ids, *map(_of_image, images)) for ids, *images in parts]
        else:
            self.check_columns(rows.columns)
            keys = [hashed(_plain(value)) for value in rows.columns[self.column]]
        return {"prompt_B": torch.tensor(keys, dtype=torch.int64, device=rows.mask_BT.device)}


prompt_keys = PromptKey()


def _plain(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except TypeError as error:
        raise ValueError(
            f"a prompt cannot be told by {type(value).__name__}: give a column of texts or numbers."
        ) from error


def _of_image(image: Any) -> bytes:
    """What tells an image, or a list of them, from others; nothing where there is none."""
    if isinstance(image, (list, tuple)):
        return b"".join(map(_of_image, image))
    return image.tobytes() if callable(getattr(image, "tobytes", None)) else b""
