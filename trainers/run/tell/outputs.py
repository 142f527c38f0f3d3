"""Settings that say where and how a run is told of, and not what it trains: they do not name its folder, and a run that goes
on may have others. Those that are secret are written nowhere."""

from __future__ import annotations

import re
from typing import Any

from userio.words import word_of

_SECRET = re.compile(r"(.*[._])?(hub_token|api_?key|access_token|password|secret)")
HIDDEN = "<hidden>"
_TOP = (
    "run_dir",
    "runs",
    "resume",
    "overwrite",
    "processes",
    "launched_by",
    "build_only",
    "show",
    "record",
    "audit",
    "probe",
    "push",
    "push_private",
)
_TRAINER = (
    *("report_to", "run_name", "project", "disable_tqdm", "include_num_input_tokens_seen", "skip_memory_metrics"),
    *(r"log_\w+", r"logging_\w+", "num_completions_to_print", r"trackio_\w+", r"hub_\w+", "push_to_hub"),
    *("save_steps", "save_strategy", "save_total_limit", "save_only_model", "save_on_each_node"),
)
_PATTERN = re.compile(rf"(?:{'|'.join(_TOP)})(?:\..*)?|trainer\.(?:{'|'.join(_TRAINER)})")


def is_about_output(key: str) -> bool:
    """Whether a setting, by its dotted name, leaves every weight as it is."""
    return _PATTERN.fullmatch(key) is not None


def without_secret(word: str) -> str:
    """An override, with its value hidden where it is a secret."""
    key, value = word_of(word)
    return f"{key}={HIDDEN}" if value and _SECRET.fullmatch(key.lstrip("+~")) else word


def without_secrets(value: Any, key: str = "") -> Any:
    """The same data, with secrets hidden."""
    if isinstance(value, dict):
        return {str(name): without_secrets(one, str(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    return HIDDEN if value and _SECRET.fullmatch(key) else value
