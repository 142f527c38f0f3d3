"""A planted bias: how large must it be to be caught with how many batches?

    python benchmarks/audit/planted.py --out docs/results/audit/planted.json

The strategy is a value baseline (decomposition with the exact critic), which has no bias, plus a part of what seq_norm does otherwise than
rloo: so its relative bias is known exactly. Caught: the interval of the relative bias does not hold 0. About 2 minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from kept import keep

from configs.compose import named_strategy
from lab.audit.bias import angle
from lab.audit.drawn import batch_gradients
from lab.audit.products import products_of
from lab.measure.declarations import enumerated
from lab.measure.estimate import measure

WORLDS = ("filler", "tiny_turn:transformer", "regex_tags")
PARTS = (0.0, 0.5, 1.0, 2.0)
BATCHES = (8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/audit/planted.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for world in WORLDS for row in of_world(world, options.audits)]
    found = {
        "audits": options.audits,
        "rows": rows,
    }
    keep(options.out, "python benchmarks/audit/planted.py", found)
    print(table(rows))


def of_world(world: str, audits: int) -> list[dict]:
    """One row for each size of the bias."""
    learner = enumerated(world)
    number = audits * max(BATCHES)
    gradients, means = {}, {}
    for name in ("rloo", "seq_norm", "decomposition"):
        truth = measure(learner, named_strategy(name))
        assert truth.exact
        # All of the length of rloo's mean, so that a part is a part of the direction.
        scale = float(means["rloo"].norm() / truth.mean_D.norm()) if means else 1.0
        means[name] = scale * truth.mean_D
        gradients[name] = scale * batch_gradients(learner, named_strategy(name), number)
    rows = []
    for part in PARTS:
        mean_D = means["decomposition"] + part * (means["seq_norm"] - means["rloo"])
        along = float(mean_D @ means["rloo"]) / float(means["rloo"].norm())
        bias = math.sqrt(max(float(mean_D @ mean_D) - along**2, 0.0)) / along
        mixed = gradients["decomposition"] + part * (gradients["seq_norm"] - gradients["rloo"])
        plain = gradients["rloo"]
        caught = {str(batches): _caught(plain, mixed, batches, audits) for batches in BATCHES}
        rows.append({"world": world, "part": part, "relative_bias": round(bias, 6), "caught": caught})
        print(rows[-1], flush=True)
    return rows


def _caught(plain: torch.Tensor, mixed: torch.Tensor, batches: int, audits: int) -> float:
    """Per cent of audits."""
    seen = 0
    for start in range(0, audits * batches, batches):
        both = torch.stack([plain[start : start + batches], mixed[start : start + batches]])
        gram = torch.einsum("sbd,tcd->sbtc", both, both)
        seen += angle(gram, products_of(gram), 1, 0).sine.low > 0
    return 100 * seen / audits


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| world | relative bias | " + " | ".join(f"{batches} batches" for batches in BATCHES) + " |",
        "|---" * 6 + "|",
    ]
    for row in rows:
        cells = " | ".join(f"{caught:.0f} %" for caught in row["caught"].values())
        lines.append(f"| `{row['world']}` | {row['relative_bias']:.3f} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
