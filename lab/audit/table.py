"""An audit in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lab.audit.reading import Found, reading_of
from lab.audit.words import told, told_percent

WIDE = 110  # columns of a terminal that has room for the cosine


def show_audit(audit: Mapping[str, Any], console: Console | None = None) -> None:
    """A row for each strategy, the quietest first. `audit`: what audit.json holds."""
    console = console or Console(markup=False)
    reading = reading_of(audit)
    title = f"{reading.batches} batches of {reading.completions} completions, against {reading.reference}"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    is_wide = console.width >= WIDE
    for name in ("strategy", "noise", "critical batch", "bias", *(["cosine"] if is_wide else []), "length"):
        table.add_column(name, justify="left" if name == "strategy" else "right", overflow="fold")
    for name in reading.order:
        found = {measure: _bare(value) for measure, value in reading.numbers[name].items()}
        bias = "reference" if name == reading.reference else told_percent(found["relative_bias"])
        cosine = [told(found["cosine"])] if is_wide else []
        table.add_row(
            *(name, told(found["nsr"]), told(found["critical_batch"]), bias, *cosine),
            told(found["length_push"], sign=True),
        )
    console.print(table)
    console.print(
        "noise: over signal, of one batch; critical batch: completions at which they are equal; length: change of the expected length "
        "by a unit step. n/a: the signal is below what so few batches show.",
        style="dim",
    )


def _bare(found: Found) -> Found:
    """Without its reason, which is on the page."""
    return replace(found, note="")
