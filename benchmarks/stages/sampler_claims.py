"""What the samplers claim, in numbers, on worlds that can be enumerated.

    python benchmarks/stages/sampler_claims.py [--draws 100000] [--train] [--out runs/sampler_claims]

Distances and chi-squared of the exact samplers, the drift of the Metropolis kernel, the bias of importance resampling
for N texts, the mean of SMC's normaliser, limits, and the optimum of Long Horizon Temperature Scaling at each horizon.
--train also trains a small transformer at three horizons and measures how near it comes (minutes). The same claims with
thresholds are tests in tests/sampling/ and tests/trainers/test_lhts_training.py.

Shapes: X texts of up to the limit, C prefixes, S samples of a prompt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from pathlib import Path

import torch
from scipy.stats import chisquare

from sampling.ancestral import TokenTemperature
from sampling.exact import Enumeration, enumerate_texts, horizon_conditionals, mh_kernel, total_variation
from sampling.mh import PowerSampling, SuffixMH
from sampling.rejection import Rejection
from sampling.smc import SMC
from sampling.tabular import TabularModel

ALPHA = 2.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("runs/sampler_claims"))
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    parts = {
        "exact samplers": exact_samplers(options.draws),
        "Metropolis kernel": kernel(),
        "importance resampling": importance(),
        "SMC normaliser": normaliser(),
        "limits": limits(),
        "LHTS optimum": horizons(),
    }
    if options.train:
        parts["LHTS training"] = [trained(horizon) for horizon in (1, 2, None)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "sampler_claims.json").write_text(json.dumps(parts, indent=1) + "\n")
    text = "\n\n".join(f"{name}\n\n{table(rows)}" for name, rows in parts.items())
    (options.out / "sampler_claims.md").write_text(text + "\n")
    print(text)


def exact_samplers(draws: int) -> list[dict]:
    """Total variation to p^alpha against what as many exact draws show, and the chi-squared p-value."""
    rows = []
    samplers = [
        (TokenTemperature(max_rows=draws), 4),
        (Rejection(max_rows=10_000), 4),
        (SuffixMH(steps=24, max_rows=draws), 3),
        (PowerSampling(steps=24, blocks=2, max_rows=draws), 3),
    ]
    for sampler, limit in samplers:
        model = TabularModel.random(3, limit, seed=1)
        enumeration = enumerate_texts(model, limit, ALPHA)
        found = sampler(model, [[0]], 1 / ALPHA, draws, limit, torch.Generator().manual_seed(0))
        counts_X = enumeration.frequencies(found.tokens_PST[0])
        noise = (enumeration.target_X * (1 - enumeration.target_X) / (2 * math.pi * draws)).sqrt().sum()
        rows.append(
            {
                "sampler": type(sampler).__name__,
                "longest": limit,
                "draws": draws,
                "distance": total_variation(counts_X / draws, enumeration.target_X),
                "exact draws": float(noise),
                "chi-squared p": _p_value(counts_X, enumeration.target_X),
            }
        )
    return rows


def _p_value(counts_X, probabilities_X) -> float:
    """Texts expected fewer than 5 times are one cell."""
    expected_X = counts_X.sum() * probabilities_X
    rare_X = expected_X < 5
    seen = [*counts_X[~rare_X].tolist(), int(counts_X[rare_X].sum())]
    wanted = [*expected_X[~rare_X].tolist(), float(expected_X[rare_X].sum())]
    kept = [(s, w) for s, w in zip(seen, wanted, strict=True) if w > 0]
    return float(chisquare([s for s, _ in kept], [w for _, w in kept]).pvalue)


def kernel() -> list[dict]:
    """|p K - p|_1 of the explicit kernel over 20 worlds, and of the rule published with power sampling."""
    drifts, published = [], []
    for seed, alpha in itertools.product(range(5), (0.5, 1.5, 2.5, 4.0)):
        enumeration = enumerate_texts(TabularModel.random(3, 4, seed=seed), 4, alpha)
        drifts.append(float((enumeration.target_X @ mh_kernel(enumeration) - enumeration.target_X).abs().sum()))
        published.append(float((enumeration.target_X @ _published(enumeration) - enumeration.target_X).abs().sum()))
    return [
        {"rule": "as shipped", "largest drift": max(drifts), "smallest drift": min(drifts)},
        {"rule": "as published", "largest drift": max(published), "smallest drift": min(published)},
    ]


def _published(enumeration: Enumeration):
    """Cut within the text, new suffix no longer than the old."""
    kernel_XX = torch.zeros(len(enumeration.tokens_XT), len(enumeration.tokens_XT), dtype=torch.float64)
    lengths = enumeration.lengths_X.tolist()
    for x, length in enumerate(lengths):
        for k, (y, other) in itertools.product(range(length), enumerate(lengths)):
            if other <= length and torch.equal(enumeration.tokens_XT[x, :k], enumeration.tokens_XT[y, :k]):
                ratio = (enumeration.log_z_XT[y, k:].sum() - enumeration.log_z_XT[x, k:].sum()).exp().clamp(max=1)
                kernel_XX[x, y] += enumeration.log_q_XT[y, k:].sum().exp() * ratio / length
        kernel_XX[x, x] += 1 - kernel_XX[x].sum()
    return kernel_XX


def importance() -> list[dict]:
    """Distance of one text out of N to p^alpha, by enumeration of all N-tuples: no sampling error."""
    enumeration = enumerate_texts(TabularModel.random(2, 3, seed=14, scale=1.0), 3, 2.0)
    weight_X, rows = enumeration.log_z_XT.sum(1).exp(), []
    for particles in (1, 2, 4, 8, 16):
        law_X = torch.zeros_like(weight_X)
        for pool in itertools.combinations_with_replacement(range(len(weight_X)), particles):
            index = torch.tensor(pool)
            copies = torch.unique(index, return_counts=True)[1].tolist()
            orders = math.factorial(particles) / math.prod(map(math.factorial, copies))
            share = orders * enumeration.q_X[index].prod() * weight_X[index] / weight_X[index].sum()
            law_X.index_add_(0, index, share)
        distance = total_variation(law_X, enumeration.target_X)
        rows.append({"N": particles, "distance": distance, "N x distance": particles * distance})
    return rows


def normaliser(runs: int = 200_000, batches: int = 50) -> list[dict]:
    """Mean of SMC's estimate over the true normaliser, with its standard error."""
    model, rows = TabularModel.random(3, 4, seed=1), []
    true = enumerate_texts(model, 4, ALPHA).log_normaliser.exp()
    for place, threshold in enumerate((0.0, 0.5, 0.9, 1.0)):
        sampler = SMC(8, threshold, max_rows=10**6)
        draws = [
            sampler(model, [[0]], 1 / ALPHA, runs // batches, 4, torch.Generator().manual_seed(seed))
            for seed in range(place * batches, (place + 1) * batches)
        ]
        ratios = torch.stack([draw.log_normaliser_P.exp() for draw in draws]).double() / true
        rows.append(
            {
                "threshold": threshold,
                "runs": runs,
                "estimate / truth": float(ratios.mean()),
                "standard error": float(ratios.std() / math.sqrt(batches)),
                "resamplings a run": sum(float(draw.extras["resamplings"]) for draw in draws) / batches,
            }
        )
    return rows


def limits() -> list[dict]:
    one = enumerate_texts(TabularModel.random(3, 4), 4, 1.0)
    logits_V = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    logits_V[0] = -torch.inf  # no text ends early
    iid = enumerate_texts(TabularModel(logits_V.repeat(1, 1 + 4 + 16, 1)), 3, 3.0)
    possible_X = iid.log_p_X > -torch.inf
    sharp = enumerate_texts(TabularModel.random(3, 4, seed=18), 4, 200.0)
    best = sharp.log_p_X.argmax()
    return [
        {"limit": "alpha = 1: distance of token and sequence temperature", "value": total_variation(one.q_X, one.target_X)},
        {
            "limit": "independent tokens, one length, alpha = 3: the same",
            "value": total_variation(iid.q_X[possible_X], iid.target_X[possible_X]),
        },
        {"limit": "alpha = 200: mass of the likeliest text", "value": float(sharp.target_X[best])},
        {"limit": "the same under token temperature", "value": float(sharp.q_X[best])},
    ]  # fmt: skip


def horizons() -> list[dict]:
    """Distance of the tabular optimum at each horizon to token and to sequence temperature."""
    model = TabularModel.random(3, 5, seed=1)
    enumeration, rows = enumerate_texts(model, 5, ALPHA), []
    for horizon in (1, 2, 3, 4, 5):
        conditionals_CV = horizon_conditionals(model, 5, ALPHA, horizon)
        law_X = enumerate_texts(TabularModel(conditionals_CV.log()[None]), 5, 1.0).q_X
        distances = total_variation(law_X, enumeration.q_X), total_variation(law_X, enumeration.target_X)
        rows.append({"H": horizon, "to token temperature": distances[0], "to sequence temperature": distances[1]})
    return rows


def trained(horizon: int | None, steps: int = 150, limit: int = 3) -> dict:
    """A transformer of four tokens, before and after training: distance to the optimum of its horizon."""
    from tests.trainers.test_lhts_training import four_token_model, table_of, trainer_for
    from trainers.lhts import LHTS

    model = four_token_model()
    start = table_of(model, [2])
    goal = horizon_conditionals(start, limit, 2.0, horizon or limit).log()[None]
    goal_X = enumerate_texts(TabularModel(goal, eos_ids=(1,)), limit, 1.0).q_X
    enumeration = enumerate_texts(start, limit, 2.0)
    lhts = LHTS(tau=0.5, horizon=horizon, clamp=50.0, kl=0.0, max_new_tokens=limit)
    with tempfile.TemporaryDirectory() as folder:
        trainer_for(folder, model, lhts, max_steps=steps, logging_steps=50).train()
    reached_X = enumerate_texts(table_of(model, [2]), limit, 1.0).q_X
    return {
        "H": horizon or "all",
        "before": total_variation(enumeration.log_p_X.exp(), goal_X),
        "after": total_variation(reached_X, goal_X),
        "after, to token temperature": total_variation(reached_X, enumeration.q_X),
        "after, to sequence temperature": total_variation(reached_X, enumeration.target_X),
    }


def table(rows: list[dict]) -> str:
    lines = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    shown = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in shown)])


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
