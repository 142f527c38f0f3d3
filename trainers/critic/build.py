"""Which critic trains a specification, and the way back from its files."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from credit.critic import (
    AdapterSpec,
    CriticSpec,
    DecompositionSpec,
    GradientSpec,
    HeadSpec,
    RidgeSpec,
    SeparateSpec,
)
from credit.critic.head import ValueHead
from credit.critic.ridge import RidgeHead
from trainers.critic.adapter import AdapterCritic
from trainers.critic.base import FOLDER, SPEC, WEIGHTS, Critic
from trainers.critic.decomposition import DecompositionCritic
from trainers.critic.head import HeadCritic
from trainers.critic.ridge import RidgeCritic
from trainers.critic.separate import SeparateCritic

CRITICS: dict[type[CriticSpec], type[Critic]] = {
    HeadSpec: HeadCritic,
    AdapterSpec: AdapterCritic,
    SeparateSpec: SeparateCritic,
    RidgeSpec: RidgeCritic,
    DecompositionSpec: DecompositionCritic,
}


def build_critic(trainer, spec: CriticSpec, gamma: float) -> Critic:
    """The critic of a specification; subclasses of the specifications count as their base.

    Raises:
        ValueError: it does not fit the policy, or is no specification of this package.
    """
    for kind, critic in CRITICS.items():
        if isinstance(spec, kind):
            return critic(trainer, spec, gamma)
    known = ", ".join(kind.__name__ for kind in CRITICS)
    raise ValueError(
        f"credit.critic is a {type(spec).__name__}, which nothing trains. Use one of {known} (credit.critic)."
    )


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
    if facts["kind"] == RidgeSpec.kind:
        head = RidgeHead(facts["width"], facts["ridge"], facts["forgetting"], facts["running"])
        head.load_state_dict(load_file(folder / WEIGHTS))
        return head
    shared = {name: facts[name] for name in GradientSpec.__dataclass_fields__}
    head = ValueHead(facts["width"], GradientSpec(**shared))
    weights = load_file(folder / WEIGHTS)
    head.load_state_dict({n.removeprefix("head."): w for n, w in weights.items() if n.startswith("head.")})
    return head
