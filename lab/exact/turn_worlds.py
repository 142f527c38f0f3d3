"""Worlds of several turns, whose number depends on what the policy does, with random answers and rewards on the way.

Between the turns the environment writes masked tokens, as a tool does. What a turn earned is settled
when the next one begins.
"""

from __future__ import annotations

from collections.abc import Mapping

from lab.exact.world import END, Text, World


def quarry(digs: int = 3) -> World:
    """Dig or stop. Digging costs something and may find a gem: how often to dig is the only question."""
    luck = {"rich": 0.7, "poor": 0.2}

    def observe(prompt: str, text: Text) -> Mapping[str, float] | None:
        return {"gem": luck[prompt], "dust": 1 - luck[prompt]} if text and text[-1] == "dig" else None

    def earned(prompt: str, text: Text) -> list[float]:
        return [{"dig": -0.2, "gem": 0.5}.get(token, 0.0) for token in text]

    return World(
        name="quarry",
        meaning="one to four turns: each dig costs and may find a gem, stopping earns nothing; the number of turns is the choice",
        prompts=tuple(luck),
        actions=("dig", END),
        reward=lambda prompt, text: sum(earned(prompt, text)),
        deciding=lambda prompt, text: {i for i, token in enumerate(text) if token in ("dig", END)},
        max_length=2 * digs,
        observations=("gem", "dust"),
        observe=observe,
        span_rewards=earned,
        answer=lambda prompt, text: "dig" if 0.5 * luck[prompt] > 0.2 else END,
    )


def search(calls: int = 3) -> World:
    """Find a hidden number of 1, 2, 3; each call is answered by low, high or the end of the conversation."""
    priors = {"fair": (1 / 3, 1 / 3, 1 / 3), "skewed": (0.6, 0.3, 0.1)}

    def possible(prompt: str, text: Text) -> dict[int, float]:
        """Weight of each number that agrees with the answers so far; a call not yet answered says nothing."""
        weights = dict(zip((1, 2, 3), priors[prompt], strict=True))
        for call, answer in zip(text[0::2], text[1::2], strict=False):
            fits = {"low": lambda n, c=int(call): n > c, "high": lambda n, c=int(call): n < c}.get(answer)
            weights = {n: w for n, w in weights.items() if fits is None or fits(n)}
        return weights

    def hidden(prompt: str, text: Text) -> str:
        """The number that was hit; of those that are left the likeliest, had none been."""
        return text[-2] if text[-1] == END else str(max((weights := possible(prompt, text)), key=weights.__getitem__))

    def observe(prompt: str, text: Text) -> Mapping[str, float] | None:
        if len(text) % 2 == 0 or text[-1] == END:
            return None
        weights, call = possible(prompt, text), int(text[-1])
        parts = {"low": [n for n in weights if n > call], "high": [n for n in weights if n < call], END: [call]}
        total = sum(weights.values())
        chances = {answer: sum(weights.get(n, 0.0) for n in numbers) / total for answer, numbers in parts.items()}
        return {answer: chance for answer, chance in chances.items() if chance > 0}

    def earned(prompt: str, text: Text) -> list[float]:
        return [1.0 if token == END else -0.2 if i % 2 == 0 else 0.0 for i, token in enumerate(text)]

    return World(
        name="search",
        meaning="one to three turns: find a number by calls that answer low or high; each call costs, a hit ends the conversation",
        prompts=tuple(priors),
        actions=("1", "2", "3"),
        reward=lambda prompt, text: sum(earned(prompt, text)),
        deciding=lambda prompt, text: {i for i in range(len(text)) if i % 2 == 0},
        max_length=2 * calls,
        observations=("low", "high", END),
        observe=observe,
        span_rewards=earned,
        answer=hidden,
    )


def chores(number: int = 3) -> World:
    """Independent chores, the second of which does not matter; the policy may leave before the last."""
    worth = [0.5 if k != 1 else 0.0 for k in range(number)]

    def shown(prompt: str) -> Mapping[str, float]:
        return {"ask:x": 0.5, "ask:y": 0.5} if prompt == "even" else {"ask:x": 0.9, "ask:y": 0.1}

    def earned(prompt: str, text: Text) -> list[float]:
        return [worth[i // 2] if i % 2 == 1 and f"ask:{token}" == text[i - 1] else 0.0 for i, token in enumerate(text)]

    return World(
        name="chores",
        meaning="one to three turns, each after a random question: chores of their own, one of which earns nothing; leaving ends it",
        prompts=("even", "odd"),
        actions=("x", "y", END),
        reward=lambda prompt, text: sum(earned(prompt, text)),
        deciding=lambda prompt, text: {i for i, token in enumerate(text) if not token.startswith("ask:")},
        max_length=2 * number,
        observations=("ask:x", "ask:y"),
        observe=lambda prompt, text: (
            shown(prompt) if len(text) % 2 == 0 and END not in text and len(text) < 2 * number else None
        ),
        span_rewards=earned,
    )
