"""Environments in TRL's own tool loop: what turns earned reaches the strategy, and a fault costs its row and nothing else."""

from __future__ import annotations

import inspect
import random

import numpy as np
import pytest
import torch
from trl import GRPOTrainer

from compare.records import find_records, read_record
from compare.view.data import credit_of
from configs.compose import named_strategy
from credit import Strategy, weight
from credit.turns.index import turn_counts, turn_index
from rewards.text.turns import turns_of
from support.ranks.environments import COUNT, DIALOGUE, Broken, Paid, costs_its_rows_and_nothing_else, trainer
from support.resumed import goes_on_from_everywhere
from support.runs import RANKS, run_ranks
from tasks.environments.earned import EnvironmentReward
from tasks.environments.notes import notes_of
from trainers.run.recording import CreditRecords
from trainers.run.records import Recorder

pytest.importorskip("jmespath", reason="TRL's tools need it: the extra `tools`")
pytestmark = pytest.mark.skipif(
    "environment_factory" not in inspect.signature(GRPOTrainer.__init__).parameters,
    reason="this trl has no environments",
)


def test_what_turns_earned_reaches_the_strategy_at_both_stages(tmp_path):
    scored, seen = [], []

    def watching(turn_rewards_BT, turn_BT, state_BT, finished_B, visible_BT, mask_BT, rewards_B):
        scored.append(
            {"rewards_B": rewards_B, "turn_rewards_BT": turn_rewards_BT, "turn_BT": turn_BT, "mask_BT": mask_BT}
        )
        scored[-1] |= {"state_BT": state_BT, "finished_B": finished_B, "visible_BT": visible_BT}
        return turn_rewards_BT

    def ratio(policy_logps_BT, sampler_logps_BT, turn_rewards_BT, turn_BT):
        seen.append((turn_rewards_BT, turn_BT))
        return policy_logps_BT - sampler_logps_BT

    made = trainer(
        tmp_path, Paid, Strategy(weight.constant, spread=watching, ratio=ratio), max_steps=2, save_strategy="no"
    )
    keys = []

    def note(trainer, scoring):
        # A state for each call and one before; trl 1.8 does not end a turn at a call, so that turns may hold several.
        calls = [[len(turn.calls) for turn in turns_of(completion)] for completion in scoring.completions]
        states = [notes_of(environment).states for environment in trainer.environments]
        keys.append([[row[sum(of[:k])] for k in range(len(of))] for row, of in zip(states, calls, strict=True)])

    made.scoring_observers.append(note)
    made.add_callback(CreditRecords(Recorder(tmp_path / "records", every=1)))
    made.train()
    assert len(scored) == 2 and len(seen) == 2
    for step, batch in enumerate(scored, 1):
        rows = read_record(find_records(tmp_path)[step])
        recorded = [[number for number in row["turn_rewards"] if number] for row in rows]
        told = [[number for number in row.tolist() if number] for row in batch["turn_rewards_BT"]]
        assert sorted(recorded) == sorted(told) and any(len(row) > 1 for row in told)
        assert [sum(row["span_rewards"]) for row in rows] == pytest.approx([row["reward"] for row in rows], abs=1e-6)
    for batch, live, states in zip(scored, seen, keys, strict=True):
        turn_BT, mask_BT = batch["turn_BT"], batch["mask_BT"]
        assert torch.equal(turn_BT, turn_index(mask_BT)) and turn_counts(turn_BT).max() > 1
        torch.testing.assert_close(batch["turn_rewards_BT"].sum(dim=1), batch["rewards_B"], rtol=0, atol=1e-6)
        assert (batch["turn_rewards_BT"] != 0).sum() > len(mask_BT), "only one turn of each row earns anything"
        assert (batch["visible_BT"] & ~mask_BT).any() and not (mask_BT & ~batch["visible_BT"]).any()
        assert torch.equal(batch["state_BT"] == -1, ~mask_BT)
        for row in range(len(mask_BT)):
            began = [int(batch["state_BT"][row][turn_BT[row] == k][0]) for k in range(int(turn_counts(turn_BT)[row]))]
            assert began == states[row][: len(began)]  # a last turn without tokens is none
        assert live[0].shape == mask_BT.shape and live[0].sum() == pytest.approx(
            float(batch["turn_rewards_BT"].sum()), abs=1e-5
        )
        assert sorted(live[1].amax(dim=1).tolist()) == sorted(turn_BT.amax(dim=1).tolist())


def test_several_calls_of_one_turn_are_paid_at_the_turn_that_made_them(tmp_path):
    """On every trl: two calls in the first turn, one in the second, and in every other row two more, which are one too many."""
    scored = []

    def watching(turn_rewards_BT, turn_BT, rewards_B):
        scored.append((turn_rewards_BT, turn_BT, rewards_B))
        return turn_rewards_BT

    made = trainer(tmp_path, credit=Strategy(weight.constant, spread=watching), max_steps=1, save_strategy="no")
    tokens = {word: made.processing_class.convert_tokens_to_ids(word) for word in ("<eos>", *DIALOGUE.calls)}
    zero, one, over = tokens[DIALOGUE.call(0)], tokens[DIALOGUE.call(1)], tokens["<eos>"]
    pairs = [[first, second, over] for first in (zero, one) for second in (zero, one)]
    turns = [pairs * 2, [[one, over], [zero, one, over]] * 4, [[over]] * 8]
    made._generate_single_turn = lambda prompt_ids, *rest, **more: (turns.pop(0), None)
    noted, prompts = [], []
    made.scoring_observers.append(lambda trainer, scoring: prompts.extend(row["prompt"] for row in scoring.rows))
    made.scoring_observers.append(
        lambda trainer, scoring: noted.extend([list(env.rewards) for env in trainer.environments])
    )
    made.train()
    (turn_rewards_BT, turn_BT, rewards_B) = scored[0]
    assert not turns and torch.equal(turn_counts(turn_BT), torch.full((8,), 3))
    for row, rewards in enumerate(noted):
        assert (
            len(rewards) == COUNT
        )  # the call beyond the last errand was answered with a ValueError and earned nothing
        by_turn = [float(turn_rewards_BT[row][turn_BT[row] == k].sum()) for k in range(3)]
        assert by_turn == pytest.approx([rewards[0] + rewards[1], rewards[2], 0.0], abs=1e-6) and rewards_B[
            row
        ] == pytest.approx(sum(rewards))
    assert len({tuple(rewards) for rewards in noted}) > 2, "one row is like another"
    assert prompts == [[{"role": "user", "content": "start"}]] * 8, "what reset returned was written into the data"


def test_a_hostile_environment_costs_its_rows_and_is_counted(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("tasks.environments.notes._told", set())  # said once a process
    costs_its_rows_and_nothing_else(tmp_path, 36)
    assert "no reset today" in caplog.text


@pytest.mark.slow
def test_on_two_ranks_it_costs_its_rows_too_a_run_goes_on_and_all_stop_together(tmp_path):
    run_ranks(RANKS / "environments.py", tmp_path)


def test_an_environment_that_always_goes_wrong_ends_the_run_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"server is down.*Mend the environment"):
        trainer(
            tmp_path, Broken, max_steps=8, save_strategy="no", per_device_train_batch_size=16, num_generations=4
        ).train()


def test_a_run_with_an_environment_goes_on_from_its_checkpoints(tmp_path):
    goes_on_from_everywhere(lambda folder: trainer(folder, Paid), tmp_path, 8, cuts=[3])


def _turns_logged(made) -> list[dict[str, float]]:
    """What the optimiser steps of a run say of turns."""
    kinds = ("credit/turn", "credit/earned", "credit/idle")
    rows = [{key: value for key, value in row.items() if key.startswith(kinds)} for row in made.state.log_history]
    return [row for row in rows if row]


def test_what_turns_earned_is_logged_of_a_strategy_that_does_not_read_it_and_changes_nothing(tmp_path, monkeypatch):
    runs = []
    for knows in (True, False):
        monkeypatch.setattr(EnvironmentReward, "knows_turns", knows)
        made = trainer(tmp_path / str(knows), Paid, "dr_grpo", max_steps=1, save_strategy="no")
        made.train()
        runs.append((_turns_logged(made), [row["reward"] for row in made.state.log_history if "reward" in row], made))
    (told, rewards, one), (untold, _, other) = runs
    for name, value in one.model.named_parameters():
        assert torch.equal(value, dict(other.model.named_parameters())[name]), name
    for row, less, reward in zip(told, untold, rewards, strict=True):
        assert sum(value for key, value in row.items() if "earned" in key) == pytest.approx(reward, abs=1e-6)
        assert 0 < row["credit/idle_turns"] < 1  # outcome-only credit goes to every turn alike
        assert {key: value for key, value in row.items() if "earned" not in key and "idle" not in key} == less


def test_turns_are_counted_the_same_however_the_batch_is_cut(tmp_path):
    said = []
    for size in (8, 4):
        made = trainer(
            tmp_path / str(size),
            Paid,
            max_steps=1,
            save_strategy="no",
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
        )
        made.add_callback(CreditRecords(Recorder(tmp_path / str(size) / "records", every=1)))
        made.train()
        said += _turns_logged(made)
        rows = read_record(find_records(tmp_path / str(size))[1])
        again, _ = credit_of(named_strategy("turns"), rows)  # what the viewer makes of the record is what the loss used
        assert again == [pytest.approx(row["credit"], abs=1e-6) for row in rows]
        assert all(row["fault"] is None for row in rows) and max(map(max, again)) > 0.1
    assert said[0] == said[1] and len(said[0]) > 6


class Chancy(Paid):
    """Pays by chance, from every global source of random numbers."""

    def get_reward(self) -> float | None:
        return Paid.get_reward(self) + random.random() + float(np.random.rand()) + float(torch.rand(()))


@pytest.mark.slow
def test_a_run_whose_environment_draws_from_global_random_numbers_goes_on_too(tmp_path):
    goes_on_from_everywhere(lambda folder: trainer(folder, Chancy), tmp_path, 8, cuts=[3])


def test_a_reward_function_may_speak_of_turns(tmp_path):
    class Short:
        __name__ = "short"

        def __call__(self, prompts, completions, **columns):
            return [float(len(completion)) for completion in completions]

        def turn_rewards(self, prompts, completions, environments, **columns):
            assert len(environments) == len(completions)
            return [{0: 3.0} for _ in completions]

    scored = []

    def watching(turn_rewards_BT, turn_BT, rewards_B):
        scored.append((turn_rewards_BT, turn_BT, rewards_B))
        return turn_rewards_BT

    strategy = Strategy(weight.constant, spread=watching)
    trainer(tmp_path, credit=strategy, funcs=[Short()], max_steps=1, save_strategy="no").train()
    (turn_rewards_BT, turn_BT, rewards_B) = scored[0]
    torch.testing.assert_close(turn_rewards_BT.sum(dim=1), rewards_B, rtol=0, atol=1e-6)
    first_B = (turn_rewards_BT * (turn_BT == 0)).sum(dim=1)
    several_B = turn_counts(turn_BT) > 1
    assert several_B.any() and torch.equal(first_B[several_B], torch.full_like(first_B[several_B], 3.0))
