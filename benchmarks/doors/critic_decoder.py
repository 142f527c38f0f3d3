"""Doors with a small transformer: which critic brings the learned baseline past the group's mean, and why.

    python benchmarks/doors/critic_decoder.py --seeds 10     # tunes and runs; a second call goes on from what --runs holds

Policy, sampling, optimiser and seeds are those of benchmarks/doors/spans_decoder.py, so its arms are paired with these. An arm
is a critic and a lambda ("+loo": of the leave-one-out advantage in place of the reward); the loss is -sum w A log pi
with w constant; learning rates are tuned for each arm on seeds that are not reported. benchmarks/doors/critic_report.py makes
table and picture.

Each step also measures, without using it, the credit against the truth: `explained`, the share of the variance (over
rows, at each position) of the exact V(s_t) that the critic explains; `agreement`, the correlation of V(s_{t+1}) - V(s_t)
with the true advantage; `off`, how far the mean value is from the exact mean, in standard deviations of the exact value;
`power`, E A^2 over that of the true advantage. The exact value takes later letters as independent of earlier ones, each
at the mean probability over the rows.

Shapes: S policies side by side, W width.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from critic_heads import ByGradient, Decomposition, Positions, Separate, Shipped, StateFeatures, StateHead
from decoder import DOORS, GROUP, ROWS, SMOOTH, TARGET, AdamOfEach, V, by_generators, start

from credit.baseline import group_mean, group_zscore, leave_one_out
from credit.returns import gae, last_token_rewards
from credit.spread import spans

WIDTH, RATES = 64, (2e-4, 5e-4, 1e-3)
GROUP_B, MASK_BT = torch.arange(ROWS) // GROUP, torch.ones(ROWS, DOORS, dtype=torch.bool)
# name: how the critic is made (None: no critic), lambda
ARMS: dict[str, tuple[Callable | None, float]] = {
    "group_mean": (None, 1.0),
    "group_zscore": (None, 1.0),
    "spans": (None, 1.0),
    "own": (None, 1.0),
    "linear": (lambda: ByGradient(StateHead(WIDTH), 1e-2), 1.0),
    "linear .95": (lambda: ByGradient(StateHead(WIDTH), 1e-2), 0.95),
    "linear+loo": (lambda: ByGradient(StateHead(WIDTH), 1e-2), 1.0),
    "running+loo": (lambda: ByGradient(StateHead(WIDTH, 256, running=True), 1e-3, 4, 20), 1.0),
    "separate+loo": (lambda: ByGradient(Separate(), 1e-3, 2, 20), 1.0),
    "adapter+loo": (lambda: ByGradient(Separate(rank=8), 1e-3, 2, 20), 1.0),
    "decomposition": (lambda: Shipped(V), 1.0),
    "decomposition .95": (lambda: Shipped(V), 0.95),
    "decomposition 0": (lambda: Shipped(V), 0.0),
    "decomposition on states": (lambda: Decomposition(StateFeatures(WIDTH), forget=0.97), 1.0),
    "decomposition, level by state": (lambda: Decomposition(Positions(V), level="state"), 1.0),
}


def run(arm: str, seeds: list[int], rates: list[float], longest: int) -> list[dict]:
    """For each policy: completions until the mean reward of SMOOTH steps is TARGET (None: never), reward and measures of
    each step."""
    policies, draws, key_ST = start(seeds)
    optimiser = AdamOfEach(policies, rates)
    made, lambda_ = ARMS[arm]
    critics = [made() if made else None for _ in seeds]
    found = [{"completions": None, "reward": [], "measures": []} for _ in seeds]
    alive = list(range(len(seeds)))
    for step in range(longest):
        letters_SBT = policies.sample(by_generators(draws))
        earned_SBT = (letters_SBT == key_ST[:, None]).float() / DOORS
        running = []
        for row, s in enumerate(alive):
            found[s]["reward"].append(earned_SBT[row].sum(1).mean().item())
            if step >= SMOOTH and statistics.fmean(found[s]["reward"][-SMOOTH:]) >= TARGET:
                found[s]["completions"] = (step + 1) * ROWS
            else:
                running.append(row)
        if not running:
            break
        if len(running) < len(alive):
            policies.keep(running, optimiser)
            draws, key_ST = [draws[row] for row in running], key_ST[running]
            letters_SBT, earned_SBT = letters_SBT[running], earned_SBT[running]
            alive = [alive[row] for row in running]
        now = [(critics[s], found[s]["measures"]) for s in alive]
        _update(arm, lambda_, policies, optimiser, now, letters_SBT, earned_SBT, key_ST)
    return found


def _update(arm, lambda_, policies, optimiser, critics, letters_SBT, earned_SBT, key_ST) -> None:
    """One step of the policies and of `critics`, pairs of a critic and of the list that takes what was measured of it."""
    prompt_SB1 = torch.full_like(letters_SBT[:, :, :1], V)
    states_SBTW, logits = policies(torch.cat([prompt_SB1, letters_SBT[:, :, :-1]], 2))
    logps_SBTV, states_SBTW = logits.log_softmax(-1), states_SBTW.detach()
    credits = []
    for row, (critic, measures) in enumerate(critics):
        right_BT = logps_SBTV[row].detach().exp()[:, torch.arange(DOORS), key_ST[row]] / DOORS
        outcome_B = earned_SBT[row].sum(1)
        if arm.endswith("+loo"):
            outcome_B = leave_one_out(outcome_B, GROUP_B)
        seen = (letters_SBT[row], states_SBTW[row], outcome_B)
        credit_BT, values_BT = credit_of(arm, critic, lambda_, seen, earned_SBT[row], right_BT)
        measures.append(measure(values_BT, credit_BT, earned_SBT[row], right_BT))
        credits.append(credit_BT)
        if critic is not None:
            critic.fit(*seen)
    chosen_SBT = logps_SBTV.gather(3, letters_SBT[..., None]).squeeze(3)
    (-(torch.stack(credits) * chosen_SBT).sum() / (ROWS * DOORS)).backward()
    optimiser.step()


def credit_of(arm, critic, lambda_, seen, earned_BT, right_BT):
    """Credit (B, T), and the critic's values where there is one. The critic has not seen these rows yet."""
    outcome_B = seen[2]
    if critic is not None:
        values_BT = critic.values(*seen)
        return gae(last_token_rewards(outcome_B, MASK_BT), values_BT, MASK_BT, lambda_=lambda_), values_BT
    if arm == "own":
        return earned_BT - right_BT, None
    if arm == "spans":
        return spans(earned_BT, outcome_B, GROUP_B, MASK_BT), None
    baseline = group_zscore if arm == "group_zscore" else group_mean
    return baseline(outcome_B, GROUP_B)[:, None].expand(ROWS, DOORS), None


def measure(values_BT, credit_BT, earned_BT, right_BT) -> list[float | None]:
    """explained, agreement, off (each None without values), power; see the top of the file."""
    own_BT = earned_BT - right_BT
    power = (credit_BT.square().mean() / own_BT.square().mean()).item()
    if values_BT is None:
        return [None, None, None, power]
    to_go_T = right_BT.mean(0).flip(0).cumsum(0).flip(0)
    exact_BT = earned_BT.cumsum(1) - earned_BT + to_go_T
    gap_BT = exact_BT - values_BT
    spread = (exact_BT - exact_BT.mean(0)).square().mean()
    explained = 1 - ((gap_BT - gap_BT.mean(0)).square().mean() / spread).item()
    steps_BT, truth_BT = values_BT.diff(dim=1), own_BT[:, :-1]
    steps_BT, truth_BT = steps_BT - steps_BT.mean(0), truth_BT - truth_BT.mean(0)
    norms = (steps_BT.norm() * truth_BT.norm()).clamp(min=1e-12)
    off = (gap_BT.mean(0).square().mean() / spread).sqrt().item()
    return [explained, ((steps_BT * truth_BT).sum() / norms).item(), off, power]


def some(arm: str, seeds: list[int], rates: list[float], longest: int, folder: Path) -> list[dict]:
    """The runs of these names: from `folder`, and those that are not there side by side."""
    name = arm.replace(" ", "_").replace(",", "")
    files = [folder / f"{name}-{rate:g}-{seed}.json" for seed, rate in zip(seeds, rates, strict=True)]
    missing = [i for i, file in enumerate(files) if not file.is_file()]
    results = run(arm, [seeds[i] for i in missing], [rates[i] for i in missing], longest) if missing else []
    for i, result in zip(missing, results, strict=True):
        short = [[x if x is None else round(x, 3) for x in row] for row in result["measures"]]
        result |= {"reward": [round(x, 4) for x in result["reward"]], "measures": short}
        result |= {"arm": arm, "rate": rates[i], "seed": seeds[i], "longest": longest}
        files[i].write_text(json.dumps(result))
        last = statistics.fmean(result["reward"][-SMOOTH:])
        print(f"  {arm} {rates[i]:g} {seeds[i]}: {result['completions']} completions, last {last:.3f}", flush=True)
    return [json.loads(file.read_text()) for file in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=10, help="seeds reported, from 0")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="one rate: no tuning")
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=[1000])
    parser.add_argument("--steps", type=int, default=600, help="longest run; what is not there by then is censored")
    parser.add_argument("--runs", type=Path, default=Path("critic_decoder_runs"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    for arm in options.arms:
        best = options.rates[0]
        if len(options.rates) > 1:
            pairs = [(seed, rate) for rate in options.rates for seed in options.tuning_seeds]
            tuned = some(arm, *map(list, zip(*pairs, strict=True)), options.steps, options.runs)
            best = min(options.rates, key=lambda rate: sum(cost(each) for each in tuned if each["rate"] == rate))
        print(f"{arm}: rate {best:g}", flush=True)
        some(arm, list(range(options.seeds)), [best] * options.seeds, options.steps, options.runs)


def cost(result: dict) -> float:
    """Completions to the target; of a censored run all it drew, and more the further it was away."""
    last = statistics.fmean(result["reward"][-SMOOTH:])
    return result["completions"] or result["longest"] * ROWS * (2 - last)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
