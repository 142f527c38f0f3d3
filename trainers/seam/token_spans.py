"""From characters to tokens: where in the token ids a reward was earned.

A reward says it in characters of the text (rewards/text/spans.py); credit needs tokens. The map is made from the token ids
themselves, never by tokenizing the text again: the ids a model samples are often not the ones a tokenizer would pick.
"""

from __future__ import annotations

import codecs
import logging
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from credit.turns.index import runs_of
from rewards.text.completions import completion_text
from rewards.text.spans import Span, span_total
from rewards.text.turns import turn_spans, turns_of
from trainers.seam.visit import Scoring

logger = logging.getLogger(__name__)
_told: set[str] = set()


def span_rewards(
    reward_funcs: Sequence[Callable],
    weights_K: Sequence[float],
    scores_BK: Sequence[Sequence[float]],
    tokenizer: Any,
    prompts: list,
    completions: list,
    completion_ids: list[list[int]],
    columns: dict[str, list],
    runs: Sequence[Sequence[Sequence[int]]] | None = None,
) -> list[list[float]]:
    """What each row earned at each of its tokens, summed over the reward functions with their weights.

    A function without spans, or that cannot say where for a row, counts at the row's last token, and so reaches every
    token through return-to-go. Each row sums to its weighted reward; an abstention (NaN score) counts 0.

    Args:
        scores_BK: what the functions gave these rows, NaN where they abstained.
        columns: the dataset columns, as the functions get them.
        runs: of each row the turns the policy wrote, each the positions of its tokens. None: a row is one turn.

    Returns:
        One list of floats per row, as long as its `completion_ids`.
    """
    texts = [completion_text(completion) for completion in completions]
    earned = [[0.0] * len(ids) for ids in completion_ids]
    runs = runs if runs is not None else [[list(range(len(ids)))] for ids in completion_ids]
    ends: dict[int, list[int] | None] = {}
    # A `rollout_func` with `env_mask` has turns in its tokens, and one text or message for all of them.
    counts = [max(len(turns_of(text)), len(of_row)) for text, of_row in zip(completions, runs, strict=True)]
    for k, (func, weight) in enumerate(zip(reward_funcs, weights_K, strict=True)):
        told = _asked(func, prompts, completions, {**columns, "completion_ids": completion_ids}, counts)
        for row, spans in enumerate(told):
            score, ids = float(scores_BK[row][k]), completion_ids[row]
            if math.isnan(score) or not ids:
                continue
            spans = [Span(*span) for span in spans or []]
            whole = [span for span in spans if span.turn is None]
            if row not in ends and whole:
                ends[row] = character_ends(tokenizer, ids, texts[row])
            _place(earned[row], whole, ends.get(row), len(texts[row]), weight)
            _place_by_turn(earned[row], spans, completions[row], runs[row], ids, tokenizer, weight)
            rest = score - span_total(spans)
            if whole and abs(rest) > 1e-4 * max(1.0, abs(score)):  # of turns, the rest is the last one's
                _say_once(
                    f"The spans of reward {_name(func)!r} add up to {span_total(spans):g} where it scored {score:g}",
                    about=_name(func),
                )
            earned[row][-1] += weight * rest
    return earned


def local_span_rewards(trainer: Any, scoring: Scoring, runs: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """(B_local, T_local) float32: `span_rewards` of this process's rows, right-padded with 0 to their longest.

    To be called once TRL has scored the rows; `runs` as there.
    """
    inputs, prompts = scoring.columns, scoring.prompts
    first = trainer.accelerator.process_index * len(prompts)
    columns = {key: [row[key] for row in inputs] for key in inputs[0] if key not in ("prompt", "completion")}
    if environments := getattr(trainer, "environments", None):
        columns["environments"] = environments
    earned = span_rewards(
        trainer.reward_funcs,
        trainer.reward_weights.tolist(),
        scoring.rewards_BK[first : first + len(prompts)].tolist(),
        trainer.processing_class,
        prompts,
        scoring.completions,
        scoring.completion_ids,
        {**columns, "trainer_state": trainer.state},
        runs,
    )
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in earned], batch_first=True)


def noted_span_rewards(trainer: Any, scoring: Scoring, mask_BT: Tensor) -> Tensor:
    """(B_local, T_local) `local_span_rewards`, kept in `scoring`: reward functions are asked once, whoever reads it."""
    if scoring.span_rewards_BT is None:
        earned_BT = local_span_rewards(trainer, scoring, [runs_of(mask_T) for mask_T in mask_BT.tolist()])
        padding = (0, mask_BT.shape[1] - earned_BT.shape[1])  # TRL may pad completions to a multiple
        scoring.span_rewards_BT = torch.nn.functional.pad(earned_BT, padding).to(mask_BT.device)
    return scoring.span_rewards_BT


def token_spans(
    tokenizer: Any, completion_ids: list[list[int]], texts: list[str], spans: Sequence[Sequence[Span] | None]
) -> list[list[float]]:
    """The values of the spans at the tokens that decided them; one list per row, as long as its ids.

    The value of a span goes to the token that completed its last character: the one that wrote its last byte, where
    a character is split over tokens. An empty span goes to the token that wrote the next character, and at the end of
    the text to the row's last token (end-of-text, where there is one). A row without spans gets zeros; where the text
    is not what the ids decode to (a parsed tool call), the whole value goes to the last token.
    """
    result = []
    for ids, text, row in zip(completion_ids, texts, spans, strict=True):
        earned = [0.0] * len(ids)
        if ids and row:
            _place(earned, row, character_ends(tokenizer, ids, text), len(text), 1.0)
        result.append(earned)
    return result


def character_ends(tokenizer: Any, ids: list[int], text: str) -> list[int] | None:
    """For each token, how many characters of the text are complete after it; None if the text is not found in what
    the ids decode to (special tokens left out, as TRL decodes)."""
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    offset = 0
    if decoded != text:
        offset = decoded.find(text)
        if not text or offset < 0 or decoded.find(text, offset + 1) >= 0:
            _say_once("A completion's text is not what its tokens decode to; its rewards count at the last token")
            return None
    for method in (_by_bytes, _by_pieces, _by_prefixes):
        ends = method(tokenizer, ids, decoded)
        if ends is not None:
            return [min(max(end - offset, 0), len(text)) for end in ends]
    return None


def _place(earned: list[float], spans: Sequence[Span], ends: list[int] | None, length: int, weight: float) -> None:
    for start, end, value, _ in spans:
        character = end - 1 if end > start else end
        if ends is None or character >= length:
            token = len(earned) - 1
        else:
            token = next((t for t, complete in enumerate(ends) if complete > character), len(earned) - 1)
        earned[token] += weight * value


def _place_by_turn(
    earned: list[float],
    spans: Sequence[Span],
    completion: Any,
    runs: Sequence[Sequence[int]],
    ids: list[int],
    tokenizer: Any,
    weight: float,
) -> None:
    """Places the spans that name a turn; one that has no tokens (it was cut) gives its value to the row's last token."""
    named = [span for span in spans if span.turn is not None]
    texts = [turn.text for turn in turns_of(completion)] if named else []
    for number in sorted({span.turn for span in named if span.turn is not None}):
        here = [span for span in named if span.turn == number]
        if not (number < len(runs) and runs[number]):
            earned[-1] += weight * span_total(here)
            continue
        run, text = runs[number], texts[number] if number < len(texts) else ""
        inside = any(span.start < len(text) for span in here)  # else each belongs to the turn's last token
        ends = character_ends(tokenizer, [ids[t] for t in run], text) if inside else None
        of_run = [0.0] * len(run)
        _place(of_run, here, ends, len(text), weight)
        for t, value in zip(run, of_run, strict=True):
            earned[t] += value


def _by_bytes(tokenizer: Any, ids: list[int], decoded: str) -> list[int] | None:
    """Byte-level tokenizers (GPT-2, Llama 3, Qwen, ...): exact from the bytes of each token."""
    if not _is_byte_level(tokenizer):
        return None
    added, special = tokenizer.added_tokens_decoder, set(tokenizer.all_special_ids)
    special |= {token_id for token_id, token in added.items() if token.special}
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces = []
    for token_id, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        data = b"" if token_id in special or token is None else _token_bytes(token)
        pieces.append(decoder.decode(data))
    pieces.append(decoder.decode(b"", final=True))
    return _running_ends(pieces, decoded)


def _by_pieces(tokenizer: Any, ids: list[int], decoded: str) -> list[int] | None:
    """Any tokenizer: what a token adds to the text of the few tokens before it. Replacement characters at its end may be a
    character half written, so they do not count as complete until the text ends otherwise."""
    pieces, before, read, given = [], 0, 0, 0
    for token in range(len(ids)):
        known = tokenizer.decode(ids[before:read], skip_special_tokens=True)
        now = tokenizer.decode(ids[before : token + 1], skip_special_tokens=True)
        pieces.append(now.rstrip("\ufffd")[len(known) + given :])
        given += len(pieces[-1])
        if len(now) > len(known) and not now.endswith("\ufffd"):
            before, read, given = read, token + 1, 0
    return _running_ends([*pieces, decoded[sum(map(len, pieces)) :]], decoded)


def _by_prefixes(tokenizer: Any, ids: list[int], decoded: str) -> list[int]:
    """Any tokenizer, slowly: how much of the text each prefix of the ids already gives."""
    ends = []
    for token in range(len(ids)):
        prefix = tokenizer.decode(ids[: token + 1], skip_special_tokens=True)
        same = next((i for i, (a, b) in enumerate(zip(prefix, decoded, strict=False)) if a != b), None)
        ends.append(min(len(prefix), len(decoded)) if same is None else same)
    return [min(ends[token:]) for token in range(len(ends))]


def _running_ends(pieces: list[str], decoded: str) -> list[int] | None:
    """Cumulative lengths of the pieces, the last one (the flush) counted to the last token; None if they do not make
    up the text."""
    if "".join(pieces) != decoded:
        return None
    ends, total = [], 0
    for piece in pieces[:-1]:
        total += len(piece)
        ends.append(total)
    ends[-1] += len(pieces[-1])
    return ends


@lru_cache(maxsize=8)
def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return type(getattr(backend, "decoder", None)).__name__ == "ByteLevel"


def _token_bytes(token: str) -> bytes:
    """The bytes a byte-level token stands for; a token outside the byte alphabet stands for its own text."""
    table = _byte_table()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.encode("utf-8")


@lru_cache(maxsize=1)
def _byte_table() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the 68 others for the code points from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _asked(
    func: Callable, prompts: list, completions: list, columns: dict[str, list], counts: Sequence[int]
) -> list[list[Span] | None]:
    if callable(method := getattr(func, "spans", None)):
        return method(prompts, completions, **columns)
    if callable(method := getattr(func, "turn_rewards", None)):
        return _turns_told(func, method(prompts, completions, **columns), counts)
    return [None] * len(completions)


def _turns_told(func: Callable, said: Any, counts: Sequence[int]) -> list[list[Span] | None]:
    """What a `turn_rewards` method said, row by row (`counts`: turns of each); None where it cannot be read, which is said once."""
    rows = said if isinstance(said, (list, tuple)) and len(said) == len(counts) else [None] * len(counts)
    if rows is not said:
        _say_once(
            f"turn_rewards of {_name(func)!r} gave no list with one entry a completion; its value falls on the last turn"
        )
    told: list[list[Span] | None] = []
    for values, count in zip(rows, counts, strict=True):
        try:
            told.append(turn_spans(values, count))
        except ValueError as error:
            _say_once(f"turn_rewards of {_name(func)!r}: {error} The row's value falls on its last turn")
            told.append(None)
    return told


def _name(func: Callable) -> str:
    return getattr(func, "__name__", type(func).__name__)


def _say_once(message: str, about: str | None = None) -> None:
    """about: what stands for the message where it has numbers in it."""
    if (about or message) not in _told:
        _told.add(about or message)
        logger.warning("%s. Said once.", message)
