"""Log-probs of answers that nobody wrote, behind prefixes of completions: one sequence for each row and cut, in chunks.

Shapes: S tokens of a sequence, L tokens of the longest answer, C cuts of the row that has most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainers.seam.token_spans import character_ends
from trainers.signals.contexts import after, longest_read

# (tokens_BS, mask_BS, L) -> (b, L) log-probs of the last L tokens
ReadPass = Callable[[Tensor, Tensor, int], Tensor]


class Tail(NamedTuple):
    """What stands behind a prefix: the end of the opening, and the tokens that are counted."""

    opening: list[int]
    answer: list[int]


class Read(NamedTuple):
    """One sequence that is read."""

    row: int
    cut: int
    before: list[int]
    answer: list[int]


def tail_of(opening: str, answer: str, tokenizer: Any) -> Tail:
    """Opening and answer as one text is tokenised; a token that holds some of both counts as the answer's.

    Raises:
        ValueError: the answer has no tokens.
    """
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer(opening + answer, add_special_tokens=False, return_offsets_mapping=True)
        ids, ends = list(found["input_ids"]), [end for _, end in found["offset_mapping"]]
        first = next((t for t, end in enumerate(ends) if end > len(opening)), len(ids))
    else:  # such a tokenizer does not say where its tokens stand
        ids = list(tokenizer(opening, add_special_tokens=False)["input_ids"]) if opening else []
        first = len(ids)
        ids += tokenizer(answer, add_special_tokens=False)["input_ids"]
    if first == len(ids):
        raise ValueError(f"the answer {answer!r:.80} has no tokens: the model's tokenizer knows nothing of it.")
    return Tail(ids[:first], ids[first:])


def reads_of(
    prompt_ids: Sequence[Sequence[int]],
    token_ids: Sequence[Sequence[int]],
    cuts: Sequence[Sequence[int]],
    tails: Sequence[Tail | None],
) -> list[Read]:
    """The sequences, row by row and cut by cut; none for a row without an answer."""
    return [
        Read(b, c, [*prompt_ids[b], *token_ids[b][:place], *tail.opening], tail.answer)
        for b, tail in enumerate(tails)
        if tail is not None
        for c, place in enumerate(cuts[b])
    ]


def refuse_too_long_answers(reads: Sequence[Read], model: Any) -> None:
    """Raises ValueError: a sequence is longer than the model reads; says by how much, and what to do."""
    limit = longest_read(model)
    longest = max(reads, key=lambda read: len(read.before) + len(read.answer), default=None)
    if limit is None or longest is None or (length := len(longest.before) + len(longest.answer)) <= limit:
        return
    raise ValueError(
        f"the answer of row {longest.row} has {len(longest.answer)} tokens and stands behind {len(longest.before)}: {length} in all, "
        f"and the model reads {limit} (max_position_embeddings). Shorten the opening or the answer, take a smaller "
        "trainer.max_completion_length, or give None for that row."
    )


def answer_sums(
    reads: Sequence[Read], rows: int, cuts: int, size: int, chunks: int, pad: int, passed: ReadPass, device: Any
) -> Tensor:
    """(rows, cuts) sums of log-probs over each answer, NaN where nothing is read.

    Args:
        size: sequences in a chunk. chunks: how many are passed at least, so that every rank passes as many; more are padding.
    """
    found: dict[tuple[int, int], Tensor] = {}
    # Sequences of like length together: little padding. Sorted is stable, so the order of rows decides nothing else.
    ordered = sorted(reads, key=lambda read: len(read.before) + len(read.answer))
    for number in range(max(-(-len(ordered) // size), chunks)):
        chunk = ordered[number * size : (number + 1) * size] or [Read(-1, 0, [pad], [pad])]
        answers = [torch.tensor(read.answer, device=device) for read in chunk]
        ids_bL = pad_sequence(answers, batch_first=True, padding_value=pad)
        there_bL = pad_sequence([torch.ones_like(ids) for ids in answers], batch_first=True)
        tokens_bS, mask_bS = after([read.before for read in chunk], ids_bL, there_bL, pad)
        logps_bL = passed(tokens_bS, mask_bS, ids_bL.shape[1])
        sums_b = logps_bL.masked_fill(there_bL == 0, 0.0).sum(dim=1)
        found |= {(read.row, read.cut): value for read, value in zip(chunk, sums_b, strict=True) if read.row >= 0}
    values = list(found.values())
    sums_BC = torch.full((rows, max(cuts, 1)), torch.nan, device=device, dtype=values[0].dtype if values else None)
    for place, value in found.items():
        sums_BC[place] = value
    return sums_BC


def texts_of_tokens(tokenizer: Any, token_ids_BT: Tensor, written_BT: Tensor) -> list[list[str]]:
    """What each token that was written adds to its row's text; those behind the last one add nothing."""
    found = []
    for ids, written in zip(token_ids_BT, written_BT, strict=True):
        row = ids[written].tolist()
        text = tokenizer.decode(row, skip_special_tokens=True)
        ends = (character_ends(tokenizer, row, text) if text else None) or [0] * len(row)
        found.append([text[start:end] for start, end in zip([0, *ends], ends, strict=False)])
    return found
