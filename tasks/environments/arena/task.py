"""A task of games of the package textarena, by their names.

accelerate launch train_grpo.py model=hf model.name=Qwen/Qwen3-0.6B task=textarena task.name=GuessTheNumber-v0 credit=turns
accelerate launch train_grpo.py experiment=textarena
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewards.guard.clock import run_within
from tasks.base import Task
from tasks.environments.arena.game import PAYS, Arena, made_game
from tasks.environments.earned import EnvironmentReward
from tasks.environments.guarded import guard_environment
from tasks.environments.task import row_of_seed
from userio.read import nearest

PROMPT = "Play this game. Make each of your moves by calling the tool play; the game answers."


def textarena(
    name: str | list[str],
    settings: Mapping[str, Any] | None = None,
    pays: str = "progress",
    prompt: str | None = None,
    n_train: int = 1024,
    n_eval: int = 64,
    seed: int = 0,
    timeout: float | None = 30.0,
) -> Task:
    """Games for one player, played by calls of one tool, whose outcome is the reward.

    Args:
        name: of the game there, as GuessTheNumber-v0; a list of them shares the conversations out.
        settings: of that game, as {max_turns: 5}; of several, a mapping for each name.
        pays: progress: a move earns by how much further it has brought the game, as the game itself counts, and the last one what
            is missing to the outcome; outcome: the last move earns all.
        prompt: the user's message, behind which the game puts its rules; null: that moves are made by calling the tool play.
        n_train, n_eval: games to train and to evaluate on; each has a seed of its own.
        seed: which games they are. Not the run's seed: every run sees the same games.
        timeout: seconds that one move may take; null: no limit.

    Raises:
        ValueError: the package is missing, no such game or setting (with the nearest name), a game that one player cannot play,
            sizes out of range.
    """
    if n_train < 1 or n_eval < 0:
        raise ValueError(f"task.n_train={n_train} must be at least 1, and task.n_eval={n_eval} at least 0.")
    if pays not in PAYS:
        raise ValueError(f"task.pays={pays}: choose one of {', '.join(PAYS)}.{nearest(pays, PAYS)}")
    names = [name] if isinstance(name, str) else list(name)
    each = _settings_of(names, dict(settings or {}))

    def make() -> Arena:
        return guard_environment(Arena(each, pays), timeout)

    rows = [
        row_of_seed(PROMPT if prompt is None else prompt, seed, number) | {"game": names[number % len(names)]}
        for number in range(n_train + n_eval)
    ]
    counted = [_tried(game, each[game], rows[0]["seed"], timeout) for game in names]
    return Task(
        name="_".join(game.lower() for game in names)[:60],
        train=rows[:n_train],
        evaluation=rows[n_train:],
        reward_funcs=[EnvironmentReward(name="game", seconds=timeout)],
        reward_weights=[1.0],
        environment=make,
        about=tuple(
            f"game     {game}: a move earns {'its progress' if counts and pays == 'progress' else 'nothing, the last one the outcome'}"
            for game, counts in zip(names, counted, strict=True)
        ),
    )


def _settings_of(names: list[str], settings: dict[str, Any]) -> dict[str, dict]:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"task.name={names}: name a game, or a list of different ones.")
    if len(names) == 1 and names[0] not in settings:
        return {names[0]: settings}
    if strange := [key for key in settings if key not in names or not isinstance(settings[key], Mapping)]:
        raise ValueError(
            f"task.settings.{strange[0]}: with several games give a mapping for each, as task.settings={{{names[0]}: {{max_turns: 5}}}}."
        )
    return {name: dict(settings.get(name, {})) for name in names}


def _tried(name: str, settings: dict[str, Any], seed: int, timeout: float | None) -> bool:
    """Whether the game counts its progress, after one was begun."""
    game = made_game(name, settings)
    try:
        run_within(timeout, lambda: Arena({name: settings}).reset(seed))
    except Exception as error:
        raise ValueError(
            f"task.name={name}: one player cannot begin this game ({str(error) or type(error).__name__}). Choose one for a single "
            "player, such as GuessTheNumber-v0, Mastermind-v0, Minesweeper-v0, FrozenLake-v0 or Sudoku-v0-easy."
        ) from error
    return callable(getattr(game, "_get_percentage_completion", None))
