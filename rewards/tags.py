"""Tags: each once, in order, closed, not empty; partial credit for every rule kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rewards.base import SpanReward
from rewards.text.form import THINK_ANSWER, is_blank, marks
from rewards.text.spans import Span

RULES = ("open", "order", "close", "filled")
CREDITS = ("rules", "all")
OUTSIDE = ("any", "blank")


class tag_structure(SpanReward):
    """How well a text keeps to `<a>...</a> <b>...</b> ...`, with the tags in the order given.

    Four rules per tag:
        open    `<tag>` stands in the text, once;
        order   when it was first opened, every tag before it was closed and none after it was open;
        close   `</tag>` stands in the text, once, after `<tag>`;
        filled  between the first `<tag>` and the first `</tag>` there is more than white space and tags.
    Another spelling of a tag (`<Think>`, `<think >`) opens and closes nothing, but is one too many.

    Args:
        tags: bare names, in order.
        credit: "rules", the share of rules kept; "all", 1 where every rule is kept, else 0.
        outside: what may stand outside of the tags. "any" text; "blank", white space only, or `order` is broken: of
            the tag that text stands before, and of the last tag where text follows its closing.
        name: the name in the logs.

    Range: 0 to 1; an empty text scores 0.

    Spans: a rule's share stands at the tag that earned it, and is taken back at the tag (or the character after the last
    tag) that broke it again. Decided by the text so far, always.

    Raises:
        ValueError: no tags, a name twice or with angle brackets, an unknown credit or `outside`.
    """

    def __init__(
        self, tags: Sequence[str], *, credit: str = "rules", outside: str = "any", name: str = "tag_structure"
    ):
        tags = [tags] if isinstance(tags, str) else list(tags)
        self._marks = marks(tags)
        for setting, value, choices in (("credit", credit, CREDITS), ("outside", outside, OUTSIDE)):
            if value not in choices:
                raise ValueError(f"{setting}={value!r} is not one of {', '.join(choices)}.")
        self.tags, self.credit, self.outside, self.__name__ = tags, credit, outside, name

    def reads_tag(self, tag: str) -> bool:
        return tag in {mark for name in self.tags for mark in (f"<{name}>", f"</{name}>")}

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
        """(start, end, "tag: rule", +1 or -1) whenever the text makes a rule true or breaks it again."""
        opened, closed = dict.fromkeys(self.tags, 0), dict.fromkeys(self.tags, 0)
        ink, ink_at = 0, {}  # pieces of text that are not blank: so far, and when a tag was first opened
        closed_well: set[str] = set()  # tags whose first closing came after their first opening
        ordered: set[str] = set()
        before = 0  # where the mark before this one ended
        for start, end, tag, closing, exact in self._marks(text):
            blank = is_blank(text[before:start])
            ink, before = ink + (not blank), end
            count = closed if closing else opened
            count[tag] += 1
            if closing:
                if exact and count[tag] == 1 and tag in ink_at:
                    closed_well.add(tag)
                    yield start, end, f"{tag}: close", 1
                    if ink > ink_at[tag]:
                        yield start, end, f"{tag}: filled", 1
                    if tag in ordered and (after := self._text_after(tag, text, end)) is not None:
                        yield after, after + 1, f"{tag}: order", -1
                elif count[tag] == 2 and tag in closed_well:
                    yield start, end, f"{tag}: close", -1
            elif exact and count[tag] == 1:
                ink_at[tag] = ink
                yield start, end, f"{tag}: open", 1
                if self._in_order(tag, opened, closed_well) and (blank or self.outside == "any"):
                    ordered.add(tag)
                    yield start, end, f"{tag}: order", 1
            elif count[tag] == 2 and tag in ink_at:
                yield start, end, f"{tag}: open", -1

    def _in_order(self, tag: str, opened: dict[str, int], closed_well: set[str]) -> bool:
        place = self.tags.index(tag)
        before, after = self.tags[:place], self.tags[place + 1 :]
        return all(other in closed_well for other in before) and not any(opened[other] for other in after)

    def _text_after(self, tag: str, text: str, end: int) -> int | None:
        """Where text begins behind the closing of the last tag, if that is forbidden and there is some."""
        if self.outside == "any" or tag != self.tags[-1]:
            return None
        rest = text[end:]
        return None if is_blank(rest) else len(text) - len(rest.lstrip())


def think_answer(*, credit: str = "rules", name: str = "think_answer") -> tag_structure:
    """`<think>...</think>` and then `<answer>...</answer>` and nothing else, as in DeepSeek-R1 (arXiv 2501.12948,
    table 1); what is worth 1 is a well-formed answer (rewards/text/form.py), exactly.

    Args:
        credit: "rules": a share for every rule kept; "all": 1 or 0.
        name: the name in the logs.
    """
    return tag_structure(THINK_ANSWER, credit=credit, outside="blank", name=name)
