"""Texts that reward functions meet: anything at all, and tags, boxes, numbers and JSON in any order."""

from hypothesis import strategies as st

PIECES = st.sampled_from(
    (
        *("<think>", "</think>", "<answer>", "</answer>", "<think", "a", " ", "\n", "4", "-3.5", "1,000", "1/2", "50%"),
        *(
            r"\boxed{",
            "}",
            r"\frac{1}{2}",
            "$",
            "####",
            "```json\n",
            "\n```\n",
            '{"a": 1}',
            "[",
            "é",
            "😀",
            "\x00",
            "(B)",
        ),
    )
)
mixed = st.lists(st.one_of(PIECES, PIECES, st.text(max_size=5)), max_size=14).map("".join)
texts = st.one_of(mixed, st.text(max_size=60))
