"""Does weighing every text the same shorten what a model writes? Weights of likelihood training, paired over seeds.

    python benchmarks/stages/length_bias.py --seeds 10 [--first 0] [--out runs/length_bias] [--most 1]

Each run is `train_sft.py experiment=length_bias weight=... seed=...`: within a seed all weights have the same initial
model, texts and order of batches. At the end every model writes 1024 texts at temperature 1. Runs so far are kept in
the folder (runs.json) and a second call goes on from there; table and picture (length_bias.md, length_bias.png) are of
the seeds that all weights have. The exact counterpart is `python -m lab.length_bias`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
import warnings
from functools import lru_cache
from pathlib import Path

import datasets
import transformers

from compare.statistics import mean_interval, paired_difference
from tasks.corpus import stories
from trainers.command.cli import compose_command
from trainers.run.generations import repeated_pairs
from trainers.run.likelihood import register_schema, run_sft

WEIGHTS = {
    "token_mean": ["weight=token_mean"],
    "length_power 0.5": ["weight=length_power", "weight.gamma=0.5"],
    "seq_mean": ["weight=seq_mean"],
}
POWERS = {"token_mean": 0.0, "length_power 0.5": 0.5, "seq_mean": 1.0}
REFERENCE = "token_mean"
MEASURES = {
    "mean_length": "length written (tokens)",
    "repetition": "repeated pairs",
    "excess_repetition": "repeated pairs beyond those of stories of the same lengths",
    "eval_loss": "held-out loss (token mean, nats)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, default=Path("runs/length_bias"))
    parser.add_argument("--most", type=int, default=None, help="stop after so many new runs")
    parser.add_argument("override", nargs="*", help="further settings of train_sft.py")
    options = parser.parse_args()
    register_schema()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    kept = options.out / "runs.json"
    done = json.loads(kept.read_text()) if kept.is_file() else []
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = range(options.first, options.first + options.seeds)
    missing = [(s, name) for s in wanted for name in WEIGHTS if not _of(done, s, name)]
    for seed, name in missing[: options.most]:
        started = time.perf_counter()
        done.append({"seed": seed, "weight": name, **train(name, seed, options.override)})
        kept.write_text(json.dumps(done, indent=1) + "\n")
        numbers = "  ".join(f"{key} {done[-1][key]:.3f}" for key in MEASURES)
        print(f"seed {seed}  {name:<16}  {numbers}  ({time.perf_counter() - started:.0f} s)", flush=True)
    whole = [s for s in wanted if all(_of(done, s, name) for name in WEIGHTS)]
    if len(whole) > 1:
        text = report(done, whole)
        (options.out / "length_bias.md").write_text(text + "\n")
        draw(done, whole, options.out / "length_bias.png")
        print(text)


def _of(done: list[dict], seed: int, name: str) -> dict | None:
    return next((run for run in done if run["seed"] == seed and run["weight"] == name), None)


def train(name: str, seed: int, overrides: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        given = [*WEIGHTS[name], "experiment=length_bias", f"seed={seed}", f"model.pretrain.seed={seed}"]
        quiet = ["trainer.save_strategy=no", "trainer.eval_on_start=false", "show=0", f"run_dir={folder}/run"]
        run_sft(compose_command("train_sft", [*given, *quiet, *overrides]))
        summary = json.loads((Path(folder) / "run/summary.json").read_text())
        written = [json.loads(line) for line in (Path(folder) / "run/written.jsonl").read_text().splitlines()]
    usual = repetition_by_length()
    excess = [row["repetition"] - usual[min(usual, key=lambda n: abs(n - row["length"]))] for row in written]
    return {
        **summary["written"],
        "excess_repetition": sum(excess) / len(excess),
        "eval_loss": summary["eval_loss_after"],
        "seconds": summary["seconds"],
    }


@lru_cache
def repetition_by_length() -> dict[int, float]:
    """Mean repetition of made-up stories of each length that at least ten of 50,000 have."""
    found: dict[int, list[float]] = {}
    for text in stories(50_000, seed=1):
        tokens = [*text.split(), "<eos>"]
        found.setdefault(len(tokens), []).append(repeated_pairs(tokens))
    return {length: sum(shares) / len(shares) for length, shares in found.items() if len(shares) >= 10}


@lru_cache
def expected() -> dict[str, float]:
    """Mean length and repetition of the stories (50,000 of them) and the length each weight's optimum writes: texts
    weigh length^-gamma there, so that of seq_mean is the harmonic mean of the stories' lengths."""
    texts = [[*text.split(), "<eos>"] for text in stories(50_000, seed=1)]
    lengths = [len(text) for text in texts]
    found = {"length": sum(lengths) / len(texts), "repetition": sum(map(repeated_pairs, texts)) / len(texts)}
    for name, power in POWERS.items():
        found[name] = sum(n ** (1 - power) for n in lengths) / sum(n**-power for n in lengths)
    return found


def scores(done: list[dict], seeds: list[int], name: str, key: str) -> list[list[float]]:
    return [[_of(done, seed, name)[key] for seed in seeds]]


def report(done: list[dict], seeds: list[int]) -> str:
    data = expected()
    lines = [
        f"{len(seeds)} seeds; means with 95 % intervals (Student's t), differences paired by seed. The stories themselves "
        f"have {data['length']:.2f} tokens and {data['repetition']:.4f} repeated pairs.",
        "",
        f"| | weight | mean [95 %] | minus {REFERENCE} [95 %] | p | predicted |",
        "|---|---|---|---|---|---|",
    ]
    for key, label in MEASURES.items():
        for name in WEIGHTS:
            mean = mean_interval(scores(done, seeds, name, key))
            cells = [label if name == REFERENCE else "", f"`{name}`"]
            cells.append(f"{mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}]")
            if name == REFERENCE:
                cells += ["", ""]
            else:
                gap = paired_difference(scores(done, seeds, name, key), scores(done, seeds, REFERENCE, key))
                cells += [f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]", f"{gap.p:.2g}"]
            cells.append(f"{data[name]:.2f}" if key == "mean_length" else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(done: list[dict], seeds: list[int], path: Path) -> None:
    """One panel a measure: a line per seed, means with intervals, the stories' own value and the prediction."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    data, places = expected(), range(len(WEIGHTS))
    level = {"mean_length": data["length"], "repetition": data["repetition"], "excess_repetition": 0.0}
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    for axis, key in zip(axes, level, strict=True):
        for seed in seeds:
            values = [_of(done, seed, name)[key] for name in WEIGHTS]
            axis.plot(places, values, color="#bbbbbb", linewidth=0.8, zorder=1)
        means = [mean_interval(scores(done, seeds, name, key)) for name in WEIGHTS]
        bars = [[m.value - m.low for m in means], [m.high - m.value for m in means]]
        style = {"fmt": "o", "color": "#0072B2", "capsize": 4, "zorder": 3, "label": "mean, 95 % interval"}
        axis.errorbar(places, [m.value for m in means], bars, **style)
        axis.axhline(level[key], color="#222222", linestyle=":", label="the stories")
        if key == "mean_length":
            predicted = [data[name] for name in WEIGHTS]
            axis.plot(places, predicted, "x", color="#D55E00", markersize=9, label="predicted by the optimum", zorder=4)
        axis.set_xticks(places, list(WEIGHTS))
        axis.set_xlim(-0.4, len(WEIGHTS) - 0.6)
        title = {"excess_repetition": "repeated pairs beyond stories of equal length"}.get(key, MEASURES[key])
        axis.set_title(title, loc="left", fontsize=10, color="#222222")
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(f"What a model trained with each weight writes; grey: {len(seeds)} seeds", fontsize=12)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
