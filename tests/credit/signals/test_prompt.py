"""The key of a prompt: the same wherever the same prompt stands, another for another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from credit.signals import PromptKey, Rows
from credit.signals.prompt import prompt_keys

THREE_FOUR, FIVE, THIRTY_FOUR, EMPTY = (
    6259115842844834234,
    5019829476155378896,
    1610115856409653059,
    8238016292129134938,
)


class Shown(Rows):
    """Rows of which a key can know."""

    def __init__(self, prompt_ids, **columns):
        self.prompt_ids, self.columns = prompt_ids, columns
        self.mask_BT = torch.ones(len(prompt_ids), 1, dtype=torch.bool)


def key(provider, rows) -> list[int]:
    return provider(rows)["prompt_B"].tolist()


def test_it_is_a_number_of_the_prompt_alone_in_every_process():
    """The number itself stands here: another process, or another day, comes to the same one."""
    assert key(prompt_keys, Shown([[3, 4], [5], [3, 4], [34], []])) == [
        *(THREE_FOUR, FIVE, THREE_FOUR, THIRTY_FOUR, EMPTY)
    ]
    assert key(prompt_keys, Shown([[5]], answer=["of another row"])) == [FIVE]


def test_images_belong_to_the_prompt():
    black, white = np.zeros((2, 2), dtype=np.uint8), np.ones((2, 2), dtype=np.uint8)
    keys = key(prompt_keys, Shown([[3]] * 4, images=[[black], [white], [black], None]))
    assert keys[0] == keys[2] and len(set(keys)) == 3


def test_a_column_may_name_the_prompt():
    rows = Shown([[3], [4], [5]], id=["a", "b", "a"], picture=[black := object(), black, black])
    keys = key(PromptKey("id"), rows)
    assert keys[0] == keys[2] != keys[1]
    with pytest.raises(ValueError, match="no column 'idd'; there is id, picture"):
        key(PromptKey("idd"), rows)
    with pytest.raises(ValueError, match="cannot be told by object"):
        key(PromptKey("picture"), rows)
