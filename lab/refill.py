"""What `sampling.refill` does to the mean update and to its noise: exact, by enumeration of batches of two groups.

    python -m lab.refill [out=FOLDER]

A batch has places; each holds a prompt and a group of its completions. How likely a pair is to stand in a place decides the update:

    plain       a prompt of a large data set, and what was sampled for it
    refill 3    where that has no spread, another prompt of it, three times at most
    refill      ... until there is spread
    same        where it has no spread, the same prompt again, until there is: a refill out of a data set that is no larger than a
                batch, and what dropping groups and reweighing prompts come to

Shapes: n batches, R rows of each, G rows of a group, U pairs of a prompt and a group.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from configs.compose import named_strategy
from credit.strategy import Strategy
from lab.exact.quantities import Exact, exact
from lab.exact.worlds import world
from lab.measure.batches import Block, Items, enumerated_groups, itemise
from lab.measure.metrics import direction
from lab.measure.moments import moments
from lab.measure.scoring import Scorer
from userio.commands import out_folders

PLACES, ROUNDS = 2, 3
STRATEGIES = ("dr_grpo", "rloo", "uniform", "seq_norm")
WORLDS = {"levels": 4, "all_or_nothing": 4, "poison": 2}  # and completions of a prompt


class Pairs(NamedTuple):
    """Every prompt with every group of its completions.

    items_UG: the group. prob_U: of a prompt that is drawn evenly, and its group. prompt_U: its number. spread_U: bool, rewards differ.
    """

    items_UG: Tensor
    prob_U: Tensor
    prompt_U: Tensor
    spread_U: Tensor


def pairs(learner: Exact, items: Items, size: int) -> Pairs:
    found = [enumerated_groups(items, prompt, size) for prompt in range(learner.prompts)]
    items_UG = torch.cat([group_nG for group_nG, _ in found])
    prob_U = torch.cat([prob_n for _, prob_n in found]) / learner.prompts
    prompt_U = torch.cat([torch.full((len(prob_n),), prompt) for prompt, (_, prob_n) in enumerate(found)])
    rewards_UG = learner.tree.rewards_NK.sum(dim=1)[items.text_I[items_UG]]
    return Pairs(items_UG, prob_U, prompt_U, rewards_UG.max(dim=1).values > rewards_UG.min(dim=1).values)


def arms(drawn: Pairs) -> dict[str, tuple[Tensor, float]]:
    """Of each arm, how likely a pair is to stand in a place, (U,), and how many groups are sampled for one."""
    prob_U, spread_U, prompt_U = drawn.prob_U, drawn.spread_U, drawn.prompt_U
    flat = float(prob_U[~spread_U].sum())
    spread_by_prompt = torch.zeros(int(prompt_U.max()) + 1, dtype=prob_U.dtype).index_add_(
        0, prompt_U, prob_U * spread_U
    )
    prompts = len(spread_by_prompt)
    again_U = prob_U * spread_U / (prompts * spread_by_prompt[prompt_U])
    tries = sum(flat**r for r in range(ROUNDS + 1))
    return {
        "plain": (prob_U, 1.0),
        f"refill {ROUNDS}": (torch.where(spread_U, prob_U * tries, prob_U * flat**ROUNDS), tries),
        "refill": (prob_U * spread_U / (1 - flat), 1 / (1 - flat)),
        "same": (again_U, float((1 / (prompts * spread_by_prompt)).mean())),
    }


def refilled(learner: Exact, strategy: Strategy, size: int) -> dict[str, dict[str, float]]:
    """Of each arm: `bias`, relative, of its direction; `cost`, groups sampled for a place; over the plain arm's, `scale` of the mean
    update, `noise` to signal of a batch, and `noise_at_equal_completions`, with as many more places of the plain arm."""
    scorer = Scorer(strategy, learner)
    items = itemise(learner, learner, scorer.sees_texts)
    drawn, coupling = pairs(learner, items, size), scorer.coupling(learner.prompts, size)
    first_n, second_n = torch.cartesian_prod(*[torch.arange(len(drawn.prob_U))] * PLACES).T
    items_nR = torch.cat([drawn.items_UG[first_n], drawn.items_UG[second_n]], dim=1)
    group_R = torch.arange(PLACES).repeat_interleave(size)
    found: dict[str, dict[str, float]] = {}
    for name, (prob_U, cost) in arms(drawn).items():
        kept = (prob_U[first_n] * prob_U[second_n]).nonzero().flatten()
        block = Block(items_nR[kept], (prob_U[first_n] * prob_U[second_n])[kept], group_R, 1.0)
        seen = moments(scorer, items, [block], coupling)
        metrics = direction(seen.mean_D, seen.variance, learner)
        found[name] = {"bias": metrics["relative_bias"], "scale": metrics["scale"], "nsr": metrics["nsr"], "cost": cost}
    scale, nsr = found["plain"]["scale"], found["plain"]["nsr"]
    for one in found.values():
        noise = one.pop("nsr") / nsr
        one |= {"scale": one["scale"] / scale, "noise": noise, "noise_at_equal_completions": noise * one["cost"]}
    return found


def table() -> list[dict]:
    """One entry for each world and strategy."""
    return [
        {
            "world": name,
            "group": size,
            "credit": words,
            "arms": refilled(exact(world(name)), named_strategy(words), size),
        }
        for name, size in WORLDS.items()
        for words in STRATEGIES
    ]


def markdown(rows: list[dict]) -> str:
    titles = [
        "world",
        "credit",
        "bias, plain",
        "refill 3",
        "refill",
        "same",
        "refill 3: step",
        "groups",
        "noise",
        "at equal completions",
    ]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        arms_of, three = row["arms"], row["arms"][f"refill {ROUNDS}"]
        biases = ["0" if one["bias"] < 1e-9 else f"{one['bias']:.3f}" for one in arms_of.values()]
        sizes = [f"{three[key]:.2f}" for key in ("scale", "cost", "noise", "noise_at_equal_completions")]
        cells = [f"`{row['world']}`", f"`{row['credit']}`", *biases, *sizes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    folders = out_folders("lab.refill", arguments)
    rows = table()
    print(markdown(rows))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"command": "python -m lab.refill", "places": PLACES, "rows": rows}, separators=(",", ":"))
        (folder / "refill.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    from userio.commands import asks_for_help
    from userio.terminal import steady_output

    steady_output()
    if asks_for_help(sys.argv[1:]):
        print(__doc__)
    else:
        main(sys.argv[1:])
