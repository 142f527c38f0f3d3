"""An audit in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lab.audit.reading import reading_of
from lab.audit.words import told, told_percent


def show_audit(audit: Mapping[str, Any]) -> None:
    """A row for each strategy, the quietest first. `audit`: what audit.json holds."""
    reading = reading_of(audit)
    table = Table(
        title=f"{reading.batches} batches of {reading.completions} completions, against {reading.reference}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("strategy", "noise/signal", "critical batch", "bias", "cosine", "push on length"):
        table.add_column(name, justify="left" if name == "strategy" else "right", overflow="fold")
    for name in reading.order:
        found = reading.numbers[name]
        table.add_row(
            name,
            told(found["nsr"]),
            told(found["critical_batch"]),
            "reference" if name == reading.reference else told_percent(found["relative_bias"]),
            told(found["cosine"]),
            told(found["length_push"], sign=True),
        )
    Console(markup=False).print(table)
