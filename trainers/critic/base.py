"""The contract of a critic in training: all that the seam (trainers/critic/seam.py) calls, and what every kind has in common.

    StateCritic      V off hidden states, one micro-batch after the other      head, adapter, separate, ridge
    GroupCritic      V from whole groups, at scoring time                       decomposition

A kind has one name: the choice credit/critic=head is `HeadSpec` in credit/critic/spec.py, and `HeadCritic` in
trainers/critic/head.py trains it. trainers/critic/build.py knows the kinds; this file knows none.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from credit.batch import Rollout
from credit.critic import CriticSpec
from credit.returns import gae
from credit.turns.index import fitted_tokens
from trainers.critic.hidden_states import Reduce, Trunk
from trainers.critic.metrics import CriticMetrics
from trainers.seam.checkpoints import place_of

FOLDER, WEIGHTS, SPEC, STATE = "critic", "critic.safetensors", "critic.json", "critic_state.pt"


class Critic(ABC):
    """What every critic does: targets and weights of its fit, metrics, steps and files.

    Args:
        trainer: a `CreditGRPOTrainer` whose policy is built.
        spec: credit/critic/spec.py.
        gamma: of the returns.

    Attributes:
        at_scoring: V needs whole groups: `GroupCritic.score` gives it and learns, before TRL's loss.
        own_pass: V needs a forward pass of the critic's own.
        at: "tokens", "turns" or "prompt", where V is fitted.
        lambda_: of the targets.
        metrics: what the fit is worth; fed by the seam.
    """

    at_scoring: bool
    own_pass = False
    at = "tokens"
    lambda_ = 1.0

    def __init__(self, trainer, spec: CriticSpec, gamma: float):
        self.spec, self._gamma, self._accelerator = spec, gamma, trainer.accelerator
        self.metrics = CriticMetrics(trainer)
        trainer.add_callback(_StepWithThePolicy(self))

    @property
    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that was learned, by name; none of it is the policy's."""

    def step(self) -> None:
        """After the last micro-batch of an optimiser step, on every rank."""
        self.metrics.flush("train")

    def catching(self, width: int, reduce: Reduce | None = None) -> AbstractContextManager[list[Tensor]]:
        """Around a forward pass of the policy: a list of what `reduce(states, rows)` made of each chunk (default: states)."""
        return nullcontext([])

    def saving_policy(self) -> AbstractContextManager[None]:
        """Around saving the policy: nothing of the critic goes into its files."""
        return nullcontext()

    def targets(self, outcome_BT: Tensor, values_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T) lambda-returns A + V of the first visit's values; with lambda = 1 the (discounted) outcome to go."""
        return gae(outcome_BT, values_BT, mask_BT, self._gamma, self.lambda_) + values_BT

    def loss_of_values(self, values_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """(B, T) the loss of values on the scale of the outcome, for the metrics."""
        return 0.5 * (values_BT - targets_BT).square()

    def row_weights(self, rollout: Rollout) -> Tensor:
        """(B,) what each position of a row that is fitted weighs: 1 over all such positions of the generation batch, all
        ranks; 0 for unscorable rows."""
        scorable_B = ~rollout.rewards_B.isnan()
        fitted_B = fitted_tokens(self.at, rollout.mask_BT).sum(dim=1)
        return scorable_B.float() / (fitted_B * scorable_B).sum().clamp(min=1)

    def save(self, folder: Path) -> None:
        """Weights and specification below `folder`/critic, beside the policy's own files. Call on one process."""
        target = folder / FOLDER
        target.mkdir(parents=True, exist_ok=True)
        save_file({n: t.detach().cpu().contiguous() for n, t in self.tensors.items()}, target / WEIGHTS)
        facts = {"kind": self.spec.kind, **self._facts(), **asdict(self.spec)}  # type: ignore[call-overload]
        (target / SPEC).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def save_state(self, folder: Path) -> None:
        """What resuming needs beside the weights."""
        torch.save(self._state(), folder / FOLDER / STATE)

    def load(self, folder: Path) -> None:
        """Weights and state of a checkpoint.

        Raises:
            ValueError: the checkpoint has no critic, or another one, or was saved without what resuming needs.
        """
        self.load_weights(folder)
        if not (folder / FOLDER / STATE).is_file():
            raise ValueError(
                f"{folder} holds a critic but not its optimiser's state (trainer.save_only_model=true leaves it out), so the run "
                "cannot go on from there. Start it again with overwrite=true, and save_only_model=false if it is to be resumed."
            )
        where = place_of(self._accelerator.device)
        state = torch.load(folder / FOLDER / STATE, map_location=where, weights_only=True)
        self._load_state(state)

    def load_weights(self, folder: Path) -> None:
        """Weights of a checkpoint.

        Raises:
            ValueError: the checkpoint has no critic, or another one.
        """
        source = folder / FOLDER
        if not (source / WEIGHTS).is_file():
            raise ValueError(
                f"{folder} holds no critic to resume; it was written by a strategy without one. Resume with the strategy that "
                "wrote it, or start again with overwrite=true."
            )
        weights = load_file(source / WEIGHTS)
        facts = json.loads((source / SPEC).read_text(encoding="utf-8"))
        found, ours = ({**facts, "shapes": _shapes(weights)}, {**self._identity(), "shapes": _shapes(self.tensors)})
        if other := [name for name in ours if found.get(name) != ours[name]]:
            raise ValueError(
                f"{source} holds another critic: its {', '.join(other)} differ(s). Resume with the settings it was written with."
            )
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(weights[name].to(tensor.device))

    def _identity(self) -> dict:
        """What else a critic must share with one whose weights it takes over, by the name it has in `SPEC`."""
        return {"kind": self.spec.kind}

    def _facts(self) -> dict:
        return {}

    def _state(self) -> dict:
        return {}

    def _load_state(self, state: dict) -> None:  # noqa: B027  most kinds have none
        pass


class StateCritic(Critic):
    """V read off hidden states. Values are those of the first visit to a row, from before the fit on it: a critic that has
    seen the very sample is no baseline.

    Attributes:
        trunk: where the states come from.
    """

    at_scoring = False
    trunk: Trunk

    @abstractmethod
    def values(self, states_BTD: Tensor, visible_BT: Tensor) -> Tensor:
        """(B, T) float32 V before each token, without gradient, on the scale of the outcome.

        `visible_BT`: bool, tokens that the model really read, tool text included.
        """

    @abstractmethod
    def learn(
        self,
        states_BTD: Tensor,
        visible_BT: Tensor,
        targets_BT: Tensor,
        first_values_BT: Tensor,
        weights_BT: Tensor,
    ) -> Tensor | None:
        """One micro-batch of the fit: the loss of each token counts `weights_BT` times, over all ranks together.

        Returns:
            A loss to add to the policy's, where the policy's trunk learns from the critic too; else None.

        Raises:
            ValueError: a target that this critic cannot have.
        """

    def catching(self, width: int, reduce: Reduce | None = None) -> AbstractContextManager[list[Tensor]]:
        return self.trunk.catching(width, reduce or (lambda states, rows: states))

    def pass_of_own(self, inputs: dict, learn: bool) -> Tensor:
        """(B, T, D) states by the critic's own forward pass (`own_pass`); with a graph if it is to be learned from."""
        with self.trunk.active(), torch.set_grad_enabled(learn):
            return self.trunk.states(inputs)

    def saving_policy(self) -> AbstractContextManager[None]:
        return self.trunk.left_out()

    def _facts(self) -> dict:
        return {"width": self.trunk.width}


class GroupCritic(Critic):
    """V from the rows of all ranks, group by group."""

    at_scoring = True

    @abstractmethod
    def score(self, rollout: Rollout, advantages_B: Tensor, outcome_BT: Tensor, learn: bool) -> Tensor:
        """(B, T) values of all rows from what earlier batches taught; then, if `learn`, this batch is learned from.

        Args:
            advantages_B: of `Strategy.advantages`.
            outcome_BT: of `Strategy.outcome`.
        """


class _StepWithThePolicy(TrainerCallback):
    """The critic steps when the policy does, after all values of the step were used."""

    def __init__(self, critic: Critic):
        self._critic = critic

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self._critic.step()


def pieces(size: int, states_BTD: Tensor, *others: Tensor):
    """Rows in pieces of at most about `size` numbers of hidden state."""
    rows = max(1, size // max(1, states_BTD[0].numel())) if len(states_BTD) else 1
    return zip(states_BTD.split(rows), *(other.split(rows) for other in others), strict=True)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}
