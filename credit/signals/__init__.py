"""Signals: what a strategy can see, and who makes it. One provider a file; docs/credit/signals.md is the contract."""

from credit.signals.answers import Answers
from credit.signals.catalogue import BUILT_IN, FACTS, SIGNALS, catalogue_of, makers_of, statistics_of
from credit.signals.column import Column
from credit.signals.contract import (
    Models,
    Provider,
    Rows,
    Signal,
    TokenStatistics,
    ask,
    is_signal_name,
    provided_by,
    provides,
)
from credit.signals.offline import OfflineValue
from credit.signals.prompt import PromptKey

__all__ = [
    "BUILT_IN",
    "FACTS",
    "SIGNALS",
    "Answers",
    "Column",
    "Models",
    "OfflineValue",
    "PromptKey",
    "Provider",
    "Rows",
    "Signal",
    "TokenStatistics",
    "ask",
    "catalogue_of",
    "is_signal_name",
    "makers_of",
    "provided_by",
    "provides",
    "statistics_of",
]
