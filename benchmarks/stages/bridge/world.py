"""Alignment with the model's own likelihood against samplers of p^alpha, on worlds in which every text is known.

    PYTHONPATH=. python benchmarks/stages/bridge/world.py [--seeds 10] [--steps 1000] [--out runs/stages]

Ten random worlds (3 tokens, texts of up to 6), alpha = 2, beta = 1. Three questions: where the expected update of a strategy comes
to rest (by enumeration, no sampling; a policy that can be any distribution, and one that sees the last token only); how near runs
with 128 texts a step come (16 groups of 8, Adam, the shipped strategies); how near SMC, Metropolis-Hastings and the optimum of Long
Horizon Temperature Scaling are. Distances are total variation to p^alpha / Z. Writes OUT/bridge_world.json; tables and pictures:
benchmarks/stages/bridge/report.py.

Shapes: S seeds side by side (in tokens_PST texts of a prompt), X texts of up to the limit, C prefixes, K shared
prefixes.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from configs.compose import compose_strategy
from credit.batch import Rollout
from credit.strategy import Strategy
from lab.bridge import Way, Worlds, by_last_token, rest, total_variation_S
from sampling.exact import enumerate_texts, horizon_conditionals, total_variation
from sampling.mh import SuffixMH
from sampling.smc import SMC
from sampling.tabular import TabularModel

VOCABULARY, LIMIT, ALPHA = 3, 6, 2.0
BETA = 1 / (ALPHA - 1)
GROUPS, GROUP, RATE = 16, 8, 0.01
EVERY = 50  # steps between two measurements
STRATEGIES = {
    "dr_grpo": ["credit=dr_grpo"],
    "dr_grpo, seq_mean": ["credit=dr_grpo", "credit/weight=seq_mean"],
    "seq_norm": ["credit=seq_norm"],
}
PLACES = {"reward": "credit.kl_in_reward=true", "loss": "credit.kl_in_reward=false"}
DRAWS = 50_000


def strategy(name: str, place: str) -> Strategy:
    return compose_strategy([*STRATEGIES[name], PLACES[place]])


def worlds_of(seeds: int, policy: str) -> Worlds:
    """World k has the logits of seed k."""
    state_C = by_last_token(VOCABULARY, LIMIT) if policy == "last token" else None
    tables = []
    for seed in range(seeds):
        if state_C is None:
            tables.append(TabularModel.random(VOCABULARY, LIMIT, seed=seed).logits_PCV[0])
        else:
            draws = torch.Generator().manual_seed(seed)
            rows_KV = 1.5 * torch.randn(VOCABULARY + 1, VOCABULARY, generator=draws, dtype=torch.float64)
            tables.append(rows_KV[state_C])
    return Worlds(TabularModel(torch.stack(tables)), LIMIT, state_C)


def limits(seeds: int) -> list[dict]:
    """Where the expected update dies down."""
    rows = []
    for policy in ("any", "last token"):
        worlds = worlds_of(seeds, policy)
        target_SX, lengths_X = worlds.target_SX(ALPHA), worlds.lengths_X.double()
        for place in PLACES:
            for name in STRATEGIES:
                theta_SKV = rest(worlds, Way(strategy(name, place), BETA), rate=0.3 if place == "reward" else 0.1)
                logq_SX = worlds.logps(theta_SKV).sum(-1)
                q_SX = logq_SX.exp()
                rows.append(
                    {
                        "policy": policy,
                        "KL term": place,
                        "strategy": name,
                        "distance": total_variation_S(q_SX, target_SX).tolist(),
                        "KL to the target": (q_SX * (logq_SX - target_SX.log())).sum(-1).tolist(),
                        "length minus target's": ((q_SX - target_SX) @ lengths_X).tolist(),
                    }
                )
                print(policy, place, name, f"{sum(rows[-1]['distance']) / seeds:.5f}", flush=True)
    return rows


def run(worlds: Worlds, credit: Strategy, steps: int) -> dict[str, list]:
    """Sampled training of all worlds side by side; world k draws its texts with seed k."""
    seeds, rows, target_SX = len(worlds.logp_SX), GROUPS * GROUP, worlds.target_SX(ALPHA)
    group_B = torch.arange(rows) // GROUP
    draws = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    theta_SKV = worlds.start_SKV.clone().requires_grad_()
    optimiser = torch.optim.Adam([theta_SKV], lr=RATE, betas=(0.9, 0.99))
    found: dict[str, list] = {"texts": [], "distance": [], "length": []}
    for step in range(steps + 1):
        with torch.no_grad():
            every_SCV = theta_SKV.log_softmax(-1)
            logq_SXT = worlds.logps(theta_SKV)
            q_SX = logq_SXT.sum(-1).exp()
            if step % EVERY == 0:
                found["texts"].append(step * rows)
                found["distance"].append(total_variation_S(q_SX, target_SX).tolist())
                found["length"].append((q_SX @ worlds.lengths_X.double()).tolist())
            signal_SXT = torch.zeros_like(logq_SXT)
            for s in range(seeds):
                text_B = torch.multinomial(q_SX[s], rows, replacement=True, generator=draws[s])
                signal_SXT[s].index_add_(0, text_B, signal(worlds, s, text_B, group_B, logq_SXT[s], credit))
            taken_SCV = worlds.counts(signal_SXT, theta_SKV.shape[1])
            gradient_SCV = taken_SCV - taken_SCV.sum(-1, keepdim=True) * every_SCV.exp()
        theta_SKV.grad = -gradient_SCV
        optimiser.step()
    return found


def signal(worlds: Worlds, s: int, text_B: Tensor, group_B: Tensor, logq_XT: Tensor, credit: Strategy) -> Tensor:
    """(B, T) factor of each token's score in the ascent: weight times credit, and TRL's KL term where it stands in the loss."""
    mask_BT = worlds.mask_XT[text_B]
    gap_BT = worlds.logp_SXT[s][text_B] - logq_XT[text_B]
    rollout = Rollout(worlds.logp_SX[s][text_B], group_B, mask_BT, max_length=LIMIT, kl_rewards_BT=BETA * gap_BT)
    made = credit.score(rollout)
    factor_BT = made.advantages_BT
    if not credit.kl_in_reward:
        factor_BT = factor_BT - BETA * (1 - gap_BT.exp())
    return factor_BT * made.weights_BT


def samplers(seeds: int) -> list[dict]:
    """Distances of what samplers write on the same worlds, and their tokens per text."""
    rows = {}
    for seed in range(seeds):
        model = TabularModel.random(VOCABULARY, LIMIT, seed=seed)
        world = enumerate_texts(model, LIMIT, ALPHA)
        target_X, lengths_X = world.target_X, world.lengths_X.double()
        entries = {"the start": (world.log_p_X.exp(), 1), "token temperature": (world.q_X, 1)}
        for horizon in (2, 4, LIMIT):
            table = horizon_conditionals(model, LIMIT, ALPHA, horizon).log()[None]
            entries[f"LHTS optimum, H={horizon}"] = (enumerate_texts(TabularModel(table), LIMIT, 1.0).q_X, 1)
        entries["exact draws"] = (
            torch.bincount(torch.multinomial(target_X, DRAWS, True), minlength=len(target_X)).double() / DRAWS,
            1,
        )
        for name, sampler in {"SMC, 16": SMC(16), "SMC, 64": SMC(64), "MH, 32 steps": SuffixMH(32)}.items():
            sampler = type(sampler)(**{**sampler.__dict__, "max_rows": 200_000})
            drawn = sampler(model, [[0]], 1 / ALPHA, DRAWS, LIMIT, torch.Generator().manual_seed(seed))
            entries[name] = (world.frequencies(drawn.tokens_PST[0]).double() / DRAWS, drawn.tokens_per_sample)
        for name, (law_X, tokens) in entries.items():
            row = rows.setdefault(name, {"sampler": name, "distance": [], "tokens per text": []})
            row["distance"].append(total_variation(law_X, target_X))
            row["tokens per text"].append(float(law_X @ lengths_X) if tokens == 1 else tokens)
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    torch.manual_seed(0)
    found: dict = {"samplers": samplers(options.seeds), "limits": limits(options.seeds), "runs": {}}
    worlds = worlds_of(options.seeds, "any")
    for place in PLACES:
        for name in STRATEGIES:
            found["runs"][f"{name} | {place}"] = run(worlds, strategy(name, place), options.steps)
            last = found["runs"][f"{name} | {place}"]["distance"][-1]
            print(f"{name} | {place}: {math.fsum(last) / len(last):.4f}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bridge_world.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
