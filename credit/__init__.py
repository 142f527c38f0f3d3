"""The maths of credit: rewards of whole sequences in, credit and weight of tokens out. Torch only."""

from credit.batch import SIGNALS, Credit, Rollout, Signal
from credit.declare import Declaration, declaration_of, declares
from credit.strategy import Strategy

__all__ = ["SIGNALS", "Credit", "Declaration", "Rollout", "Signal", "Strategy", "declaration_of", "declares"]
