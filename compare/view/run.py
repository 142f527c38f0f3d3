"""What a run says of itself: a few facts, and the curves of metrics.jsonl, short enough for a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compare.read import metric_columns
from compare.untrusted import read_object
from compare.view.digits import short_number
from trainers.run.files import CONFIG, METRICS, SUMMARY
from userio.visible import visible

MOST_CURVES = 200
MOST_POINTS = 400  # of one curve; more are means of neighbours
LONGEST = 2_000
_CONFIG = ("credit", "task", "reward", "model", "trainer", "sampler", "seed")


def run_facts(run: Path) -> list[list[str]]:
    """[[name, text], ...]: what stands in summary.json and, one line for each part, in config.yaml. A broken file is no fact."""
    facts = []
    for file, names in ((SUMMARY, None), (CONFIG, _CONFIG)):
        try:
            values = read_object(run / file) or {}
        except (ValueError, OSError):
            continue
        for name in names or list(values)[:100]:
            if name in values:
                label = name if file == SUMMARY else f"config {name}"
                facts.append([visible(str(label)), _text(values[name])])
    return facts


def run_curves(run: Path) -> dict[str, Any]:
    """{"steps": [...], "values": {name: [...]}} of metrics.jsonl; null where a step did not log a name."""
    try:
        columns = metric_columns(run / METRICS)
    except (ValueError, OSError):
        columns = {}
    if not columns:
        return {"steps": [], "values": {}}
    steps = columns["step"]
    names = [name for name in columns if name not in ("step", "epoch") and np.isfinite(columns[name]).any()]
    parts = np.array_split(np.arange(len(steps)), min(len(steps), MOST_POINTS))
    return {
        "steps": [int(steps[part[-1]]) for part in parts],
        "values": {visible(name): [_mean(columns[name][part]) for part in parts] for name in names[:MOST_CURVES]},
    }


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return short_number(float(values.mean())) if len(values) else None


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return visible(text if len(text) <= LONGEST else text[:LONGEST] + "\u2026")
