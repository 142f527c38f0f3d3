"""Why a critic works or does not: many critics read one and the same run on doors, none of them steers it.

    python benchmarks/doors/critic_probe.py

The run is benchmarks/doors/critic_decoder.py's arm `spans` (seed 3, learning rate 5e-4, 110 steps of 16 completions, from a
quarter of the doors to nine tenths). Each critic gives its values before it is fitted, step after step. Printed, as
means over windows of completions: the share of the variance of the exact V(s_t) that is explained, how far the mean
value is off in standard deviations of the exact value, and E A^2 (A = R - V) over that of the true advantage.

Shapes: W width of the policy's states, D features, E dimensions of a token's random vector, S policies.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path

import torch
from critic_decoder import GROUP_B, MASK_BT, WIDTH, measure
from critic_heads import ByGradient, Decomposition, Positions, Separate, Shipped, StateFeatures, StateHead, centred
from decoder import DOORS, ROWS, AdamOfEach, V, by_generators, start
from torch import Tensor

from credit.spread import spans

SEED, RATE, STEPS = 3, 5e-4, 110
EDGES = (0, 6, 15, 30, 60, 110)  # steps


class AllPositions(Decomposition):
    """Regression of the return on the features so far at every position, in place of whole completions."""

    def sums(self, features_BTD: Tensor) -> Tensor:
        return features_BTD.cumsum(1).transpose(0, 1).flatten(0, 1) / DOORS**0.5

    def returns(self, rewards_B: Tensor) -> Tensor:
        return rewards_B.repeat(DOORS) / DOORS**0.5


class GradientDecomposition(Decomposition):
    """Features and target of the decomposition, by Adam with a memory of 50 steps in place of the closed form."""

    def __init__(self, features, rate: float, passes: int):
        super().__init__(features)
        self.rate, self.passes, self.kept, self.draws = rate, passes, [], torch.Generator().manual_seed(0)

    def fit(self, tokens_BT: Tensor, states_BTW: Tensor, rewards_B: Tensor) -> None:
        self.kept = [*self.kept, (self.features(tokens_BT, states_BTW).sum(1), rewards_B)][-50:]
        if self.weights_D is None:
            self.weights_D = torch.zeros(self.kept[0][0].shape[1], requires_grad=True)
            self.optimiser = torch.optim.Adam([self.weights_D], lr=self.rate)
            self.agreed = self.predicted = 1.0  # a factor of 1: no shrinkage
        for number in range(self.passes):
            which = len(self.kept) - 1 if number == 0 else int(torch.randint(len(self.kept), (), generator=self.draws))
            summed_BD, returns_B = self.kept[which]
            # returns in units of their spread at the start, sqrt(3 / 16 / DOORS)
            loss = (centred(summed_BD @ self.weights_D - returns_B) / 0.054).square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()


class Unshrunk(Shipped):
    """Without the measured shrinkage."""

    def fit(self, *seen) -> None:
        super().fit(*seen)
        self.decomposition.agreement_2.fill_(1.0)


def fourier(tokens_BT: Tensor, states_BTW: Tensor, made=[]) -> Tensor:  # noqa: B006  made once
    made = made or made.append(Shipped(V).decomposition) or made
    positions_TD = made[0]._positions(DOORS)
    return torch.cos(made[0].token_VE[tokens_BT] @ made[0].token_ED + positions_TD)


CRITICS = {
    "linear head, Adam 1e-3": lambda: ByGradient(StateHead(WIDTH), 1e-3),
    "linear head, Adam 1e-2": lambda: ByGradient(StateHead(WIDTH), 1e-2),
    "linear head, 1e-2, 4 passes of 20 steps": lambda: ByGradient(StateHead(WIDTH), 1e-2, 4, 20),
    "MLP head, 1e-3, 4 passes of 20 steps": lambda: ByGradient(StateHead(WIDTH, 256), 1e-3, 4, 20),
    "running-sum MLP head, the same": lambda: ByGradient(StateHead(WIDTH, 256, running=True), 1e-3, 4, 20),
    "separate decoder, 1e-3, 2 passes of 20 steps": lambda: ByGradient(Separate(), 1e-3, 2, 20),
    "ridge, whole, random features of last state": lambda: Decomposition(StateFeatures(WIDTH), forget=0.97),
    "ridge, whole, token and position (shipped)": lambda: Shipped(V),
    "  without shrinkage": lambda: Unshrunk(V),
    "  a table in place of random features": lambda: Decomposition(Positions(V), ridge=0.001),
    "  level by ridge on the state": lambda: Decomposition(fourier, level="state"),
    "  at all positions": lambda: AllPositions(fourier),
    "  by Adam 1e-4, 8 passes of 50 steps": lambda: GradientDecomposition(fourier, 1e-4, 8),
    "  by Adam 1e-3, 8 passes of 50 steps": lambda: GradientDecomposition(fourier, 1e-3, 8),
    "  by Adam 1e-4, 1 pass": lambda: GradientDecomposition(fourier, 1e-4, 1),
}


def record(file: Path) -> list[tuple[Tensor, ...]]:
    """letters, states, earned and chance of the right letter (over the number of doors) of each step."""
    if file.is_file():
        return torch.load(file)
    policies, draws, key_ST = start([SEED])
    optimiser, steps = AdamOfEach(policies, [RATE]), []
    for _ in range(STEPS):
        letters_BT = policies.sample(by_generators(draws))[0]
        earned_BT = (letters_BT == key_ST[0]).float() / DOORS
        inputs_BT = torch.cat([torch.full((ROWS, 1), V), letters_BT[:, :-1]], 1)
        states, logits = policies(inputs_BT[None])
        logps_BTV = logits[0].log_softmax(-1)
        credit_BT = spans(earned_BT, earned_BT.sum(1), GROUP_B, MASK_BT)
        (-(credit_BT * logps_BTV.gather(2, letters_BT[..., None])[..., 0]).sum() / (ROWS * DOORS)).backward()
        optimiser.step()
        right_BT = logps_BTV.detach().exp()[:, torch.arange(DOORS), key_ST[0]] / DOORS
        steps.append((letters_BT, states[0].detach(), earned_BT, right_BT))
    torch.save(steps, file)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="critics whose name has this")
    parser.add_argument("--recording", type=Path, default=Path("critic_probe.pt"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = record(options.recording)
    windows = [f"{low * ROWS}-{high * ROWS}" for low, high in itertools.pairwise(EDGES)]
    print("| critic | measure | " + " | ".join(windows) + " |\n" + "|---" * (2 + len(windows)) + "|")
    for name, make in {n: m for n, m in CRITICS.items() if options.only in n}.items():
        critic, found = make(), []
        for letters_BT, states_BTW, earned_BT, right_BT in steps:
            seen = (letters_BT, states_BTW, earned_BT.sum(1))
            with torch.no_grad():
                values_BT = critic.values(*seen)
            found.append(measure(values_BT, seen[2][:, None] - values_BT, earned_BT, right_BT))
            critic.fit(*seen)
        for index, what in ((0, "explained"), (2, "off"), (3, "power")):
            cells = [statistics.fmean(each[index] for each in found[a:b]) for a, b in itertools.pairwise(EDGES)]
            print(f"| {name} | {what} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
