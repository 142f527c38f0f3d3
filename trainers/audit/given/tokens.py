"""Recorded completions as the trainer takes them: tokens, dealt out in generation batches.

Where tokens were recorded they are taken as they are. A text is tokenised, which need not give the tokens that were drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.base import Row
from trainers.command.recorded.groups import Recorded
from trainers.command.recorded.said import Said

# A text that follows another is not written like one that begins: some tokenizers put a space before that.
_BEFORE = "\n"


@dataclass(frozen=True)
class TakenTokens:
    """ids: of a completion, its end with them. logps: of each, under the policy that drew them, NaN where one is not known; None: of
    none."""

    ids: list[int]
    logps: list[float] | None


class GivenRow(dict):
    """A row of the data set, and a completion of its prompt that is there already."""

    def __init__(self, row: Row, drawn: TakenTokens):
        super().__init__(row)
        self.drawn = drawn


class Deals:
    """The rows of one generation batch after the other, as a loader of TRL's would hand them to a rank.

    Args:
        rows: of all batches; batch: of one, over all ranks.
    """

    def __init__(self, rows: Sequence[GivenRow], batch: int):
        self._rows, self._batch = rows, batch

    def of_rank(self, rank: int, ranks: int) -> Iterator[list[GivenRow]]:
        each = self._batch // ranks
        for start in range(0, len(self._rows), self._batch):
            yield [GivenRow(row, row.drawn) for row in self._rows[start + rank * each :][:each]]


@dataclass(frozen=True)
class Tokenised:
    """What became of all completions.

    Args:
        drawn: of each.
        counts: completions, by what was done or seen, see `in_words`.
    """

    drawn: list[TakenTokens]
    counts: Counter[str]

    def in_words(self, most: int) -> list[str]:
        """A line for each thing that was done to completions; nothing where all tokens were recorded and taken as they are."""
        said = {
            "text": "{} had to be tokenised: the tokens need not be those that were drawn",
            "changed": "{} of these read otherwise once they are decoded",
            "other text": "{} have a text that their tokens do not spell; the tokens count",
            "cut": f"{{}} were cut to trainer.max_completion_length={most} tokens, as a sampler would have",
            "behind": "{} went on behind an end of the text, and were cut there",
            "closed": "{} ended by what the file says, and got the end that their tokens lacked",
            "unsaid": "{} do not say whether they ended; those that are shorter than the limit count as ended",
            "short": f"{{}} did not end and are shorter than trainer.max_completion_length={most}, where a sampler would have gone on",
        }
        return [f"note     {words.format(self.counts[key])}" for key, words in said.items() if self.counts[key]]


def take_recorded(trainer: Any, recorded: Recorded | None) -> Tokenised | None:
    """Deals recorded completions out to an `AuditTrainer`; None where there are none.

    Raises:
        ValueError: tokens that are none of this model.
    """
    if recorded is None:
        return None
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    ends = {*getattr(trainer, "eos_token_ids", [tokenizer.eos_token_id])}
    size = trainer.accelerator.unwrap_model(trainer.model).get_input_embeddings().num_embeddings
    tokens = tokenised(recorded, tokenizer, ends, trainer.max_completion_length, size)
    pairs = zip(recorded.rows, tokens.drawn, strict=True)
    trainer.recorded = Deals([GivenRow(row, drawn) for row, drawn in pairs], recorded.batch)
    return tokens


def tokenised(recorded: Recorded, tokenizer: Any, ends: Collection[int], most: int, size: int) -> Tokenised:
    """The tokens of all completions.

    Args:
        ends: tokens that end a text; the tokenizer's own is what is put behind one that ended and does not say so.
        most: tokens of a completion; size: of the vocabulary.

    Raises:
        ValueError: a token that the model has not; tokens that spell other texts than those beside them.
    """
    counts: Counter[str] = Counter()
    drawn = [_drawn(one, tokenizer, ends, most, size, counts) for one in recorded.said]
    if counts["other text"] > len(drawn) / 2:
        strange = next(one for one in recorded.said if _spells_other(one, tokenizer))
        raise ValueError(
            f"completions={recorded.source}: token_ids of {counts['other text']} of {len(drawn)} completions spell something else "
            f"than their texts ({strange.place}: {_spelt(strange.token_ids, tokenizer)!r:.60} and {strange.text!r:.60}). They are of "
            "another tokenizer: name the model that wrote them, or leave the column out."
        )
    return Tokenised(drawn, counts)


def _drawn(
    said: Said, tokenizer: Any, ends: Collection[int], most: int, size: int, counts: Counter[str]
) -> TakenTokens:
    if said.token_ids is None:
        ids = _tokens_of(said.text or "", tokenizer)
        counts["text"] += 1
        counts["changed"] += said.text not in (
            tokenizer.decode(ids, skip_special_tokens=skip) for skip in (True, False)
        )
    else:
        ids = list(said.token_ids)
        counts["other text"] += _spells_other(said, tokenizer)
        if bad := [one for one in ids if one >= size]:
            raise ValueError(
                f"{said.place}: token {bad[0]} is none of the model's {size}. The tokens are of another model: name it, or leave "
                "token_ids out, so that the text is tokenised."
            )
    logps = said.logps if said.logps is not None and len(said.logps) in (len(ids), len(ids) + 1) else None
    first = next((place for place, one in enumerate(ids) if one in ends), None)
    if first is not None and first + 1 < len(ids):
        counts["behind"] += 1
        ids = ids[: first + 1]
    is_told = said.ended is not None or said.token_ids is not None
    if first is None:
        counts["unsaid"] += not is_told
        if said.ended or (not is_told and len(ids) < most):
            counts["closed"] += said.token_ids is not None
            ids = [*ids, tokenizer.eos_token_id]
        else:
            counts["short"] += len(ids) < most
    counts["cut"] += len(ids) > most
    ids = ids[:most]
    return TakenTokens(ids, None if logps is None else [*logps, *[math.nan] * len(ids)][: len(ids)])


def _tokens_of(text: str, tokenizer: Any) -> list[int]:
    """As they stand behind a prompt."""
    before, both = (tokenizer(one, add_special_tokens=False)["input_ids"] for one in (_BEFORE, _BEFORE + text))
    if both[: len(before)] == before and _spelt(both[len(before) :], tokenizer) == text:
        return list(both[len(before) :])
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _spelt(ids: Sequence[int], tokenizer: Any) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


def _spells_other(said: Said, tokenizer: Any) -> bool:
    if said.token_ids is None or said.text is None:
        return False
    texts = (said.text, *(tokenizer.decode(said.token_ids, skip_special_tokens=skip) for skip in (True, False)))
    plain, spelt, whole = ("".join(text.split()) for text in texts)
    return plain not in (spelt, whole) and not whole.startswith(plain)
