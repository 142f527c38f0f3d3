"""Run folders to report on, and audits to make a page of."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from configs.compose import compose_config
from trainers.run.grpo import register_schema


@functools.cache
def _composed(*choices: str) -> str:
    register_schema()
    return OmegaConf.to_yaml(compose_config("train_grpo", choices), resolve=True)


def config_of(*overrides: str) -> dict[str, Any]:
    """config.yaml of a GRPO run. Hydra makes the choices (once each); single settings are put in by hand, which is quick."""
    choices = [
        one for one in overrides if "." not in one.split("=")[0] and not one.startswith(("seed=", "show=", "runs="))
    ]
    config = yaml.safe_load(_composed(*choices))
    for one in (one for one in overrides if one not in choices):
        key, _, text = one.partition("=")
        value = yaml.safe_load(text)
        *parents, last = key.split(".")
        node = functools.reduce(lambda node, name: node[name], parents, config)
        assert last in node, key
        node[last] = float(text) if isinstance(value, str) and text[0].isdigit() else value
    return config


def write_grpo(
    folder: Path, *overrides: str, top: float = 0.5, steps: int = 20, summary: dict[str, Any] | None = None
) -> Path:
    """A finished run of `train_grpo.py` with the config.yaml that these overrides give."""
    config = config_of(*overrides)
    rows = straight(top, steps, generated_tokens=None)
    for row in rows:
        row["generated_tokens"] = 60 * row["step"]
    facts = {"task": "chain", "credit": config["credit"]["name"], "seed": config["seed"], "world_size": 1,
             "completions_per_step": 128, "eval_reward_after": top}  # fmt: skip
    write_run(folder, rows, **{**facts, **(summary or {})})
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    return folder


def write_run(folder: Path, rows: list[dict], finished: bool = True, **summary) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def straight(top: float, steps: int = 20, tokens: int = 100, **more) -> list[dict]:
    """Reward rising straight to `top` at the last step."""
    return [{"step": i, "reward": top * i / steps, "num_tokens": tokens * i, **more} for i in range(1, steps + 1)]


# ---- an `audit.json` as the audit writes it, made up


def with_ends(
    value: float, low: float | None = None, high: float | None = None, note: str | None = None
) -> dict[str, Any]:
    """With an interval a fifth of the value to each side, if none is given."""
    ends = (value - abs(value) / 5 if low is None else low, value + abs(value) / 5 if high is None else high)
    return {"value": value, "low": ends[0], "high": ends[1], "note": note}


def audit_of(noise: dict[str, float], *groups: list[str], bias: dict[str, float] | None = None, needed: int | None = 90,
             **more: Any) -> dict[str, Any]:  # fmt: skip
    """noise: strategy -> noise over signal. groups: the ranking; one for each strategy, if none is given. bias: what is not named has
    none. needed: batches that would tell apart two of one group."""
    ranking = list(groups) or [[name] for name in sorted(noise, key=noise.__getitem__)]
    home = {name: i for i, group in enumerate(ranking) for name in group}
    strategies, bias = {}, bias or {}
    for name, nsr in noise.items():
        off = bias.get(name, 0.0)
        strategies[name] = {
            "nsr": with_ends(nsr),
            "norm": with_ends(0.2),
            "cosine": with_ends(1 / math.sqrt(1 + off**2)),
            "relative_bias": with_ends(off, max(0.0, off - 0.05), off + 0.1),
            "critical_batch": with_ends(64 * nsr),
            "length_push": with_ends(0.1),
        }
    pairs = {}
    for i, a in enumerate(noise):
        for b in list(noise)[i + 1 :]:
            apart = home.get(a) != home.get(b)
            pairs[f"{a}|{b}"] = {
                "noise_ratio": with_ends(noise[a] / noise[b]),
                "told_apart": apart,
                "batches_needed": None if apart else needed,
            }
    return {"about": {"model": "tiny", "task": "chain"}, "reference": "rloo", "batches": 32, "completions": 64,
            "strategies": strategies, "pairs": pairs, "ranking": ranking, "shares": {}} | more  # fmt: skip
