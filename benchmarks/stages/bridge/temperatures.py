"""Token temperature against sequence temperature on language models that cannot be enumerated.

    PYTHONPATH=. python benchmarks/stages/bridge/temperatures.py [--seeds 10] [--most 2] [--out runs/stages]

`stories`: the models of benchmarks/stages/bridge/stories.py, one a seed. Both curves, since there no token temperature has the entropy
of a sequence temperature below 1; sequence temperature by SMC with 64 particles. `chain`: the embedded model of the default run, 4
held-out prompts, seeds of the sampling only; there nearly every token-tempered text counts, sequence temperature comes by their
weights, and the token temperature with the entropy of p^alpha / Z is found on a grid and then drawn from anew. Runs so far are kept
in OUT/temperatures.json. The exact twin: `python -m lab.equal_entropy`.

Shapes: S texts of a prompt.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from pathlib import Path

import datasets
import torch
import transformers

sys.path.append(str(Path(__file__).resolve().parent.parent))

from length_bias import repetition_by_length
from stories import LIMIT, RUNS, Start
from torch import Tensor

from lab.length_bias import repeated_pairs
from sampling.ancestral import TokenTemperature
from sampling.causal_lm import CausalLM
from sampling.draws import Draws, effective_sample_size
from sampling.smc import SMC
from trainers.command.build import build_policy, build_task
from trainers.command.cli import compose_command
from trainers.model.prompts import prompt_ids
from trainers.run.grpo import register_schema

SEQUENCE, TOKEN = (0.95, 0.9, 0.8, 0.6), (1.0, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1)  # of the stories
CHAIN, GRID = (0.7, 0.5), (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.22, 0.16)
TEXTS, TRIAL, LONGEST = 256, 128, 64  # of a prompt; to find a temperature; tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--most", type=int, default=None, help="stop after so many new cells")
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "temperatures.json"
    done = json.loads(kept.read_text()) if kept.is_file() else []
    order = [(name, seed) for seed in range(options.seeds) for name in ("stories", "chain")]
    missing = [cell for cell in order if not any((row["model"], row["seed"]) == cell for row in done)]
    for name, seed in missing[: options.most]:
        started = time.perf_counter()
        rows = stories(seed) if name == "stories" else chain(seed)
        done += [{"model": name, "seed": seed, **row} for row in rows]
        for row in rows:
            shown = [f"{key} {value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items()]
            print(name, seed, "  ".join(shown), flush=True)
        kept.write_text(json.dumps(done, indent=1) + "\n")
        print(f"({time.perf_counter() - started:.0f} s)", flush=True)


def stories(seed: int) -> list[dict]:
    """A row for every temperature of either kind."""
    start, rows = Start(seed, log_z=0.0), []
    generator = torch.Generator().manual_seed(seed)
    for tau in TOKEN:
        draws = TokenTemperature(max_rows=512)(start.lm, [start.prompt], tau, TEXTS, LIMIT, generator)
        found = means(draws, torch.full((1, TEXTS), 1.0 / TEXTS, dtype=torch.float64)) | beyond_length(draws)
        share = float(effective_sample_size(draws.log_weights_PS).mean()) / TEXTS
        rows.append({"way": "token", "tau": tau, **found, "entropy": entropy_of(draws, tau), "ess": share})
    for tau in SEQUENCE:
        runs = RUNS // 2 if tau > 0.8 else RUNS
        draws = SMC(64, max_rows=1024)(start.lm, [start.prompt], tau, runs, LIMIT, generator)
        found = means(draws, torch.full((1, runs), 1.0 / runs, dtype=torch.float64)) | beyond_length(draws)
        entropy = float(draws.log_normaliser_P[0]) - found["log p"] / tau
        rows.append({"way": "sequence", "tau": tau, **found, "entropy": entropy, "ess": float(draws.ess_P[0]) / 64})
    return rows


def chain(seed: int) -> list[dict]:
    """A row for every sequence temperature, with the token temperature of its entropy."""
    lm, prompts = chain_model()
    generator = torch.Generator().manual_seed(seed)
    return [{"way": "compared", "tau": tau, **compared(lm, prompts, tau, generator)} for tau in CHAIN]


def chain_model() -> tuple[CausalLM, list]:
    register_schema()
    command = compose_command("train_grpo", [])
    task = build_task(command.config)
    with contextlib.redirect_stderr(io.StringIO()):
        policy = build_policy(command.config, task)
    rows = task.evaluation[:: len(task.evaluation) // 4][:4]
    return CausalLM(policy.model.eval(), policy.tokenizer), [prompt_ids(r["prompt"], policy.tokenizer) for r in rows]


def compared(lm: CausalLM, prompts: list, tau: float, generator: torch.Generator) -> dict:
    """What each way writes at one entropy, means over prompts; `same tau`: token temperature at `tau` itself."""
    same = TokenTemperature(max_rows=512)(lm, prompts, tau, TEXTS, LONGEST, generator)
    weights_PS = same.log_weights_PS.double().softmax(-1)
    sequence = means(same, weights_PS)
    sequence["entropy"] = float(same.log_normaliser_P.double().mean()) - sequence["log p"] / tau
    token_tau = equally_diverse(lm, prompts, sequence["entropy"], generator)
    token = TokenTemperature(max_rows=512)(lm, prompts, token_tau, TEXTS, LONGEST, generator)
    even_PS = torch.full_like(weights_PS, 1.0 / TEXTS)
    found = {"ess": float(effective_sample_size(same.log_weights_PS).mean()) / TEXTS, "token tau": token_tau}
    found |= {f"sequence {key}": value for key, value in sequence.items()}
    found |= {f"token {key}": value for key, value in means(token, even_PS).items()}
    found["token entropy"] = entropy_of(token, token_tau)
    found |= {f"same tau {key}": value for key, value in means(same, even_PS).items()}
    found["same tau entropy"] = entropy_of(same, tau)
    return found | at_lengths(same, weights_PS, token)


def means(draws: Draws, weights_PS: Tensor) -> dict[str, float]:
    values = {"log p": draws.logps_PS.double(), "length": draws.lengths_PS.double(), "repeated pairs": repeats(draws)}
    return {key: float((weights_PS * value_PS).sum(1).mean()) for key, value_PS in values.items()}


def beyond_length(draws: Draws) -> dict[str, float]:
    """Repeated pairs of each text less those of real stories as long as it (of the nearest length that ten of them have)."""
    usual = repetition_by_length()
    lengths = draws.lengths_PS[0].tolist()
    expected = [usual[min(usual, key=lambda known: abs(known - length))] for length in lengths]
    return {"repeated pairs beyond length": float(repeats(draws)[0].mean()) - sum(expected) / len(expected)}


def repeats(draws: Draws) -> Tensor:
    return torch.stack([repeated_pairs(tokens_ST) for tokens_ST in draws.tokens_PST])


def entropy_of(draws: Draws, tau: float) -> float:
    """Of token temperature: minus the mean of log q, which is known for every draw."""
    return float((draws.log_weights_PS.double() - draws.logps_PS.double() / tau).mean())


def equally_diverse(lm: CausalLM, prompts: list, entropy: float, generator: torch.Generator) -> float:
    """The token temperature with this entropy, between two of the grid.

    Raises:
        ValueError: none of the grid has so little.
    """
    above = (2.0, float("inf"))
    for tau in GRID:
        here = entropy_of(TokenTemperature(max_rows=512)(lm, prompts, tau, TRIAL, LONGEST, generator), tau)
        if here <= entropy:
            return tau if above[0] > 1 else tau + (above[0] - tau) * (entropy - here) / (above[1] - here)
        above = (tau, here)
    raise ValueError(f"No token temperature down to {GRID[-1]} has an entropy of {entropy:.2f}.")


def at_lengths(draws: Draws, weights_PS: Tensor, token: Draws) -> dict[str, float]:
    """Repeated pairs of sequence minus token temperature, each text beside token texts of its own length and prompt; `covered`:
    the share of the weight that has such."""
    gaps, covered = 0.0, 0.0
    mine_PS, other_PS = repeats(draws), repeats(token)
    for p in range(len(weights_PS)):
        lengths_S, other_S = draws.lengths_PS[p], token.lengths_PS[p]
        for length in lengths_S.unique():
            here_S, there_S = lengths_S == length, other_S == length
            if there_S.any():
                weight_S = weights_PS[p] * here_S
                gaps += float((weight_S * (mine_PS[p] - other_PS[p][there_S].mean())).sum())
                covered += float(weight_S.sum())
    return {"repeated pairs at equal lengths": gaps / covered if covered else 0.0, "covered": covered / len(weights_PS)}


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
