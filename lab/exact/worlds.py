"""The worlds of the lab: each shows one way in which credit can be right or wrong. Rules: lab/exact/world.py.

Conversations of several turns stand in lab/exact/turn_worlds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from lab.exact.turn_worlds import chores, quarry, search
from lab.exact.world import END, Text, World


def _before(text: Text, settled: Callable[[Text], bool]) -> set[int]:
    """Positions up to and including the one that settles the outcome."""
    for position in range(len(text)):
        if settled(text[: position + 1]):
            return set(range(position + 1))
    return set(range(len(text)))


def delayed_key(length: int = 4) -> World:
    def reward(prompt: str, text: Text) -> float:
        return float(text[0] == prompt)

    return World(
        name="delayed_key",
        meaning="the first token must equal the key in the prompt; the rest is idle; fixed length",
        prompts=("a", "b"),
        actions=("a", "b"),
        reward=reward,
        deciding=lambda prompt, text: {0},
        max_length=length,
        tilt=lambda prompt, text: {} if text else {"a": 1.2},
        span_rewards=lambda prompt, text: [reward(prompt, text)] + [0.0] * (len(text) - 1),
    )


def umbrella(rounds: int = 2) -> World:
    """bsuite's umbrella chain: between the one choice that counts and the end, the sky adds noise to the reward."""
    sky = {"sun": 0.5, "rain": 0.5}

    def parts(prompt: str, text: Text) -> list[float]:
        right = 1.0 if text[0] == prompt else -1.0
        return [right] + [0.5 * {"sun": 1, "rain": -1}.get(token, 0) for token in text[1:]]

    return World(
        name="umbrella",
        meaning="only the first choice counts; random rewards fall between it and the end; fixed length",
        prompts=("take", "leave"),
        actions=("take", "leave"),
        reward=lambda prompt, text: sum(parts(prompt, text)),
        deciding=lambda prompt, text: {0},
        max_length=1 + 2 * rounds,
        observations=tuple(sky),
        observe=lambda prompt, text: sky if len(text) % 2 == 1 and len(text) < 2 * rounds else None,
        span_rewards=parts,
    )


def shares(decisions: int = 4, letters: str = "ab") -> World:
    """Many decisions, each with its own share of the reward (the task `doors` in small)."""

    def parts(prompt: str, text: Text) -> list[float]:
        return [float(a == b) / len(text) for a, b in zip(prompt, text, strict=True)]

    return World(
        name="shares",
        meaning="many decisions, the reward is the share that is right; fixed length",
        prompts=tuple(("abba" * decisions)[i : i + decisions] for i in range(2)),
        actions=tuple(letters),
        reward=lambda prompt, text: sum(parts(prompt, text)),
        deciding=lambda prompt, text: set(range(len(text))),
        max_length=decisions,
        span_rewards=parts,
    )


def all_or_nothing(decisions: int = 3, letters: str = "ab") -> World:
    def doomed(prompt: str, text: Text) -> bool:
        return text != tuple(prompt[: len(text)])

    return World(
        name="all_or_nothing",
        meaning="many decisions, all must be right; after the first mistake nothing matters; fixed length",
        prompts=tuple(("abba" * decisions)[i : i + decisions] for i in range(2)),
        actions=tuple(letters),
        reward=lambda prompt, text: float(text == tuple(prompt)),
        deciding=lambda prompt, text: _before(text, lambda prefix: doomed(prompt, prefix)),
        max_length=decisions,
        tilt=lambda prompt, text: {prompt[len(text)]: 0.7} if prompt == "abb" else {},
    )


def parity(length: int = 4) -> World:
    def reward(prompt: str, text: Text) -> float:
        return float(text[-1] == END and text.count("1") % 2 == int(prompt == "odd"))

    return World(
        name="parity",
        meaning="the number of ones must be even (odd) and the text must end in time; credit on every token",
        prompts=("even", "odd"),
        actions=("0", "1", END),
        reward=reward,
        deciding=lambda prompt, text: set(range(len(text))),
        max_length=length,
    )


def brackets(length: int = 5) -> World:
    def depth(text: Text) -> int:
        return text.count("(") - text.count(")")

    def doomed(text: Text) -> bool:
        below = any(depth(text[: i + 1]) < 0 for i in range(len(text)))
        open_left = depth(text) > 0
        if END in text:
            return below or open_left or text[0] == END
        # Closing what is open and ending must still fit.
        return below or len(text) + depth(text) + 1 > length

    return World(
        name="brackets",
        meaning="brackets must close and the text must end; credit up to the first error, none after it",
        prompts=("short", "long"),
        actions=("(", ")", END),
        reward=lambda prompt, text: float(not doomed(text)),
        deciding=lambda prompt, text: _before(text, doomed),
        max_length=length,
        tilt=lambda prompt, text: {"short": {END: 0.8, ")": 0.8}, "long": {"(": 0.8}}[prompt],
    )


def poison(length: int = 4) -> World:
    return World(
        name="poison",
        meaning="one token anywhere ruins the reward; short texts are safer, so the true gradient does push on length",
        prompts=("calm", "tempting"),
        actions=("a", "poison", END),
        reward=lambda prompt, text: float("poison" not in text),
        deciding=lambda prompt, text: _before(text, lambda prefix: "poison" in prefix),
        max_length=length,
        tilt=lambda prompt, text: {"poison": -0.8 if prompt == "calm" else 0.8},
    )


def filler(length: int = 4) -> World:
    """Length-neutral by construction: how long a text becomes does not depend on its first token."""
    return World(
        name="filler",
        meaning="the first token decides; filler of any length follows and does not matter; no true push on length",
        prompts=("yes", "no"),
        actions=("yes", "no", END),
        reward=lambda prompt, text: float(text[0] == prompt),
        deciding=lambda prompt, text: {0},
        max_length=length,
        min_length=1,
        tilt=lambda prompt, text: {END: 0.2 * len(text)} if text else {"yes": 1.0},
        noise=0.0,
    )


def coin(length: int = 3) -> World:
    """The reward is a coin thrown after the text: nothing deserves credit."""
    faces = {"heads": 0.5, "tails": 0.5}

    def written(text: Text) -> bool:
        return END in text or len(text) == length

    return World(
        name="coin",
        meaning="the reward is random; the true gradient is zero",
        prompts=("x", "y"),
        actions=("a", "b", END),
        reward=lambda prompt, text: float(text[-1] == "heads"),
        deciding=lambda prompt, text: set(),
        max_length=length + 1,
        observations=tuple(faces),
        observe=lambda prompt, text: faces if text and written(text) and text[-1] not in faces else None,
        vanishing=True,
    )


def two_turn() -> World:
    """Ask, read the tool's masked answer, then answer. Calling the tool with `a` makes it truthful."""

    def observe(prompt: str, text: Text) -> Mapping[str, float] | None:
        if not text or text[0] == END or text[-1].startswith("is:"):
            return None
        if len(text) == 1:
            return {"tool:a": 0.5, "tool:b": 0.5}
        if text[-1] == END or len(text) == 4:
            trust = {"plain": 0.95, "noisy": 0.75}[prompt] if text[0] == "a" else 0.5
            shown, other = ("is:a", "is:b") if text[1] == "tool:a" else ("is:b", "is:a")
            return {shown: trust, other: 1 - trust}
        return None

    def reward(prompt: str, text: Text) -> float:
        return float(len(text) > 2 and "is:" + text[2] == text[-1])

    return World(
        name="two_turn",
        meaning="two turns round a masked tool answer: a first call that makes the tool truthful, then the answer",
        prompts=("plain", "noisy"),
        actions=("a", "b", END),
        reward=reward,
        deciding=lambda prompt, text: {0, 2},
        max_length=5,
        observations=("tool:a", "tool:b", "is:a", "is:b"),
        observe=observe,
    )


def levels() -> World:
    tilts = {"easy": 2.0, "even": 0.0, "hard": -2.0}
    return World(
        name="levels",
        meaning="three prompts of very different difficulty, one deciding token, two tokens long",
        prompts=tuple(tilts),
        actions=("good", "bad"),
        reward=lambda prompt, text: float(text[0] == "good"),
        deciding=lambda prompt, text: {0},
        max_length=2,
        tilt=lambda prompt, text: {} if text else {"good": tilts[prompt]},
    )


def regex_tags(length: int = 4) -> World:
    """A format check of the rewards package: the text must be <a>x...</a>; in one prompt also 0.5 for any x.

    `span_rewards` are the reward's own spans, each at the token that decides it.
    """
    from rewards.format import regex_format

    form = regex_format(pattern=r"<a>x+</a>")

    def written(text: Text) -> str:
        return "".join(token for token in text if token != END)

    def scores(prompt: str, text: Text) -> tuple[float, float]:
        return form.score(written(text)), 0.5 * float("x" in text) if prompt == "helped" else 0.0

    def parts(prompt: str, text: Text) -> list[float]:
        token_of = [i for i, token in enumerate(text) if token != END for _ in token]
        values = [0.0] * len(text)
        for span in form.text_spans(written(text)):
            decided = max(span.start, span.end - 1)
            values[token_of[decided] if decided < len(token_of) else len(text) - 1] += span.value
        if prompt == "helped" and "x" in text:
            values[text.index("x")] += 0.5
        return values

    return World(
        name="regex_tags",
        meaning="a regular expression from the rewards package, tags in order; two reward functions",
        prompts=("bare", "helped"),
        actions=("<a>", "x", "</a>", END),
        reward=scores,
        deciding=lambda prompt, text: set(range(len(text))),
        max_length=length,
        tilt=lambda prompt, text: {("<a>", "x", "</a>", END)[len(text)]: 1.5},
        span_rewards=parts,
    )


def tiny() -> World:
    """Few enough texts that even strategies that couple a whole batch can be enumerated; lengths still differ."""
    small = replace(filler(2), name="tiny", min_length=0, noise=0.6)
    return replace(small, meaning="filler with at most two tokens, first included: whole batches can be enumerated")


def tiny_turn() -> World:
    """As tiny, with a decision on each token, so that credit differs along the row."""
    return World(
        name="tiny_turn",
        meaning="two decisions with a share each, the second may be skipped: credit differs along a row",
        prompts=("ab", "ba"),
        actions=("a", "b", END),
        reward=lambda prompt, text: sum(float(a == b) for a, b in zip(prompt, text, strict=False)) / 2,
        deciding=lambda prompt, text: set(range(len(text))),
        max_length=2,
        tilt=lambda prompt, text: {prompt[0]: 0.8} if not text and prompt == "ab" else {},
        span_rewards=lambda prompt, text: [float(a == b) / 2 for a, b in zip(prompt, text, strict=False)],
    )


CATALOGUE: dict[str, Callable[[], World]] = {
    make.__name__: make
    for make in (
        delayed_key,
        umbrella,
        shares,
        all_or_nothing,
        parity,
        brackets,
        poison,
        filler,
        coin,
        two_turn,
        levels,
        regex_tags,
        tiny,
        tiny_turn,
        quarry,
        search,
        chores,
    )
}


@cache
def world(name: str) -> World:
    """A world of the catalogue at its default size.

    Raises:
        ValueError: no such world; lists those there are.
    """
    if name not in CATALOGUE:
        raise ValueError(f"No world {name!r}. There is: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]()
