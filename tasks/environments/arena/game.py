"""A game of textarena for one player as an environment: one tool, the game's own outcome, and what each move brought.

textarena draws from Python's and numpy's global numbers and seeds them at every start. Here each game has numbers of its own, so
that it follows from its seed and its moves alone, and nobody else's draws change.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from userio.read import nearest

PAYS = ("progress", "outcome")
_VIEWS = (
    "-raw",
    "-train",
)  # of the same game, with wrappers that repeat the conversation; here the conversation is TRL's


class Arena:
    """One conversation: a game that `reset(seed, game)` begins and `play` goes on with.

    Args:
        settings: of each game by its name, as {"GuessTheNumber-v0": {"max_turns": 5}}.
        pays: "progress": a move earns by how much further it has brought the game, as the game itself counts, and the last one
            what is missing to the outcome; "outcome": the last move earns all. A game that does not count pays by outcome.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], pays: str = "progress"):
        self._settings, self._pays = settings, pays
        self.rewards: list[float] = []

    def reset(self, seed: int = 0, game: str | None = None, **row) -> str:
        self.rewards, self._earned = [], 0.0
        name = game or next(iter(self._settings))
        self._game = made_game(name, self._settings.get(name, {}))
        seed %= 2**32  # numpy takes no larger one
        self._numbers = random.Random(seed).getstate(), np.random.RandomState(seed).get_state()
        with self._own_numbers():
            self._game.reset(num_players=1, seed=seed)
        if not hasattr(self._game.state, "set_outcome"):  # textarena's state of a single player
            raise RuntimeError("it is a game for several players")
        return f"\n\n{self._shown()}"  # TRL puts it right behind the prompt

    def play(self, action: str) -> str:
        """Makes a move in the game.

        Args:
            action: the move, in the form that the rules ask for, as [up].

        Returns:
            what the game answers
        """
        if self._game.state.done:
            raise ValueError("The game is over.")
        with self._own_numbers():
            self._game.step(action if "[" in action or "]" in action else f"[{action}]")
            self.rewards.append(self._reached() - self._earned)
        self._earned += self.rewards[-1]
        return self._shown() or ("The game is over." if self._game.state.done else "")

    def _reached(self) -> float:
        """What the moves so far have earned together."""
        if self._game.state.done:
            outcome = (self._game.close()[0] or {}).get(0)
            if isinstance(outcome, bool) or not isinstance(outcome, (int, float, np.number)):
                raise RuntimeError(f"the game says that its reward is {outcome!r}")
            return float(outcome)
        counts = getattr(self._game, "_get_percentage_completion", None)
        return float(counts()) if self._pays == "progress" and counts is not None else 0.0

    def _shown(self) -> str:
        """What the game has said since it was last asked."""
        with self._own_numbers():
            _, said = self._game.get_observation()
        own = type(said[0][2]).PLAYER_ACTION if said else None
        texts = [text for _, text, kind in said if kind is not own]
        if self._game.state.done:
            texts += [reason] if (reason := self._game.state.game_info[0].get("reason")) else []
        return "\n\n".join(map(str, texts))

    @contextmanager
    def _own_numbers(self) -> Iterator[None]:
        outside = random.getstate(), np.random.get_state()
        random.setstate(self._numbers[0])
        np.random.set_state(self._numbers[1])
        try:
            yield
        finally:
            self._numbers = random.getstate(), np.random.get_state()
            random.setstate(outside[0])
            np.random.set_state(outside[1])


def game_names() -> list[str]:
    """Every game that textarena knows, for any number of players.

    Raises:
        ValueError: textarena is not installed.
    """
    return sorted({_plain(name) for name in _registry()})


def made_game(name: str, settings: Mapping[str, Any]) -> Any:
    """The game without wrappers.

    Raises:
        ValueError: no such game or setting (with the nearest name), or textarena cannot make it.
    """
    known = _registry()
    if (wanted := _plain(name)) not in known:
        raise ValueError(f"task.name={name}: textarena has no such game.{nearest(name, game_names())}")
    import textarena

    try:
        game = textarena.make(wanted, **settings)
        while isinstance(game, textarena.Wrapper):
            game = game.env
    except Exception as error:
        raise ValueError(_unmade(name, known[wanted], settings, error)) from error
    _silence(type(game).__module__.rpartition(".")[0])
    return game


def _unmade(name: str, spec: Any, settings: Mapping[str, Any], error: Exception) -> str:
    takes = _parameters(spec.entry_point)
    if takes and (strange := [key for key in settings if key not in takes]):
        return f"task.settings: the game {name} has no setting {strange[0]!r}; it has {', '.join(takes)}.{nearest(strange[0], takes)}"
    first = next((line.strip() for line in str(error).splitlines() if line.strip(" *")), type(error).__name__)
    if isinstance(error, LookupError):  # of nltk
        return (
            f"task.name={name}: the game needs word lists of nltk ({first}) Fetch them once: "
            "python -m nltk.downloader words averaged_perceptron_tagger_eng."
        )
    return f"task.name={name}: textarena cannot make the game here: {first}"


def _parameters(entry_point: Any) -> list[str]:
    module, _, kind = str(entry_point).partition(":")
    made = getattr(sys.modules.get(module), kind, None)
    return [] if made is None else [name for name in inspect.signature(made).parameters if name != "self"]


def _registry() -> Mapping[str, Any]:
    try:
        from textarena.envs.registration import ENV_REGISTRY
    except ImportError as error:
        raise ValueError("task=textarena needs the package textarena: pip install textarena") from error
    return ENV_REGISTRY


def _plain(name: str) -> str:
    for view in _VIEWS:
        name = name.removesuffix(view)
    return name


def _silence(package: str) -> None:
    """Some games print while they count. A module's own name `print` comes before Python's."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{package}."):
            module.__dict__["print"] = _say_nothing


def _say_nothing(*_: Any, **__: Any) -> None: ...
