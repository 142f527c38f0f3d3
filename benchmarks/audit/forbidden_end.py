"""What becomes of unbiased strategies where sampling forbids the end of the text (min_new_tokens) and the log-probs do not know it.

    python benchmarks/audit/forbidden_end.py --out docs/results/audit/forbidden_end.json

Exactly, in the game of letters.py with its end forbidden for the first two or three tokens: relative bias against the gradient of
E[R] under the sampler, for baselines of every quality, with the policy's log-probs and with those that know what was forbidden. And by
audits of `experiment=doors`, as it is and with the end allowed; they go on where they were stopped. A few minutes on one core.

Shapes: N texts, T tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from kept import ROOT, keep
from letters import of_world, world, write_model
from torch import Tensor

from lab.measure.critics import perfect

FORBIDDEN, BATCHES = (0, 2, 3), 64
DOORS = {"doors": [], "doors, end allowed": ["trainer.generation_kwargs=null"]}
STRATEGIES = ("value", "dr_grpo", "ridge_loo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=Path, default=Path("runs/audit/forbidden_end"))
    parser.add_argument("--out", type=Path, default=Path("runs/audit/forbidden_end.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {"exact": exact_biases(), "batches": BATCHES, "doors": audited(options.audits)}
    keep(options.out, "python benchmarks/audit/forbidden_end.py", found)
    print(json.dumps(found, indent=1))


def exact_biases() -> list[dict]:
    """One row for each baseline; an update that points backwards has the bias None."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = write_model(Path(folder))
        for tokens in FORBIDDEN:
            rules = replace(world(), min_length=tokens)
            knows, policy = of_world(rules, place), of_world(rules, place, forgets=True)
            prompt_N1, mask_NT = knows.prompt_values_N[:, None], knows.tree.mask_NT
            baselines = {"no critic": 0 * prompt_N1, "half of V(prompt)": prompt_N1 / 2, "leave one out": prompt_N1,
                         "the right V(s)": perfect(knows)}  # fmt: skip
            for name, values in baselines.items():
                push_NT = knows.probs_N[:, None] * (knows.tree.rewards_N[:, None] - values) * mask_NT
                biases = [relative_bias(each.pull(push_NT), knows.reward_gradient) for each in (policy, knows)]
                rows.append({"forbidden": tokens, "baseline": name, "bias": biases[0], "bias_if_known": biases[1]})
    return rows


def relative_bias(mean_D: Tensor, truth_D: Tensor) -> float | None:
    """As lab/measure/metrics.py; below a millionth it is the single precision of the model."""
    scale = float(mean_D @ truth_D) / float(truth_D @ truth_D)
    found = float((mean_D / scale - truth_D).norm() / truth_D.norm()) if scale > 0 else math.inf
    return None if math.isinf(found) else 0.0 if found < 1e-6 else found


def audited(folder: Path) -> list[dict]:
    rows = []
    for name, words in DOORS.items():
        out = folder / name.replace(", ", "_").replace(" ", "_")
        own = ["--config-dir", "benchmarks/audit/arms", f"batches={BATCHES}", "shares=0", f"out={out.absolute()}"]
        command = ["-m", "lab.audit", "experiment=doors", f"credit={','.join(STRATEGIES)}", *words, *own]
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        audit = json.loads((out / "audit.json").read_text())["strategies"]
        for strategy in STRATEGIES:
            bias = {key: audit[strategy]["relative_bias"][key] for key in ("value", "low", "high")}
            rows.append({"task": name, "strategy": strategy, **bias, "p": audit[strategy]["p_bias"]})
    return rows


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
