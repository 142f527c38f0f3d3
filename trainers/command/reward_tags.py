"""Do the rewards see the tags that they look for? Asked once, where tokenizer and rewards are at hand."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rewards.base import TextReward
from rewards.compose import parts_of, unguarded
from rewards.guard import callable_name
from rewards.text.opened import reads_tag
from trainers.model.prompts import Openings, opening_tags

_SHAPE = re.compile(r"</?[A-Za-z][\w:.-]*>|\[/?[A-Z][A-Z_]*\]|\N{WHITE LEFT-POINTING TRIANGLE}.*")
_ESCAPE = re.compile(r"\\(.)")


def check_special_tokens(rewards: Sequence[Callable], tokenizer: Any, name: str) -> None:
    """Raises ValueError where a reward looks for a special token of the tokenizer: completions are decoded without them. Of
    functions that are not from this package only tags count (`<think>`), since `</s>` may stand there to be removed."""
    control = set(tokenizer.special_tokens_map.values()) if hasattr(tokenizer, "special_tokens_map") else set()
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    for token in sorted(special | set(tokenizer.all_special_tokens)):
        for reward in rewards:
            tag_only = not all(_is_ours(part) for part in parts_of(reward))
            if tag_only and (token in control or not _SHAPE.fullmatch(token)):
                continue
            if looks_for(reward, token):
                raise ValueError(
                    f"The reward {callable_name(reward)!r} looks for {token}, which is a special token of {name}: completions "
                    "are decoded without special tokens, so it would never be seen. Have the reward look for another tag, or "
                    'make this one an ordinary token: in a copy of the model\'s folder, "special": false at its entries in '
                    "tokenizer.json and tokenizer_config.json, and out of any list of special tokens there."
                )


def opening_notes(
    rewards: Sequence[Callable], tokenizer: Any, prompts: Sequence[Any], template: Mapping[str, Any] | None = None
) -> list[str]:
    """Lines for the announcement: which tags the prompts open, and which functions look for one but are not handed it."""
    openings = Openings(tokenizer, template)
    opened = [text for text in map(openings, prompts) if text]
    if not opened:
        return []
    shown = ", ".join(repr(text) for text in list(dict.fromkeys(opened))[:3])
    lines = [
        f"opened   {len(opened)} of {len(prompts)} prompts end with {shown:.100}: rewards that read the tag count it"
    ]
    tags = {tag for text in opened for tag in opening_tags(text)}
    for reward in rewards:
        foreign = [part for part in parts_of(reward, into_whole_turns=False) if not _is_ours(part)]
        for tag in sorted(tags):
            if any(looks_for(part, tag) for part in foreign):
                lines.append(
                    f"         {callable_name(reward)} looks for {tag}, and is called with completions as TRL has them, without "
                    "it: see `opened_by_prompt` and whole_turn in docs/rewards.md"
                )
    return lines


def looks_for(reward: Any, token: str) -> bool:
    """Whether the text stands among what the reward was made with: its settings, patterns, and the constants of its code."""
    if any(reads_tag(part, token) for part in parts_of(reward)):
        return True
    return any(token in text or token in _ESCAPE.sub(r"\1", text) for text in _texts(reward, set()))


def _is_ours(part: Any) -> bool:
    return isinstance(part, TextReward)


def _texts(value: Any, seen: set[int], depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        return
    if id(value) in seen or depth > 6 or isinstance(value, (types.ModuleType, type)):
        return
    seen.add(id(value))
    for inner in _inside(unguarded(value)):
        yield from _texts(inner, seen, depth + 1)


def _inside(value: Any) -> list[Any]:
    if hasattr(value, "pattern") and isinstance(value.pattern, str):
        return [value.pattern]
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        return _of_function(value)
    if callable(value) and hasattr(value, "__dict__"):
        own = [] if type(value).__module__.startswith("rewards.") else [type(value).__call__]
        return [*vars(value).values(), *own]
    return []


def _of_function(function: types.FunctionType) -> list[Any]:
    """Constants of its code (but for the docstring), texts and patterns of its module that it names, what it closes over."""
    codes = list(_codes(function.__code__))
    constants = [each for code in codes for each in code.co_consts if isinstance(each, (str, tuple, frozenset))]
    if function.__doc__ in constants:
        constants.remove(function.__doc__)
    named = [function.__globals__.get(name) for code in codes for name in code.co_names]
    held = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    return [
        *constants,
        *(each for each in named if isinstance(each, (str, list, tuple)) or hasattr(each, "pattern")),
        *held,
    ]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
