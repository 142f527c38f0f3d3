"""Whole conversations as tokens with a mask of the assistant's, for chat templates that do not mark its turns themselves.

TRL learns the assistant's turns where the template has `{% generation %}` marks, or is one that it knows. Any other template
is asked here: what it writes for the conversation up to an answer, and up to its end, says where the answer stands.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template

from tasks.base import Row

_REMEDY = (
    "Give a template that marks the assistant's turns by {% generation %} (model.chat_template=my_template.jinja), or learn "
    "every token of the conversations: trainer.assistant_only_loss=false."
)


def is_marked(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether TRL finds the assistant's turns by itself."""
    try:
        get_training_chat_template(tokenizer)
    except ValueError:
        return False
    return True


def masked_rows(rows: list[Row], tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """{"messages": ...} -> {"input_ids": ..., "assistant_masks": ...}, which TRL takes as they are; 1 where a token belongs to an
    answer, its end included.

    Raises:
        ValueError: no chat template, a tokenizer that does not say where its tokens stand, or a template that writes an
            answer otherwise once the conversation goes on.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            "the tokenizer has no chat template, which conversations need: model.chat_template=my_template.jinja"
        )
    if not tokenizer.is_fast:
        raise ValueError(f"this tokenizer does not say where its tokens stand in a text. {_REMEDY}")
    return [_masked(row["messages"], tokenizer, row.get("chat_template_kwargs") or {}) for row in rows]


def _masked(messages: list[dict], tokenizer: PreTrainedTokenizerBase, template: dict[str, Any]) -> Row:
    text = _rendered(messages, tokenizer, template)
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _rendered(messages[:number], tokenizer, template, asks=True) if number else ""
        after = _rendered(messages[: number + 1], tokenizer, template)
        if not (text.startswith(after) and after.startswith(before)):
            raise ValueError(
                "the chat template writes an answer otherwise once the conversation goes on, e.g. "
                f"{message['content']!r:.80}, so that its tokens cannot be told from the others. {_REMEDY}"
            )
        spans.append((len(before), _end(after, tokenizer)))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    mask = [int(any(start < high and end > low for low, high in spans)) for start, end in encoded["offset_mapping"]]
    return {"input_ids": list(encoded["input_ids"]), "assistant_masks": mask}


def _rendered(messages: list[dict], tokenizer: Any, template: dict[str, Any], asks: bool = False) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks, **template)


def _end(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Where the answer at the end of a text ends: behind its end-of-text token, whose line break belongs to what follows."""
    bare = text.rstrip()
    closing = [token for token in tokenizer.all_special_tokens if token and bare.endswith(token)]
    return len(bare) if closing else len(text)
