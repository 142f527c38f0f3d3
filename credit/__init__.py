"""The maths of credit: rewards of whole sequences in, credit and weight of tokens out. Torch only."""

from credit.batch import Credit, Rollout
from credit.declare import Declaration, declaration_of, declares
from credit.signals import SIGNALS, Provider, Rows, Signal, provides
from credit.strategy import Strategy

__all__ = [
    "SIGNALS",
    "Credit",
    "Declaration",
    "Provider",
    "Rollout",
    "Rows",
    "Signal",
    "Strategy",
    "declaration_of",
    "declares",
    "provides",
]
