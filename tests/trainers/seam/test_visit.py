"""The state of the seam: made when TRL comes in, dropped when it leaves, and shown to observers in between."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from credit import Strategy
from credit.weight import constant
from support.critics import HEAD, fit, value
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.tiny import tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer

ROOT = Path(__file__).resolve().parents[3]


def trainer_of(folder, strategy: Strategy | None = None, **options) -> CreditGRPOTrainer:
    rollouts = made_rollouts(1)
    return replay_trainer(tiny_model(), tiny_tokenizer(), rollouts, strategy or value(HEAD), str(folder), **options)


# ---- one visit


def test_nothing_is_left_on_the_trainer_when_trl_leaves_nor_when_it_dies(tmp_path):
    trainer, seen = trainer_of(tmp_path, max_steps=3), []

    def look(trainer, visit):
        seen.append(trainer._visit is visit and trainer._scoring is None)
        if len(seen) == 2:
            raise RuntimeError("enough")

    trainer.credit_observers.append(look)
    with pytest.raises(RuntimeError, match="enough"):
        trainer.train()
    assert seen == [True, True] and trainer._visit is None and trainer._scoring is None


def test_nothing_is_left_on_the_trainer_when_scoring_dies(tmp_path):
    def broken(rewards_B):
        raise RuntimeError("broken")

    trainer = trainer_of(tmp_path, Strategy(constant, broken))
    with pytest.raises(RuntimeError, match="broken"):
        trainer.train()
    assert trainer._scoring is None


def test_what_is_written_for_trls_loss_is_gone_at_the_next_visit():
    """One batch used twice, the policy moving in between: TRL's own advantages, one for each row, are there again."""
    visits, shapes = [], []

    def look(trainer, visit):
        visits.append(visit)
        shapes.append(trainer._buffered_inputs[0]["advantages"].shape)

    fit(value(HEAD), max_steps=2, num_iterations=2, observe=look)
    first, second = visits
    assert first.inputs is not second.inputs and torch.equal(first.signals["values_BT"], second.signals["values_BT"])
    assert not torch.equal(second.signals["policy_logps_BT"], first.signals["policy_logps_BT"])
    assert first.inputs["advantages"].shape == first.mask_BT.shape and set(shapes) == {first.mask_BT.shape[:1]}


# ---- observers


def example() -> str:
    """The code of the page on strategies."""
    page = (ROOT / "docs" / "credit" / "adding_a_strategy.md").read_text(encoding="utf-8")
    return next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "def watch(trainer, visit)" in block
    )


def test_the_observer_of_the_documents_shows_what_the_loss_used(capsys):
    holder = SimpleNamespace(credit_observers=[])
    space = {"trainer": holder}
    exec(example(), space)
    rollouts, visits = made_rollouts(3), []

    def observe(trainer, visit):
        space["watch"](trainer, visit)
        visits.append(visit)

    fit("dr_grpo", 2, seed=3, observe=observe)  # type: ignore[arg-type]
    assert holder.credit_observers == [space["watch"]] and len(visits) == 2
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line[1] for line in lines] == ["1"] * len(rollouts.rewards)
    assert sorted({int(line[3]) for line in lines}) == list(range(len(rollouts.prompt_ids)))
    # Dr.GRPO by hand: |r - mean| L / (B L_max), in the order in which TRL has dealt the rows.
    longest, rows = max(8, *map(len, rollouts.completion_ids)), len(rollouts.rewards)
    expected = []
    for p in range(len(rollouts.prompt_ids)):
        mine = range(p * rollouts.num_generations, (p + 1) * rollouts.num_generations)
        known = [rollouts.rewards[b] for b in mine if rollouts.rewards[b] is not None]
        for b in mine:
            credit = 0.0 if rollouts.rewards[b] is None else abs(rollouts.rewards[b] - sum(known) / len(known))
            expected.append((p, credit * len(rollouts.completion_ids[b]) / (rows * longest)))
    shown = sorted((int(line[3]), float(line[4])) for line in lines)
    assert [group for group, _ in shown] == [group for group, _ in sorted(expected)]
    assert [push for _, push in shown] == pytest.approx([push for _, push in sorted(expected)], abs=6e-5)
    assert sum(push for _, push in shown) > 0.1


def test_observers_see_evaluation_too_and_members_signals_by_name(tmp_path):
    trainer, modes = trainer_of(tmp_path), []
    trainer.eval_dataset = trainer.train_dataset

    def observe(trainer, visit):
        modes.append(trainer.model.training)
        assert {"mask_BT", "rewards_B", "policy_logps_BT", "values_BT"} <= visit.signals.keys()
        assert visit.mask_BT is visit.signals["mask_BT"] and not visit.advantages_BT[~visit.mask_BT].any()

    trainer.credit_observers.append(observe)
    trainer.train()
    trainer.evaluate()
    assert modes[0] is True and modes[-1] is False


# ---- rules of the code


def test_the_steps_are_numbered_in_the_order_of_the_list():
    source = (ROOT / "trainers" / "grpo.py").read_text(encoding="utf-8")
    listed = re.findall(r"^ +\[Step (\d+)\] ", source, re.M)
    happens = re.findall(r"^ +# \[Step (\d+)\] ", source, re.M)
    assert listed == [str(n + 1) for n in range(len(listed))] and len(listed) > 8
    assert sorted(happens, key=int) == listed


def modules() -> dict[str, set[str]]:
    """The files of the trainer's classes, and the names of those in each."""
    found: dict[str, set[str]] = {}
    for cls in CreditGRPOTrainer.__mro__:
        if cls.__module__.startswith("trainers."):
            found.setdefault(cls.__module__.replace(".", "/") + ".py", set()).add(cls.__name__)
    return found


def states() -> dict[str, set[str]]:
    """Private attributes that this package's classes keep on the trainer -> the files that set them."""
    found: dict[str, set[str]] = {}
    for path, classes in modules().items():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name in classes:
                for name in set_by(node):
                    found.setdefault(name, set()).add(path)
    return {name: files for name, files in found.items() if name.startswith("_")}


def set_by(node: ast.ClassDef) -> set[str]:
    """Names bound in the body of a class, and attributes of `self` that its methods write."""
    body = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
    body += [target for each in node.body if isinstance(each, ast.Assign) for target in each.targets]
    written = [each for each in ast.walk(node) if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)]
    return {each.id for each in body if isinstance(each, ast.Name)} | {
        each.attr for each in written if ast.unparse(each.value) == "self"
    }


def test_a_state_of_the_trainer_is_read_where_it_is_set_and_nowhere_else():
    theirs = {"_step", "_total_train_tokens"}  # TRL's and transformers' own, put back on resume
    owned = {name: files for name, files in states().items() if name not in theirs}
    assert {"_visit", "_scoring", "_kl_beta", "_openings", "_resumed"} <= owned.keys()
    for path in sorted((ROOT / "trainers").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or node.attr not in owned:
                continue
            owner = ast.unparse(node.value)
            if owner in ("trainer", "self.trainer", "self._trainer") or (owner == "self" and name in modules()):
                assert owned[node.attr] == {name}, f"{name} uses {owner}.{node.attr}"
