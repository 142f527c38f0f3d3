"""Critics: what a strategy asks for (spec.py), and the maths of fitting it. Training them is the business of trainers/critic/."""

from credit.critic.spec import (
    AdapterSpec,
    CriticSpec,
    DecompositionSpec,
    GradientSpec,
    HeadSpec,
    RidgeSpec,
    SeparateSpec,
)

__all__ = [
    "AdapterSpec",
    "CriticSpec",
    "DecompositionSpec",
    "GradientSpec",
    "HeadSpec",
    "RidgeSpec",
    "SeparateSpec",
]
