"""What fits V(s_t): specifications that a strategy carries.

Fitted by gradient: a head on hidden states of the policy's own forward pass, of a second adapter on the same base, or of a
model of its own. Fitted in closed form: a decomposition of the reward over tokens (credit/critic/decomposition.py). A specification is
plain data; trainers/critic/build.py knows what trains what it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from credit.settings import check_types

LOSSES = ("squared", "cross_entropy")
PLACES = ("tokens", "turns", "prompt")


class CriticSpec:
    """Base of all specifications.

    Attributes:
        kind: the one name of a critic: of its choice (credit/critic=head), of the class that says what it is (`HeadSpec`) and of
            the one that trains it (`HeadCritic` in trainers/critic/head.py); it stands in the critic's files.
    """

    kind: ClassVar[str]


@dataclass
class DecompositionSpec(CriticSpec):
    """V from a learned decomposition of the reward over tokens: no hidden states, no forward pass, no learning rate.

    Raises:
        ValueError: a value out of range.
    """

    kind = "decomposition"
    features: int = 512
    """Random features of token and position."""
    ridge: float = 0.01
    """Share of the rewards' variance within groups that is taken for noise; more is slower and steadier."""
    forgetting: float = 1.0
    """Weight of earlier batches, per batch; 1: nothing is forgotten."""
    seed: int = 0
    """Of the random features."""
    at: str = "tokens"
    """Changes nothing: the fit is of whole completions, and V before the first token is one of its values. So strategies with
    one value for each prompt can name it."""

    def __post_init__(self):
        check_types(self, "critic.")
        if self.features < 1 or self.ridge <= 0 or not 0 < self.forgetting <= 1 or self.at not in PLACES:
            raise ValueError(
                "a decomposition needs critic.features >= 1, ridge > 0, forgetting in (0, 1] and at in "
                f"{', '.join(PLACES)}; got {self.features}, {self.ridge}, {self.forgetting} and {self.at!r}."
            )


@dataclass
class RidgeSpec(CriticSpec):
    """V linear in the policy's own hidden states, by recursive least squares: no second pass, no learning rate.

    Raises:
        ValueError: a value out of range.
    """

    kind = "ridge"
    ridge: float = 0.1
    """Penalty as a share of the mean variance of the states."""
    forgetting: float = 0.95
    """Weight of earlier batches, per batch."""
    lambda_: float = 1.0
    """Of the critic's target, the lambda-return A + V; 1: the outcome itself. The credit's own is credit.spread.lambda_."""
    at: str = "tokens"
    """Where V is fitted: "tokens", at every learning token; "turns", at the first one of each turn; "prompt", before the first one
    only, for one value per prompt."""
    running: bool = False
    """The running sum of the states over the tokens so far joins the features."""

    def __post_init__(self):
        check_types(self, "critic.")
        if self.ridge <= 0 or not 0 < self.forgetting <= 1 or not 0 <= self.lambda_ <= 1 or self.at not in PLACES:
            raise ValueError(
                "a ridge critic needs critic.ridge > 0, forgetting in (0, 1], lambda_ in [0, 1] and at in "
                f"{', '.join(PLACES)}; got {self.ridge}, {self.forgetting}, {self.lambda_} and {self.at!r}."
            )


@dataclass
class GradientSpec(CriticSpec):
    """What all critics fitted by gradient share.

    Raises:
        ValueError: a value out of range, or options that contradict each other.
    """

    learning_rate: float = 1e-3
    """Of the critic's own AdamW."""
    weight_decay: float = 0.0
    """Of the critic's own AdamW."""
    max_grad_norm: float = 1.0
    """The critic's gradients are clipped to this norm, which counts them only."""
    lambda_: float = 1.0
    """Of the critic's target, the lambda-return A + V; 1: the outcome itself. The credit's own is credit.spread.lambda_."""
    loss: str = "squared"
    """Of V: "squared" error, or "cross_entropy" for outcomes in [0, 1], where V is a sigmoid."""
    clip_range: float | None = None
    """PPO's value clipping, e.g. 0.2, for squared error: V may move that far from the first visit's. None: off."""
    at: str = "tokens"
    """Where V is fitted: "tokens", at every learning token; "turns", at the first one of each turn; "prompt", before the first one
    only, for one value per prompt."""
    running: bool = False
    """V is a value of the state plus a running sum over the tokens so far, one contribution each, so that the critic can count
    what no single hidden state holds."""
    level: bool = False
    """True: V is the mean outcome of the last batches plus what the head makes of the state, so that it does not lag behind a
    policy that improves. False: the head follows by its own learning rate."""
    mlp: int = 0
    """Width of one hidden layer between state and value; 0: linear."""
    init_std: float = 0.0
    """Spread of the read-out's first weights; 0: V starts as a constant (0, or 1/2 under cross_entropy)."""
    seed: int = 0
    """Of the first weights."""

    def __post_init__(self):
        check_types(self, "critic.")
        for name, known in (("loss", LOSSES), ("at", PLACES)):
            if getattr(self, name) not in known:
                raise ValueError(f"critic.{name}={getattr(self, name)!r} is not one of {', '.join(known)}.")
        if min(self.learning_rate, self.weight_decay, self.mlp, self.init_std) < 0 or self.max_grad_norm <= 0:
            raise ValueError(
                "critic.learning_rate, weight_decay, mlp and init_std must be >= 0 and max_grad_norm > 0, got "
                f"{self.learning_rate}, {self.weight_decay}, {self.mlp}, {self.init_std} and {self.max_grad_norm}."
            )
        if not 0.0 <= self.lambda_ <= 1.0:
            raise ValueError(f"critic.lambda_ must lie in [0, 1], got {self.lambda_}.")
        if self.clip_range is not None and (self.clip_range <= 0 or self.loss != "squared"):
            raise ValueError("critic.clip_range must be positive and goes with loss=squared; null switches it off.")
        if self.at == "prompt" and self.running:
            raise ValueError("critic.running adds up tokens, and critic.at=prompt sees none; drop one of them.")


@dataclass
class HeadSpec(GradientSpec):
    """V on the hidden states that the policy's own forward pass makes anyway: no second pass, no second model."""

    kind = "head"
    detach: bool = True
    """True: the critic's loss cannot reach the policy. False: its gradient flows into the trunk as well, times `coefficient`; the
    head itself learns as before."""
    coefficient: float = 0.1
    """Of the loss that reaches the trunk when `detach` is false."""

    def __post_init__(self):
        super().__post_init__()
        if self.coefficient < 0:
            raise ValueError(f"critic.coefficient must be >= 0, got {self.coefficient}.")


@dataclass
class AdapterSpec(GradientSpec):
    """V on the frozen base of a PEFT policy with a LoRA adapter of the critic's own: one base in memory, a second pass."""

    kind = "adapter"
    learning_rate: float = 1e-4
    rank: int = 8
    """Of the adapter."""
    alpha: float = 16.0
    """Of the adapter: what it adds is multiplied by alpha / rank."""
    target_modules: list[str] | str | None = None
    """Which modules it changes: names, or a string that peft's `LoraConfig` reads as a pattern or "all-linear"; None: those of
    the policy's adapter."""

    def __post_init__(self):
        super().__post_init__()
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"critic.rank must be >= 1 and alpha > 0, got {self.rank} and {self.alpha}.")
        if self.target_modules is not None and not isinstance(self.target_modules, str):
            self.target_modules = list(self.target_modules)  # Hydra's own kind of list cannot be saved


@dataclass
class SeparateSpec(GradientSpec):
    """V of a model of its own, all of it trained; whole on every rank, a second pass."""

    kind = "separate"
    learning_rate: float = 1e-4
    model: str | None = None
    """Local folder or hub id; None: starts as a copy of the policy."""
