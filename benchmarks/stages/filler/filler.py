"""Does length-normalised credit shorten successes and lengthen failures? A task in which length is free, run and predicted.

    python benchmarks/stages/filler/filler.py [--seeds 10] [--out runs/stages]      # goes on from what is in OUT/filler.json

A prompt is one of four letters. The first token of a text decides: the reward is 1 if it is the prompt's letter. Filler of
any length follows, up to 24 tokens in all; it carries no reward, and at the start its length does not depend on the
letter. So the true gradient pushes no length, and every change of the mean length of right texts or of wrong ones is
the credit's own doing (or, in a decoder, what letters share).

*Seen*: batches of 512 texts, 16 groups of eight for each prompt, are drawn and scored by the shipped strategies; plain
SGD. *Predicted*: the same policy with the expectation of that update over all batches, in closed form, at every step.
Lengths are those of the policy, by enumeration, not of a sample. `table` is a softmax for every prefix; `decoder` a
transformer that shares its weights over letters, prompts and places. Rates are such that every arm starts with a total
weight of 1.

Shapes: S policies side by side, L letters, K choices, W frequencies of a Fourier transform.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from many import Many, Shape

from credit import Strategy, baseline, weight
from credit.batch import Rollout

LETTERS, LONGEST, GROUP, GROUPS, HAZARD, EPS = 4, 24, 8, 16, 1 / 11, 1e-4  # GROUPS of GROUP texts for each prompt
ROWS = LETTERS * GROUPS * GROUP
FILLER, END = LETTERS, LETTERS + 1


@dataclass(frozen=True)
class Arm:
    """A strategy, and by how much its rate is larger so that the sizes of its weight and baseline at the start are undone."""

    strategy: Strategy
    scale: Callable[[float], float]  # of the mean length at the start


def _spread_at_start(group: int = GROUP, share: float = 1 / LETTERS) -> float:
    """Mean |A| under the group mean over that under the z-score, so that both start alike."""
    plain, scaled = (credit_of(share, group, zscore) for zscore in (False, True))
    return plain[1] / scaled[1]


def credit_of(success: float | Tensor, group: int, zscore: bool) -> tuple[Tensor, Tensor]:
    """Expected credit of a failure and of a success in a group whose other rows succeed with probability `success`.

    Of group_zscore (with its eps) or of group_mean; the others' successes are binomial.
    """
    success = torch.as_tensor(success, dtype=torch.float64)
    found = []
    for mine in (0, 1):
        total = torch.zeros_like(success)
        for others in range(group):
            mean = (others + mine) / group
            spread = (group / (group - 1) * mean * (1 - mean)) ** 0.5
            credit = (mine - mean) / (spread + EPS if zscore else 1)
            total = total + comb(group - 1, others) * success**others * (1 - success) ** (group - 1 - others) * credit
        found.append(total)
    return found[0], found[1]


ARMS = {
    "seq_norm": Arm(Strategy(weight.seq_mean, baseline.group_zscore), lambda length: 1.0),
    "group_zscore, constant": Arm(Strategy(weight.constant, baseline.group_zscore), lambda length: LONGEST / length),
    "uniform": Arm(Strategy(weight.token_mean, baseline.group_zscore), lambda length: 1.0),
    "dr_grpo": Arm(
        Strategy(weight.constant, baseline.group_mean), lambda length: LONGEST / length / float(_spread_at_start())
    ),
}


class Table(nn.Module):
    """S policies: a softmax over letters for each prompt, a chance to end for each prompt, letter and place."""

    def __init__(self, seeds: list[int]):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(len(seeds), LETTERS, LETTERS, dtype=torch.float64))
        self.ending = nn.Parameter(torch.zeros(len(seeds), LETTERS, LETTERS, LONGEST - 1, dtype=torch.float64))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the letters (S, prompt, letter) and logits of ending after 1, 2, ... tokens."""
        return self.first.log_softmax(-1), self.ending + torch.logit(torch.tensor(HAZARD, dtype=torch.float64))


class Decoder(nn.Module):
    """S transformers that read the prompt and the text so far; what they may write is as in `Table`."""

    def __init__(self, seeds: list[int], width: int = 32, depth: int = 2):
        super().__init__()
        self.many = Many(Shape(LETTERS + 2 + LETTERS, LONGEST, width, depth, 4), seeds)
        prompt_PL = torch.arange(LETTERS)[:, None].expand(-1, LETTERS) + END + 1
        letter_PL = torch.arange(LETTERS)[None].expand(LETTERS, -1)
        filler = torch.full((LETTERS, LETTERS, LONGEST - 2), FILLER)
        self.register_buffer("rows", torch.cat([prompt_PL[..., None], letter_PL[..., None], filler], -1).flatten(0, 1))

    def forward(self) -> tuple[Tensor, Tensor]:
        logits = self.many(self.rows.expand(len(self.many.head), -1, -1)).double()
        logits = logits.view(-1, LETTERS, LETTERS, LONGEST, logits.shape[-1])
        first = logits[:, :, 0, 0, :LETTERS].log_softmax(-1)
        ending = logits[:, :, :, 1:, END] - logits[:, :, :, 1:, FILLER]
        return first, ending + torch.logit(torch.tensor(HAZARD, dtype=torch.float64))


def log_lengths(ending_SPLT: Tensor) -> Tensor:
    """(S, P, L, LONGEST - 1) log-probability that a text has 2, 3, ..., LONGEST tokens; the last place ends all."""
    stop, go = nn.functional.logsigmoid(ending_SPLT), nn.functional.logsigmoid(-ending_SPLT)
    alive = torch.cat([torch.zeros_like(go[..., :1]), go[..., :-1].cumsum(-1)], -1)
    return torch.cat([stop[..., :-1] + alive[..., :-1], alive[..., -1:]], -1)


def expected(arm: Arm, first_SPL: Tensor, lengths_SPLT: Tensor) -> Tensor:
    """(S, P, L, T) E[A w] of each text, over the other texts of its batch; weights are of the members of ARMS.

    Under the token mean, the lengths of the other rows are taken as independent of the row's credit.
    """
    zscore = arm.strategy.baseline is baseline.group_zscore
    success_SP = first_SPL.exp().diagonal(dim1=1, dim2=2)
    failure_SP, winning_SP = credit_of(success_SP, GROUP, zscore)
    right = torch.eye(LETTERS, dtype=torch.float64)
    credit_SPL = right * winning_SP[..., None] + (1 - right) * failure_SP[..., None]
    length_T = torch.arange(2, LONGEST + 1, dtype=torch.float64)
    if arm.strategy.weight is weight.seq_mean:
        weight_SPT = (1 / (ROWS * length_T)).expand(*success_SP.shape, -1)
    elif arm.strategy.weight is weight.constant:
        weight_SPT = torch.full((*success_SP.shape, len(length_T)), 1 / (ROWS * LONGEST), dtype=torch.float64)
    else:
        weight_SPT = _inverse_of_sum((first_SPL.exp()[..., None] * lengths_SPLT.exp()).sum(2))
    return credit_SPL[..., None] * weight_SPT[:, :, None]


def _inverse_of_sum(share_SPT: Tensor) -> Tensor:
    """(S, P, T) E[1 / (own length + lengths of all other rows)] for rows of prompt P with own lengths 2, 3, ..."""
    padded = nn.functional.pad(share_SPT, (2, 0))
    size = 1 << (ROWS * LONGEST).bit_length()  # a power of two: fast, and no sum wraps around
    one_SPW = torch.fft.rfft(padded, n=size)
    others_SPW = one_SPW ** (GROUPS * GROUP - 1)
    all_SPW = others_SPW * one_SPW
    sums = torch.arange(size, dtype=torch.float64) + torch.arange(2, LONGEST + 1, dtype=torch.float64)[:, None]
    inverse_TS, found = 1 / sums, []
    for p in range(LETTERS):
        rest_SW = torch.stack([others_SPW[:, q] if q == p else all_SPW[:, q] for q in range(LETTERS)]).prod(0)
        found.append(torch.fft.irfft(rest_SW, n=size).clamp(min=0) @ inverse_TS.T)
    return torch.stack(found, 1)


def loss_predicted(arm: Arm, first_SPL: Tensor, ending_SPLT: Tensor) -> Tensor:
    """Scalar whose gradient is the expected update of every policy: sum over all texts of p E[A w] log p, as often as drawn."""
    lengths_SPLT = log_lengths(ending_SPLT)
    logp = first_SPL[..., None] + lengths_SPLT
    coefficient = (logp.exp() * expected(arm, first_SPL, lengths_SPLT)).detach()
    return -GROUPS * GROUP * (coefficient * logp).sum()


def loss_seen(arm: Arm, first_SPL: Tensor, ending_SPLT: Tensor, generators: list[torch.Generator]) -> Tensor:
    """The same from one batch of drawn texts for each policy, scored by the strategy."""
    lengths_SPLT, policies = log_lengths(ending_SPLT), len(generators)
    uniform_2SB = torch.stack([torch.rand(2, ROWS, generator=each, dtype=torch.float64) for each in generators], 1)
    group_B = torch.arange(ROWS) // GROUP
    prompt_B, policy_S1 = group_B // GROUPS, torch.arange(policies)[:, None]
    letter_SB = _drawn(first_SPL.detach()[policy_S1, prompt_B], uniform_2SB[0])
    place_SB = _drawn(lengths_SPLT.detach()[policy_S1, prompt_B, letter_SB], uniform_2SB[1])
    texts = zip(letter_SB == prompt_B, place_SB + 2, strict=True)
    factor_SB = torch.stack([_scored(arm.strategy, *each, group_B) for each in texts])
    logp_SB = first_SPL[policy_S1, prompt_B, letter_SB] + lengths_SPLT[policy_S1, prompt_B, letter_SB, place_SB]
    return -(factor_SB * logp_SB).sum()


def _scored(strategy: Strategy, right_B: Tensor, length_B: Tensor, group_B: Tensor) -> Tensor:
    """(B,) credit times weight, the same for all tokens of a row."""
    mask_BT = torch.arange(LONGEST) < length_B[:, None]
    credit = strategy.score(Rollout(right_B.double(), group_B, mask_BT, LONGEST))
    return (credit.advantages_BT * credit.weights_BT)[:, 0]


def _drawn(logp_SBK: Tensor, uniform_SB: Tensor) -> Tensor:
    return (uniform_SB[..., None] > logp_SBK.exp().cumsum(-1)[..., :-1]).sum(-1)


@torch.no_grad()
def state(first_SPL: Tensor, ending_SPLT: Tensor) -> list[dict]:
    """Of each policy: success, mean length of right, of wrong and of all texts, by enumeration; means over prompts."""
    share_SPL = first_SPL.exp()
    mean_SPL = log_lengths(ending_SPLT).exp() @ torch.arange(2, LONGEST + 1, dtype=torch.float64)
    right = torch.eye(LETTERS, dtype=torch.float64)
    success_SP = (share_SPL * right).sum(-1)
    short_SP = (mean_SPL * right).sum(-1)
    wrong_SP = (mean_SPL * share_SPL * (1 - right)).sum(-1) / (1 - success_SP)
    all_SP = (mean_SPL * share_SPL).sum(-1)
    columns = {"success": success_SP, "right": short_SP, "wrong": wrong_SP, "all": all_SP}
    return [
        {name: float(values[policy].mean()) for name, values in columns.items()} for policy in range(len(first_SPL))
    ]


def run(kind: str, arm: Arm, seeds: list[int], steps: int, rate: float, every: int, seen: bool) -> list[list[dict]]:
    """Per seed the states at steps 0, every, 2 every, ..."""
    policies = {"table": Table, "decoder": Decoder}[kind](seeds)
    start = sum(each["all"] for each in state(*policies())) / len(seeds)
    optimiser = torch.optim.SGD(policies.parameters(), lr=rate * arm.scale(start))
    generators = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
    curves: list[list[dict]] = [[] for _ in seeds]
    for step in range(steps + 1):
        first_SPL, ending_SPLT = policies()
        if step % every == 0:
            for curve, now in zip(curves, state(first_SPL, ending_SPLT), strict=True):
                curve.append({name: round(value, 5) for name, value in now.items()})
        loss = (
            loss_seen(arm, first_SPL, ending_SPLT, generators) if seen else loss_predicted(arm, first_SPL, ending_SPLT)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return curves


RATES, STEPS = {"table": 1.0, "decoder": 0.015}, {"table": 800, "decoder": 800}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--every", type=int, default=40)
    parser.add_argument("--policies", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    if options.seeds < 1 or options.every < 1:
        parser.error("--seeds and --every must be at least 1.")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    kept, seeds = options.out / "filler.json", list(range(options.seeds))
    found = json.loads(kept.read_text())["runs"] if kept.is_file() else {}
    settings = {
        "steps": STEPS,
        "rates": RATES,
        "every": options.every,
        "rows": ROWS,
        "group": GROUP,
        "prompts": LETTERS,
    }
    for kind in options.policies:
        for name in options.arms:
            if f"{kind}, {name}" in found:
                continue
            ways = {"predicted": False, "seen": True}
            both = {
                way: run(kind, ARMS[name], seeds, STEPS[kind], RATES[kind], options.every, seen)
                for way, seen in ways.items()
            }
            found[f"{kind}, {name}"] = both
            kept.write_text(json.dumps({"settings": settings, "runs": found}))
            last = {way: [curve[-1] for curve in curves] for way, curves in both.items()}
            means = [
                f"{way} {key} {sum(each[key] for each in rows) / len(rows):.3f}"
                for way, rows in last.items()
                for key in rows[0]
            ]
            print(f"{kind}, {name}: " + "  ".join(means), flush=True)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
