"""Doors with a small transformer: completions until 0.9 of the doors open, credit from spans against the group's mean.

    python benchmarks/spans_decoder.py --seeds 10

The policy is a decoder with learned absolute positions (width 64, 2 layers) that writes K letters of V; 16 completions
a step in two groups of 8, one Adam step on each, learning rate tuned per strategy on seeds that are not reported. The
loss is the on-policy one, -sum w A log pi, with A and w from the shipped strategies; a loop of its own instead of TRL's
makes ten seeds affordable on one core. Results are kept in --out, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from pathlib import Path

import torch
from torch import Tensor, nn

from credit import Strategy
from credit.baseline import group_mean, group_zscore, none
from credit.batch import Rollout
from credit.spans import spans
from credit.weight import constant

K, V, ROWS, GROUP, TARGET, SMOOTH = 64, 4, 16, 8, 0.9, 10
STRATEGIES = {
    "spans": Strategy(constant, none, spans),
    "group_mean": Strategy(constant, group_mean),
    "group_zscore": Strategy(constant, group_zscore),
}
RATES = (2e-4, 5e-4, 1e-3)


class Decoder(nn.Module):
    """Pre-norm decoder over the letters; token V is the prompt. Keeps keys and values while it samples."""

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.letters, self.places = nn.Embedding(V + 1, width), nn.Embedding(K, width)
        norm, linear, inner = nn.LayerNorm, nn.Linear, 4 * width
        self.layers = nn.ModuleList(
            nn.ModuleList([norm(width), linear(width, 3 * width), linear(width, width)])
            .append(norm(width))
            .extend([linear(width, inner), linear(inner, width)])
            for _ in range(layers)
        )
        self.norm, self.head = norm(width), linear(width, V, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens_BT: Tensor, past: list | None = None) -> Tensor:
        """(B, T, V) logits; with `past` (one entry per layer, filled in place) the tokens continue what went before."""
        rows, width = tokens_BT.shape
        start = 0 if not past or past[0] is None else past[0][0].shape[2]
        x = self.letters(tokens_BT) + self.places.weight[start : start + width]
        for number, (norm1, qkv, out, norm2, up, down) in enumerate(self.layers):
            q, k, v = qkv(norm1(x)).view(rows, width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if past is not None:
                if past[number] is not None:
                    k, v = torch.cat([past[number][0], k], 2), torch.cat([past[number][1], v], 2)
                past[number] = (k, v)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=width > 1)
            x = x + out(mixed.transpose(1, 2).reshape(rows, width, -1))
            x = x + down(nn.functional.gelu(up(norm2(x))))
        return self.head(self.norm(x))


@torch.no_grad()
def sample(policy: Decoder, draws: torch.Generator) -> Tensor:
    """(B, K) letters."""
    past: list = [None] * len(policy.layers)
    token_B1, letters = torch.full((ROWS, 1), V), []
    for _ in range(K):
        token_B1 = torch.multinomial(policy(token_B1, past)[:, -1].softmax(-1), 1, generator=draws)
        letters.append(token_B1)
    return torch.cat(letters, 1)


def run(strategy: Strategy, rate: float, seed: int, longest: int) -> tuple[int | None, list[float]]:
    """Completions until the mean reward of SMOOTH steps is TARGET (None: never), and the reward of each step."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    policy = Decoder()
    optimiser = torch.optim.Adam(policy.parameters(), lr=rate, betas=(0.9, 0.99))
    key_T = torch.randint(V, (K,), generator=draws)
    group_B, mask_BT = torch.arange(ROWS) // GROUP, torch.ones(ROWS, K, dtype=torch.bool)
    rewards: list[float] = []
    for step in range(longest):
        letters_BT = sample(policy, draws)
        earned_BT = (letters_BT == key_T).float() / K
        rewards.append(earned_BT.sum(1).mean().item())
        if step >= SMOOTH and statistics.fmean(rewards[-SMOOTH:]) >= TARGET:
            return (step + 1) * ROWS, rewards
        credit = strategy.score(Rollout(earned_BT.sum(1), group_B, mask_BT, K, span_rewards_BT=earned_BT))
        inputs_BT = torch.cat([torch.full((ROWS, 1), V), letters_BT[:, :-1]], 1)
        logps_BT = policy(inputs_BT).log_softmax(-1).gather(2, letters_BT[:, :, None]).squeeze(2)
        loss = -(credit.weights_BT * credit.advantages_BT * logps_BT).sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
    return None, rewards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tuning-seeds", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="one rate: no tuning")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("spans_decoder.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(options.out.read_text()) if options.out.is_file() else {}

    def completions(name: str, rate: float, seed: int) -> int:
        key = f"{name} {rate:g} {seed}"
        if key not in done:
            count, rewards = run(STRATEGIES[name], rate, seed, options.steps)
            done[key] = {"completions": count, "reward": [round(reward, 4) for reward in rewards]}
            options.out.write_text(json.dumps(done))
            print(f"  {key}: {count} completions, last reward {rewards[-1]:.3f}", flush=True)
        return done[key]["completions"] or options.steps * ROWS

    best = {}
    for name in options.strategies:
        seeds = range(1000, 1000 + options.tuning_seeds) if len(options.rates) > 1 else []
        tuned = {rate: sum(completions(name, rate, seed) for seed in seeds) for rate in options.rates}
        best[name] = min(tuned, key=tuned.get)
    found: dict[str, list[int]] = {name: [] for name in options.strategies}
    for seed in range(options.seeds):  # all strategies of a seed before the next one
        for name in options.strategies:
            found[name].append(completions(name, best[name], seed))
    for name, counts in found.items():
        low, high = bootstrap([float(count) for count in counts])
        print(f"{name:<13} rate {best[name]:g}  completions {statistics.fmean(counts):7.0f}  [{low:.0f}, {high:.0f}]")
    for name in [name for name in options.strategies if name != "spans"]:
        logs = [math.log(a / b) for a, b in zip(found["spans"], found[name], strict=True)]
        low, high = bootstrap(logs)
        ratio = f"{math.exp(statistics.fmean(logs)):.3f}  [{math.exp(low):.3f}, {math.exp(high):.3f}]"
        print(f"spans / {name:<13} {ratio}  paired over {options.seeds} seeds")


def bootstrap(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean."""
    rng = random.Random(0)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


if __name__ == "__main__":
    main()
