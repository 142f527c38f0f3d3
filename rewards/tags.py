"""Tags: each once, in order, closed, not empty; partial credit for every rule kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rewards.base import SpanReward
from rewards.spans import Span

RULES = ("open", "order", "close", "filled")
CREDITS = ("rules", "all")


class tag_structure(SpanReward):
    """How well a text keeps to `<a>...</a> <b>...</b> ...`, with the tags in the order given.

    Four rules per tag:
        open    `<tag>` stands in the text, once;
        order   when it was first opened, every tag before it was closed and none after it was open;
        close   `</tag>` stands in the text, once, after `<tag>`;
        filled  between the first `<tag>` and the first `</tag>` there is more than white space.
    Text outside the tags is free.

    Args:
        tags: bare names, in order.
        credit: "rules", the share of rules kept; "all", 1 where every rule is kept, else 0.
        name: the name in the logs.

    Range: 0 to 1; an empty text scores 0.

    Spans: a rule's share stands at the tag that earned it, and is taken back at the tag that broke it again (a second
    opening, a second closing). Decided by the text so far, always.

    Raises:
        ValueError: no tags, a name twice or with angle brackets, an unknown credit.
    """

    def __init__(self, tags: Sequence[str], *, credit: str = "rules", name: str = "tag_structure"):
        tags = [tags] if isinstance(tags, str) else list(tags)
        if not tags or len(set(tags)) != len(tags):
            raise ValueError(f"tags={tags} must be different names, at least one.")
        if any(not re.fullmatch(r"[\w:.-]+", tag) for tag in tags):
            raise ValueError(f"tags={tags}: give bare names such as think, without angle brackets.")
        if credit not in CREDITS:
            raise ValueError(f"credit={credit!r} is not one of {', '.join(CREDITS)}.")
        self.tags, self.credit, self.__name__ = tags, credit, name
        self._mark = re.compile(f"<(/?)({'|'.join(map(re.escape, tags))})>")

    def score(self, text: str) -> float:
        kept = sum(change for _, _, _, change in self._changes(text))
        total = len(RULES) * len(self.tags)
        return kept / total if self.credit == "rules" else float(kept == total)

    def parts(self, text: str) -> dict[str, float | None]:
        kept = {f"{tag}: {rule}": 0.0 for tag in self.tags for rule in RULES}
        for _, _, rule, change in self._changes(text):
            kept[rule] += change
        return dict(kept)

    def text_spans(self, text: str) -> list[Span]:
        total, kept, spans = len(RULES) * len(self.tags), 0, []
        for start, end, _, change in self._changes(text):
            if self.credit == "rules":
                spans.append(Span(start, end, change / total))
            elif total in (kept, kept + change):
                spans.append(Span(start, end, float(change)))
            kept += change
        return spans

    def _changes(self, text: str) -> Iterator[tuple[int, int, str, int]]:
        """(start, end, "tag: rule", +1 or -1) whenever a tag in the text makes a rule true or breaks it again."""
        opened, closed = dict.fromkeys(self.tags, 0), dict.fromkeys(self.tags, 0)
        opened_at: dict[str, int] = {}
        properly: set[str] = set()  # tags whose first closing came after their first opening
        for mark in self._mark.finditer(text):
            tag, (start, end) = mark.group(2), mark.span()
            if mark.group(1):
                closed[tag] += 1
                if closed[tag] == 1 and opened[tag]:
                    properly.add(tag)
                    yield start, end, f"{tag}: close", 1
                    if text[opened_at[tag] : start].strip():
                        yield start, end, f"{tag}: filled", 1
                elif closed[tag] == 2 and tag in properly:
                    yield start, end, f"{tag}: close", -1
            else:
                opened[tag] += 1
                if opened[tag] == 1:
                    opened_at[tag] = end
                    yield start, end, f"{tag}: open", 1
                    place = self.tags.index(tag)
                    before, after = self.tags[:place], self.tags[place + 1 :]
                    if all(other in properly for other in before) and not any(opened[other] for other in after):
                        yield start, end, f"{tag}: order", 1
                elif opened[tag] == 2:
                    yield start, end, f"{tag}: open", -1


def think_answer(*, credit: str = "rules", name: str = "think_answer") -> tag_structure:
    """`<think>...</think>` and then `<answer>...</answer>`, as in DeepSeek-R1 (arXiv 2501.12948, table 1)."""
    return tag_structure(("think", "answer"), credit=credit, name=name)
