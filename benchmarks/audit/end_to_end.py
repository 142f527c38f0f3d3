"""An audit from its command to its numbers, against enumeration: a language model whose every text can be written down.

    python benchmarks/audit/end_to_end.py --out docs/results/audit/end_to_end.json

`python -m lab.audit` samples, credits and differentiates with TRL's trainer; what it says of each strategy is compared with the sum
over all batches that the same model could have written (benchmarks/audit/letters.py). Critics and memories are the audit's own, as
they stood after its warm-up. About 15 minutes on one core.

Shapes: N texts, R rows.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from agreement import METRICS
from kept import ROOT, keep
from letters import exact_numbers, known_to, learner_of, taught, words_of, write_model

from configs.compose import config_choices, named_strategy
from lab.measure.metrics import WORST_BIAS, nothing_learned
from lab.measure.rows import LabRows
from lab.measure.scoring import Scorer

BATCHES, SEEDS, GENERATIONS, GAMES = 64, 2, 4, (2, 1)
# A teacher or a text of the answer is another thing in the lab, which has no words.
ELSEWHERE = ("igpo", "opd", "rlsd", "sdar", "sdpo", "sdpo_mix")
CRITIC_OF_GROUPS = ("decomposition",)  # whose values are the group's: its noise is not known here, its mean is
SLACK = {"cosine": 1e-4, "relative_bias": 1e-3}  # of float32, beside one in 10,000 of the number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--prompts", type=int, nargs="+", default=GAMES, help="of the games")
    parser.add_argument("--out", type=Path, default=Path("runs/audit/end_to_end.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in config_choices("credit") if name not in ELSEWHERE]
    known: dict[tuple[str, int], dict | None] = {}
    rows = [
        row
        for game in options.prompts
        for seed in range(options.seeds)
        for row in compared(names, game, seed, options.batches, known)
    ]
    completions = {game: game * GENERATIONS for game in options.prompts}
    found = {"batches": options.batches, "completions": completions, "elsewhere": ELSEWHERE}
    games = " ".join(map(str, options.prompts))
    command = (
        f"python benchmarks/audit/end_to_end.py --prompts {games} --seeds {options.seeds} --batches {options.batches}"
    )
    keep(options.out, command, {**found, "summary": summary(rows), "rows": rows})
    print(table(rows))


def compared(names: list[str], prompts: int, seed: int, batches: int, known: dict) -> list[dict]:
    """One row for each strategy and number of one audit of all of them. known: exact numbers, by (strategy, prompts)."""
    with tempfile.TemporaryDirectory() as folder:
        place = write_model(Path(folder) / "model", prompts)
        learner = learner_of(place, prompts)
        columns = {"offline_rewards": offline_rewards(learner)}
        write_model(place, prompts, **columns)
        out = Path(folder) / "audit"
        words = [f"credit={','.join(names)}", f"batches={batches}", f"seed={seed}", "shares=0", f"out={out}"]
        command = [sys.executable, "-m", "lab.audit", *words_of(place, prompts, GENERATIONS), *words]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        audit = json.loads((out / "audit.json").read_text())["strategies"]
        learned = torch.load(out / "batches" / "warm.pt", weights_only=True)
    rows = []
    for name in names:
        strategy = named_strategy(name)
        critic = "perfect"
        if strategy.critic is not None and name not in CRITIC_OF_GROUPS:
            critic = taught(learner, strategy, learned[name]["critic"])
        scorer = Scorer(strategy, learner, critic=critic)
        known_to(scorer, learned.get(name, {}).get("members", {}))
        if (
            key := (name, prompts)
        ) not in known or name in learned:  # who learns has learned something else under each seed
            known[key] = exact_numbers(scorer, GENERATIONS)
        rows += rows_of(known[key], audit[name], {"prompts": prompts, "seed": seed, "strategy": name})
    return rows


def rows_of(exact: dict | None, audit: dict, here: dict) -> list[dict]:
    if exact is None:
        return [here | {"skipped": "more batches than can be enumerated"}]
    if nothing_learned(exact):
        exact = {"norm": 0.0}
    rows = []
    for metric in METRICS:
        truth = exact.get(metric, math.nan)
        if math.isnan(truth) or (metric == "nsr" and here["strategy"] in CRITIC_OF_GROUPS):
            continue
        truth = math.inf if metric == "relative_bias" and truth >= WORST_BIAS else truth
        bounds = {key: audit[metric][key] for key in ("value", "low", "high")}
        low, high = (
            given if (given := bounds[end]) is not None else far
            for end, far in (("low", -math.inf), ("high", math.inf))
        )
        slack = SLACK.get(metric, 1e-7) + 1e-4 * (abs(truth) if math.isfinite(truth) else 0.0)
        record = {"metric": metric, "exact": truth if math.isfinite(truth) else None, **bounds}
        rows.append(here | record | {"holds": low - slack <= truth <= high + slack})
    return rows


def offline_rewards(learner) -> list[list[float]]:
    """The column that A*-PO reads, as the lab would have drawn it."""
    tree = learner.tree
    first = [int((tree.prompt_N == prompt).nonzero()[0]) for prompt in range(learner.prompts)]
    texts_R = torch.tensor(first)
    bare = Scorer(named_strategy("rloo"), learner).rollout(texts_R, torch.arange(len(first)))
    return LabRows(learner, bare, texts_R).columns["offline_rewards"]


def summary(rows: list[dict]) -> list[dict]:
    """For each number, how many of its intervals hold the truth."""
    found = []
    for metric in METRICS:
        mine = [row["holds"] for row in rows if row.get("metric") == metric]
        found.append({"metric": metric, "held": sum(mine), "intervals": len(mine)})
    return found


def table(rows: list[dict]) -> str:
    """Markdown: the first audit of the larger game beside the truth, and how many intervals of all audits hold."""
    lines = [
        "| strategy | `nsr`: exact, audit | `relative_bias`: exact, audit | `length_push`: exact, audit | intervals that hold |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["strategy"] for row in rows):
        mine = [row for row in rows if row["strategy"] == name and "skipped" not in row]
        shown = [
            next((row for row in mine if row["metric"] == metric), None)
            for metric in ("nsr", "relative_bias", "length_push")
        ]
        held = f"{sum(row['holds'] for row in mine)} of {len(mine)}"
        lines.append(f"| {name} | {' | '.join(map(in_words, shown))} | {held} |")
    return "\n".join(
        [*lines, "", ", ".join(f"{row['metric']} {row['held']} of {row['intervals']}" for row in summary(rows))]
    )


def in_words(row: dict | None) -> str:
    if row is None:
        return ""
    exact, value, low, high = (
        "none" if each is None else f"{each:.2f}" for each in (row["exact"], row["value"], row["low"], row["high"])
    )
    return f"{exact}, {value} [{low}, {high}]"


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
