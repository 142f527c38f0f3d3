"""Games of textarena: a game follows from its seed and its moves, and what the moves earned is its outcome."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytest.importorskip("textarena", reason="the extra `arena`")

from compare.records import find_records, read_record
from support.models_saved import call, save_player
from tasks.environments.arena.game import PAYS, Arena, game_names
from tasks.environments.arena.task import textarena
from tasks.environments.notes import notes_of
from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema, run_grpo

MOVES = {
    "GuessTheNumber-v0": [f"[{number}]" for number in range(1, 21)],
    "Mastermind-v0": ["1 2 3 4", "[2 3 4 5]", "[6 5 4 3]", "[1 3 5 6]"],
    "FrozenLake-v0": ["[up]", "[down]", "[left]", "[right]", "nowhere"],
    "TowerOfHanoi-v0": ["[A B]", "[A C]", "[B C]", "[C A]"],
    "2048-v0-3x3": ["[up]", "[down]", "[left]", "[right]"],
    "Bandit-v0": ["[red]", "[blue]"],  # does not count its progress
}


def played(name: str, seed: int, pays: str = "progress", moves: int = 30, between=lambda: None) -> tuple[Arena, list]:
    """A game played at random, and all that was said in it."""
    chance, arena = random.Random(seed), Arena({name: {}}, pays)
    said = [arena.reset(seed)]
    for _ in range(moves):
        if not arena._game.state.done:
            between()
            said.append(arena.play(chance.choice(MOVES[name])))
    return arena, said


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_earned_is_the_outcome_and_both_ways_of_paying_agree_on_it(name):
    over = 0
    for seed in range(6):
        arenas = {pays: played(name, seed, pays)[0] for pays in PAYS}
        for arena in arenas.values():
            state = arena._game.state
            if state.done:
                assert sum(arena.rewards) == pytest.approx(state.rewards[0], abs=1e-9)
                over += 1
        if arenas["outcome"]._game.state.done:
            assert not any(arenas["outcome"].rewards[:-1])
        else:
            assert not any(arenas["outcome"].rewards)
        if arenas["progress"]._game.state.done:
            with pytest.raises(ValueError, match="over"):
                arenas["progress"].play("[1]")
    assert over or name in ("TowerOfHanoi-v0", "2048-v0-3x3"), "no game ended, so nothing was compared"


def test_progress_pays_before_the_end_where_the_game_counts_it():
    early = [played("GuessTheNumber-v0", seed, moves=2)[0].rewards for seed in range(6)]
    assert sum(map(any, early)) > 3


@pytest.mark.parametrize("name", ["2048-v0-3x3", "Bandit-v0"])
def test_a_game_draws_from_numbers_of_its_own(name):
    """textarena seeds Python's global numbers and draws from them; 2048 does so at every move."""
    _, alone = played(name, 3)
    random.seed(7)
    np.random.seed(7)
    other = Arena({name: {}})
    other.reset(4)
    _, disturbed = played(name, 3, between=lambda: (random.random(), np.random.random(), other.reset(5)))
    assert disturbed == alone != played(name, 4)[1]
    after = random.random(), np.random.random()
    random.seed(7)
    np.random.seed(7)
    for _ in range(len(alone) - 1):
        random.random(), np.random.random()
    assert after == (random.random(), np.random.random())


def test_a_list_of_games_shares_the_conversations_out():
    task = textarena(["GuessTheNumber-v0", "Mastermind-v0"], n_train=5, n_eval=1, pays="outcome")
    assert [row["game"] for row in task.train] == ["GuessTheNumber-v0", "Mastermind-v0"] * 2 + ["GuessTheNumber-v0"]
    assert len({row["seed"] for row in (*task.train, *task.evaluation)}) == 6
    environment = task.environment()
    for row, word in zip(task.train, ["Guess", "Mastermind"], strict=False):
        assert word in environment.reset(**row) and notes_of(environment).fault is None


def test_settings_reach_the_game():
    task = textarena("GuessTheNumber-v0", {"max_number": 3, "max_turns": 2}, n_train=1, n_eval=0)
    assert "between 1 and 3 within 2 turns" in task.environment().reset(**task.train[0])


@pytest.mark.parametrize(
    "given, words",
    [
        ({"name": "GuessTheNumbr-v0"}, r"no such game\. Did you mean 'GuessTheNumber-v0'"),
        ({"settings": {"max_turn": 3}}, r"max_turn.*max_number.*Did you mean 'max_turns'"),
        ({"name": "TicTacToe-v0"}, "one player cannot begin this game.*GuessTheNumber-v0"),
        ({"pays": "progres"}, "Did you mean 'progress'"),
        ({"name": []}, "name a game"),
        ({"n_train": 0}, "n_train"),
        ({"name": ["Bandit-v0", "Mastermind-v0"], "settings": {"max_turns": 3}}, "a mapping for each"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_remedy(given, words):
    with pytest.raises(ValueError, match=words):
        textarena(**{"name": "GuessTheNumber-v0", "n_train": 2, "n_eval": 0, **given})


def test_names_are_those_of_games_not_of_their_views():
    assert "GuessTheNumber-v0" in game_names() and not [name for name in game_names() if name.endswith("-raw")]


@pytest.mark.slow
def test_the_recipe_plays_in_trls_loop_with_a_model_folder_that_calls_tools(tmp_path, capsys):
    pytest.importorskip("jmespath")
    folder = save_player(tmp_path / "player", [call("play", action=f"[{number}]") for number in range(1, 21)])
    few = [
        "trainer.max_steps=2",
        "trainer.per_device_train_batch_size=8",
        "trainer.num_generations=4",
        "record.every=1",
    ]
    few += ["trainer.gradient_accumulation_steps=1", "task.n_eval=4", f"run_dir={tmp_path / 'run'}"]
    register_schema()
    run_grpo(compose_command("train_grpo", ["experiment=textarena", f"model.name={folder}", *few]))
    rows = [row for file in find_records(tmp_path / "run").values() for row in read_record(file)]
    assert len(rows) == 16 and max(sum(number != 0 for number in row["turn_rewards"]) for row in rows) > 1
    for row in rows:
        assert sum(row["turn_rewards"]) == pytest.approx(row["reward"], abs=1e-6)
    assert len({row["reward"] for row in rows}) > 4 and "The target number is" in capsys.readouterr().out
