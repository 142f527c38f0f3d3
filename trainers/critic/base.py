"""A critic in training: what every kind has in common. `build_critic` makes the one that a strategy asks for."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from credit.batch import Rollout
from credit.critic import CriticSpec, DecompositionSpec, GradientSpec, RidgeSpec
from credit.critic.head import ValueHead
from credit.critic.ridge import RidgeHead
from credit.returns import gae
from trainers.critic.metrics import CriticMetrics
from trainers.seam.checkpoints import place_of

FOLDER, WEIGHTS, SPEC, STATE = "critic", "critic.safetensors", "critic.json", "critic_state.pt"


class Critic:
    """Args: `trainer`: a `CreditGRPOTrainer` whose policy is built. `spec`: credit/critic/spec.py. `gamma`: of the returns."""

    at_scoring = False  # values need whole groups, and the fit is done at scoring time
    own_pass = False  # the critic runs a forward pass of its own
    at = "tokens"
    lambda_ = 1.0

    def __init__(self, trainer, spec: CriticSpec, gamma: float):
        self.spec, self._gamma, self._accelerator = spec, gamma, trainer.accelerator
        self.metrics = CriticMetrics(trainer)
        trainer.add_callback(_StepWithThePolicy(self))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that was learned, by name; none of it is the policy's."""
        raise AttributeError("a critic lists its tensors")

    def step(self) -> None:
        """After the last micro-batch of an optimiser step, on every rank."""
        self.metrics.flush("train")

    def catching(self, width: int, reduce=None):
        """Around a forward pass of the policy: a list of what `reduce(states, rows)` made of each chunk (default: states)."""
        return nullcontext([])

    def saving_policy(self):
        """Around saving the policy: nothing of the critic goes into its files."""
        return nullcontext()

    def targets(self, outcome_BT: Tensor, values_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T) lambda-returns A + V of the first visit's values; with lambda = 1 the (discounted) outcome to go."""
        return gae(outcome_BT, values_BT, mask_BT, self._gamma, self.lambda_) + values_BT

    def loss_of_values(self, values_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """(B, T) the loss of values on the scale of the outcome, for the metrics."""
        return 0.5 * (values_BT - targets_BT).square()

    def row_weights(self, rollout: Rollout) -> Tensor:
        """(B,) what each position of a row that is fitted weighs: 1 over all such positions of the generation batch, all ranks;
        0 for unscorable rows."""
        scorable_B = ~rollout.rewards_B.isnan()
        fitted_B = rollout.lengths_B if self.at == "tokens" else rollout.lengths_B.clamp(max=1)
        return scorable_B.float() / (fitted_B * scorable_B).sum().clamp(min=1)

    def save(self, folder: Path) -> None:
        """Weights and specification below `folder`/critic, beside the policy's own files. Call on one process."""
        target = folder / FOLDER
        target.mkdir(parents=True, exist_ok=True)
        save_file({n: t.detach().cpu().contiguous() for n, t in self.tensors.items()}, target / WEIGHTS)
        facts = {"kind": type(self.spec).__name__, **self._facts(), **asdict(self.spec)}  # type: ignore[call-overload]
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
        return {"kind": type(self.spec).__name__}

    def _facts(self) -> dict:
        return {}

    def _state(self) -> dict:
        return {}

    def _load_state(self, state: dict) -> None:
        pass


class _StepWithThePolicy(TrainerCallback):
    """The critic steps when the policy does, after all values of the step were used."""

    def __init__(self, critic: Critic):
        self._critic = critic

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self._critic.step()


def build_critic(trainer, spec: CriticSpec, gamma: float) -> Critic:
    """The critic of a specification.

    Raises:
        ValueError: it does not fit the policy, or is no specification of this package.
    """
    from trainers.critic.decomposition import DecompositionCritic
    from trainers.critic.gradient import GradientCritic
    from trainers.critic.ridge import RidgeCritic

    kinds = ((DecompositionSpec, DecompositionCritic), (GradientSpec, GradientCritic), (RidgeSpec, RidgeCritic))
    for kind, critic in kinds:
        if isinstance(spec, kind):
            return critic(trainer, spec, gamma)
    raise ValueError(f"credit.critic is a {type(spec).__name__}; use a specification of credit/critic/spec.py.")


def pieces(size: int, states_BTD: Tensor, *others: Tensor):
    """Rows in pieces of at most about `size` numbers of hidden state."""
    rows = max(1, size // max(1, states_BTD[0].numel())) if len(states_BTD) else 1
    return zip(states_BTD.split(rows), *(other.split(rows) for other in others), strict=True)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def load_head(folder: str | Path) -> nn.Module:
    """The head of a critic saved in `folder`, a model's folder or the `critic` in it, to read values off hidden states: a
    `credit.critic.head.ValueHead`, of a ridge critic a `credit.critic.ridge.RidgeHead`. Called with states (B, T, D) and mask (B, T).

    Raises:
        ValueError: no such critic there.
    """
    folder = Path(folder)
    if (folder / FOLDER / SPEC).is_file():
        folder = folder / FOLDER
    if not (folder / SPEC).is_file():
        raise ValueError(f"{folder} holds no critic ({SPEC} is missing).")
    facts = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    if "width" not in facts:
        raise ValueError(
            f"the critic in {folder} is a {facts['kind']}, which reads tokens and not hidden states: it has no head."
        )
    if facts["kind"] == RidgeSpec.__name__:
        head = RidgeHead(facts["width"], facts["ridge"], facts["forgetting"], facts["running"])
        head.load_state_dict(load_file(folder / WEIGHTS))
        return head
    shared = {name: facts[name] for name in GradientSpec.__dataclass_fields__}
    head = ValueHead(facts["width"], GradientSpec(**shared))
    weights = load_file(folder / WEIGHTS)
    head.load_state_dict({n.removeprefix("head."): w for n, w in weights.items() if n.startswith("head.")})
    return head
