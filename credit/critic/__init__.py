"""Critics: what a strategy asks for (spec.py), and the maths of fitting it. Training them is the business of trainers/critic/."""

from credit.critic.spec import (
    AdapterCritic,
    CriticSpec,
    DecompositionCritic,
    GradientCritic,
    HeadCritic,
    RidgeCritic,
    SeparateCritic,
)

__all__ = [
    "AdapterCritic",
    "CriticSpec",
    "DecompositionCritic",
    "GradientCritic",
    "HeadCritic",
    "RidgeCritic",
    "SeparateCritic",
]
