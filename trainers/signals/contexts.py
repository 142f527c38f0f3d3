"""Log-probs of given completions after other prompts, under the policy or another model.

Shapes: S tokens of context and completion, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainers.model.prompts import prompt_ids

Context = str | list | None


def context_ids(context: Context, trainer: Any) -> list[int]:
    """Token ids of a text, of a list of messages by the chat template, or of a list of ids as it is. Of a text that a tokenizer
    without an unknown token (the embedded default's) cannot spell, of what it can write of it.

    Raises:
        ValueError: it is none of them, or empty.
    """
    if isinstance(context, (list, tuple)) and context and all(isinstance(one, int) for one in context):
        return list(context)
    is_chat = isinstance(context, list) and context and all(isinstance(one, dict) for one in context)
    if not is_chat and not isinstance(context, str):
        raise ValueError(
            f"a context must be a text, a list of messages, a list of token ids or None, got {type(context).__name__}: {context!r:.80}"
        )
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    template = dict(getattr(trainer, "chat_template_kwargs", None) or {}) if is_chat else {}
    if is_chat and (own := getattr(trainer, "chat_template", None)) is not None:
        template["chat_template"] = own
    try:
        ids = prompt_ids(context, tokenizer, **template)
    except Exception as error:  # tokenizers raises a bare Exception where a piece has no id
        if is_chat or "Missing [UNK]" not in str(error):
            raise
        ids = prompt_ids(_writable(context, tokenizer), tokenizer)  # type: ignore[arg-type]
    if not ids:
        raise ValueError("a context has no token at all, and a completion cannot stand after nothing.")
    return list(ids)


def _writable(text: str, tokenizer: Any) -> str:
    pieces = sorted(tokenizer.get_vocab(), key=len, reverse=True)
    return "".join(re.findall("|".join(map(re.escape, pieces)), text))


def logps_after(trainer: Any, contexts: Sequence[Context], output: dict, model: Any = None) -> Tensor:
    """(B, T) log-probs of the completions of TRL's batch dict after these contexts, one for each row; NaN in rows whose context is
    None. At the sampling temperature, without gradient.

    Raises:
        ValueError: as `context_ids`; another number of contexts than rows; longer than the model reads; prompts with images.
    """
    rows, width = output["completion_ids"].shape
    if len(contexts) != rows:
        raise ValueError(
            f"{len(contexts)} contexts for {rows} rows: there must be one for each, None where there is none."
        )
    ids = [
        own if context is None else context_ids(context, trainer)
        for context, own in zip(contexts, _own(output), strict=True)
    ]
    policy = trainer.accelerator.unwrap_model(trainer.model)
    refuse_too_long(
        ids, output["completion_mask"], policy if model is None else trainer.accelerator.unwrap_model(model)
    )
    tokens_BS, mask_BS = after(ids, output["completion_ids"], output["completion_mask"], _pad(trainer))
    logps_BT = passed(trainer, tokens_BS, mask_BS, width, model)
    known_B = torch.tensor([context is not None for context in contexts], device=logps_BT.device)
    return logps_BT.masked_fill(~known_B[:, None], torch.nan)


def passed(trainer: Any, tokens_BS: Tensor, mask_BS: Tensor, width: int, model: Any = None) -> Tensor:
    """(B, width) log-probs of the last tokens under the policy or another model, in chunks, without gradient."""
    size = trainer.args.per_device_train_batch_size
    with torch.no_grad():
        if model is None:  # TRL's own way, whatever it has done to the policy
            return trainer._get_per_token_logps_and_entropies(
                trainer.model, tokens_BS, mask_BS, width, batch_size=size
            )[0]
        with trainer.accelerator.autocast():
            chunks = zip(tokens_BS.split(size), mask_BS.split(size), strict=True)
            return torch.cat([plain_logps(model, *chunk, width, trainer.temperature) for chunk in chunks])


def after(
    ids: Sequence[Sequence[int]], completion_ids: Tensor, completion_mask: Tensor, pad: int
) -> tuple[Tensor, Tensor]:
    """(B, S) tokens and mask of completions after other prompts, which are padded on the left."""
    left, device = {"batch_first": True, "padding_side": "left"}, completion_ids.device
    context_BS = pad_sequence([torch.tensor(one) for one in ids], padding_value=pad, **left).to(device)
    seen_BS = pad_sequence([torch.ones(len(one), dtype=torch.long) for one in ids], **left).to(device)
    return torch.cat([context_BS, completion_ids], dim=1), torch.cat([seen_BS, completion_mask.long()], dim=1)


def plain_logps(model: Any, tokens_BS: Tensor, mask_BS: Tensor, width: int, temperature: float) -> Tensor:
    """(b, width) by a forward pass that nobody has patched."""
    places_BS = (mask_BS.cumsum(dim=1) - 1).clamp(min=0)
    output = model(input_ids=tokens_BS, attention_mask=mask_BS, position_ids=places_BS, use_cache=False)
    logits_BTV = output.logits[:, -width - 1 : -1]
    logits_BTV = (logits_BTV if logits_BTV.dtype == torch.float64 else logits_BTV.float()) / temperature
    taken_BT = logits_BTV.gather(-1, tokens_BS[:, -width:, None]).squeeze(-1)
    return taken_BT - logits_BTV.logsumexp(dim=-1)


def _own(output: dict) -> list[list[int]]:
    pairs = zip(output["prompt_ids"], output["prompt_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in pairs]


def _pad(trainer: Any) -> int:
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    return tokenizer.pad_token_id or 0


def refuse_too_long(ids: Sequence[Sequence[int]], completion_mask: Tensor, model: Any) -> None:
    limit = longest_read(model)
    lengths = [len(one) + written for one, written in zip(ids, completion_mask.sum(dim=1).tolist(), strict=True)]
    if limit is not None and max(lengths, default=0) > limit:
        row = lengths.index(max(lengths))
        raise ValueError(
            f"a context of {len(ids[row])} tokens and its completion are {lengths[row]} tokens long, and the model reads {limit} "
            "(max_position_embeddings). Shorten the context, or return None for that row."
        )


def longest_read(model: Any) -> int | None:
    """How many tokens a model reads; None where it does not say."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return getattr(config, "max_position_embeddings", None)
