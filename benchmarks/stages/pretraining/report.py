"""Table, pictures and data of benchmarks/stages/pretraining/train.py, with the exact predictions beside them.

    python benchmarks/stages/pretraining/report.py --runs runs/stages --out docs/results/stages

Writes OUT/pretraining.json (every seed's numbers, predictions, what packing does) and the pictures text_weight.png and
pretraining.png; prints the tables of docs/token_or_sequence.md.

Shapes: N texts, L lengths from 0.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from scipy import stats
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from measures import PLACES
from pictures import draw_measured, draw_weights

from compare.statistics import mean_interval, paired_difference
from lab.text_weight import ending, expected_factor, learnt_length, power_factor

BATCH, MICRO, REFERENCE = 32, 4, "token_mean"
TRAININGS = ("stories_400", "stories_4800", "passages_2250")
KEYS = ("length", "repetition", "excess", "at_equal_length", "token_nll", "text_nll", "text_mean_nll", "overconfidence")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
ROW, ROWS = 256, 4  # tokens of a packed row, rows of a batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/stages"))
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    missing = [name for name in TRAININGS if not (options.runs / f"{name}.json").is_file()]
    if missing:
        parser.error(f"{options.runs} has no {missing[0]}.json; benchmarks/stages/pretraining/train.py makes it.")
    options.out.mkdir(parents=True, exist_ok=True)
    data = {name: condensed(json.loads((options.runs / f"{name}.json").read_text())) for name in TRAININGS}
    exact = {
        texts: predicted(torch.tensor(data[name]["usual"]["lengths"]))
        for texts, name in (("stories", "stories_4800"), ("passages", "passages_2250"))
    }
    whole = {"exact": exact, "trainings": data}
    (options.out / "pretraining.json").write_text(json.dumps(whole, separators=(",", ":")) + "\n")
    draw_weights(whole, options.out / "text_weight.png")
    draw_measured(whole, options.out / "pretraining.png")
    print(tables(whole))


def condensed(raw: dict) -> dict:
    """One number a seed for each arm and measure, and its difference from the reference where arms are compared."""
    arms = list(dict.fromkeys(run["arm"] for run in raw["runs"]))
    of = {arm: [run for run in raw["runs"] if run["arm"] == arm] for arm in arms}
    found = {"arms": {}, "minus": {}}
    for arm in arms:
        columns = {key: [round(run[key], 5) for run in of[arm]] for key in KEYS}
        found["arms"][arm] = columns
        found["arms"][arm]["tenths"] = [[run["tenths"][tenth] for run in of[arm]] for tenth in range(10)]
        # each group of positions with an end in it: share of end tokens that each seed predicts, over the share seen
        places = [[run["places"][place] for run in of[arm]] for place in range(len(of[arm][0]["places"]))]
        found["arms"][arm]["ends"] = [[round(row[3] / row[4], 4) for row in rows if row[4]] for rows in places]
        if arm != REFERENCE:
            found["minus"][arm] = {
                key: [round(run[key] - other[key], 5) for run, other in zip(of[arm], of[REFERENCE], strict=True)]
                for key in KEYS
            }
    about = {key: value for key, value in raw.items() if key not in ("runs", "usual")}
    return {"about_training": about, "usual": raw["usual"], **found}


def predicted(count_L: Tensor) -> dict:
    """Of texts with these lengths: what each arm learns; token mean by batch size; what packing does to a text of 20."""
    shares_L = count_L.double() / count_L.sum()
    factor = {
        "constant": power_factor(shares_L, 0.0),
        "token_mean": expected_factor(shares_L, BATCH),
        "micro_mean": expected_factor(shares_L, MICRO),
        "length_power 0.5": power_factor(shares_L, 0.5),
        "seq_mean": power_factor(shares_L, 1.0),
        "drawn": power_factor(shares_L, 1.0),
    }
    longest, length_L = len(shares_L) - 1, torch.arange(len(shares_L), dtype=torch.float64)
    spread = float((shares_L @ (length_L - shares_L @ length_L) ** 2).sqrt())
    return {
        "mean_length": float(shares_L @ length_L),
        "sd_length": spread,
        "longest": longest,
        "length": {name: round(learnt_length(shares_L, each), 4) for name, each in factor.items()},
        "minus": {
            name: round(learnt_length(shares_L, each) - learnt_length(shares_L, factor[REFERENCE]), 4)
            for name, each in factor.items()
        },
        "by_batch": {str(b): round(learnt_length(shares_L, expected_factor(shares_L, b)), 4) for b in BATCHES},
        "ends": {name: _ends(shares_L, each) for name, each in factor.items()},
        "packing": packing(shares_L),
    }


def _ends(shares_L: Tensor, factor_L: Tensor) -> list[float]:
    """By group of positions (PLACES): end tokens predicted by the reweighted data, read along the data, over those seen."""
    there_L = shares_L.flip(0).cumsum(0).flip(0)
    place_L = torch.bucketize(torch.arange(len(shares_L)), torch.tensor(PLACES))
    predicted_L = there_L * ending(shares_L, factor_L).nan_to_num()
    groups = [place_L == place for place in range(len(PLACES))]
    return [round(float(predicted_L[g].sum() / shares_L[g].sum()), 4) if shares_L[g].sum() else 0.0 for g in groups]


def packing(shares_L: Tensor, texts: int = 60_000, batches: int = 4000) -> dict:
    """Batches of 32 separate texts and of 4 packed rows (TRL's packing, best fit decreasing): how much the factor of a text
    varies, as standard deviation over mean for texts of one length, and by how many tokens the mean length that is learnt
    departs from the data's."""
    from datasets import Dataset, disable_progress_bars
    from trl.data_utils import pack_dataset

    disable_progress_bars()
    generator = torch.Generator().manual_seed(0)
    lengths = torch.multinomial(shares_L, texts, replacement=True, generator=generator)
    rows = Dataset.from_dict({"input_ids": [[0] * int(n) for n in lengths]})
    rows = pack_dataset(rows, seq_length=ROW, strategy="bfd")["seq_lengths"]
    # Best fit decreasing sorts by length within a block of texts; rows are drawn at random into batches.
    packed = [
        [n for row in torch.randint(len(rows), (ROWS,), generator=generator) for n in rows[int(row)]]
        for _ in range(batches)
    ]
    apart = lengths[torch.randint(texts, (batches, BATCH), generator=generator)].tolist()
    found = {}
    for name, drawn in (("apart", apart), ("packed", packed)):
        for weight in ("token_mean", "constant"):  # up to a factor of the run
            over = sum if weight == "token_mean" else len
            pairs = [(n, 1 / over(batch)) for batch in drawn for n in batch]
            length_N, factor_N = (torch.tensor(each, dtype=torch.float64) for each in zip(*pairs, strict=True))
            found[f"{weight}, {name}"] = {
                "varies": round(_within(length_N.long(), factor_N), 4),
                "shift": round(float((length_N * factor_N).sum() / factor_N.sum() - length_N.mean()), 3),
                "texts": round(len(length_N) / batches, 2),
                "tokens": round(float(length_N.sum()) / batches, 1),
            }
    return found


def _within(length_N: Tensor, factor_N: Tensor) -> float:
    """Standard deviation of the factor among texts of equal length, over its mean, averaged over texts."""
    size = int(length_N.max()) + 1
    count_L = torch.zeros(size, dtype=torch.float64).index_add_(0, length_N, torch.ones_like(factor_N))
    mean_L = torch.zeros_like(count_L).index_add_(0, length_N, factor_N) / count_L.clamp(min=1)
    return float((factor_N - mean_L[length_N]).square().mean().sqrt() / factor_N.mean())


def seeds_needed(differences: list[float], effect: float, power_wanted: float = 0.8) -> int:
    """Pairs for a two-sided t-test at 5 % to find a mean difference of `effect` with this probability."""
    spread = mean_spread(differences)
    for seeds in range(3, 10_000):
        shift, edge = effect / (spread / math.sqrt(seeds)), stats.t.ppf(0.975, seeds - 1)
        found = stats.nct.sf(edge, seeds - 1, shift) + stats.nct.cdf(-edge, seeds - 1, shift)
        if found >= power_wanted:
            return seeds
    return 10_000


def mean_spread(differences: list[float]) -> float:
    return paired_difference([differences], [[0.0] * len(differences)]).spread


def _interval(values: list[float], places: int, sign: bool = False) -> str:
    mean = mean_interval([values])
    shown = [f"{each:{'+' if sign else ''}.{places}f}" for each in (mean.value, mean.low, mean.high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def tables(whole: dict) -> str:
    exact, data = whole["exact"], whole["trainings"]
    lines = [
        "| denominator | stories: predicted | written, 400 steps | written, 4800 steps | passages: predicted | written, 2250 steps |",
        "|---|---|---|---|---|---|",
    ]
    for arm in data["stories_400"]["arms"]:
        cells = [f"`{arm}`", f"{exact['stories']['length'][arm]:.2f}"]
        cells += [_interval(data[name]["arms"][arm]["length"], 2) for name in ("stories_400", "stories_4800")]
        cells += [f"{exact['passages']['length'][arm]:.2f}", _interval(data["passages_2250"]["arms"][arm]["length"], 2)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| repeated pairs, `seq_mean` minus `token_mean` | stories, 400 steps | 4800 steps | passages |",
        "|---|---|---|---|",
    ]
    labels = {
        "repetition": "all texts",
        "excess": "beyond real texts of the same lengths, over the model's own texts (the earlier measure)",
        "at_equal_length": "the same at equal lengths: each tenth of the real texts' lengths counts alike",
    }
    for key, label in labels.items():
        cells = [_interval(data[name]["minus"]["seq_mean"][key], 4, sign=True) for name in TRAININGS]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    cells = [str(seeds_needed(data[name]["minus"]["seq_mean"]["at_equal_length"], 0.003)) for name in TRAININGS]
    lines.append(f"| seeds to find a difference of 0.003 at equal lengths | {' | '.join(cells)} |")
    lines += [
        "",
        "| held out, minus `token_mean` | nats a token | nats a text | mean of texts' means | loss minus entropy |",
        "|---|---|---|---|---|",
    ]
    for name in ("stories_400", "passages_2250"):
        for arm in ("constant", "micro_mean", "length_power 0.5", "seq_mean"):
            minus = data[name]["minus"][arm]
            cells = [_interval(minus[key], 4 if key != "text_nll" else 3, sign=True) for key in KEYS[4:]]
            lines.append(f"| `{arm}`, {name.split('_')[0]} | {' | '.join(cells)} |")
    lines += [
        "",
        "| batch | the factor of texts of one length varies by | length learnt, minus that of the data | texts in a batch |",
        "|---|---|---|---|",
    ]
    for name, row in exact["stories"]["packing"].items():
        lines.append(f"| `{name.replace(',', '`,')} | {row['varies']:.1%} | {row['shift']:+.2f} | {row['texts']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
