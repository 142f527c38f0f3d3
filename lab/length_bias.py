"""What weights of likelihood training do to the length of what is learnt: exact, by enumeration.

    python -m lab.length_bias [weight=seq_mean ...] [out=FOLDER]

    weight=NAME     a weight of configs/credit/weight, "length_power gamma=0.5" with its settings; several may be given;
                    left out: all of them. `--help weight=length_power` shows its settings
    out=FOLDER      for length_bias.md and length_bias.json

The optimum of a weighted likelihood over all conditionals is q(v|h) proportional to sum over texts x that continue hv
of p(x) w[x, t]. With w the same for every token it is the data's own conditional. With w = 1 / length it over-weights
what ends soon: q(v|h) is proportional to p(v|h) E[1 / length | h, v].

Shapes: X texts of up to the limit, C prefixes (sampling/tabular.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from compare.statistics import mean_interval
from credit.batch import Rollout
from credit.strategy import Strategy
from sampling.exact import Enumeration, enumerate_texts, total_variation
from sampling.model import PAD
from sampling.tabular import TabularModel, prefix_index

VOCABULARY, LIMIT, WORLDS = 4, 7, 20
DEFAULT = ("token_mean", "seq_sum", "constant", "length_power gamma=0.5", "seq_mean", "length_power gamma=2")


@dataclass(frozen=True)
class Learnt:
    """What a weight's optimum writes, and what the data are like, in one world.

    Args:
        length, data_length: expected tokens, end token included.
        repetition, data_repetition: expected share of token pairs that have already stood in the text.
        matched_repetition: that of data with the optimum's distribution of lengths: what its lengths alone explain.
        distance: total variation between optimum and data.
        divergence: KL(data || optimum), nats.
    """

    length: float
    data_length: float
    repetition: float
    data_repetition: float
    matched_repetition: float
    distance: float
    divergence: float


def optimum(model: TabularModel, enumeration: Enumeration, strategy: Strategy) -> TabularModel:
    """The conditionals that minimise the weighted likelihood loss on `enumeration`'s texts, each as often as p says.

    The weight sees every text once, in one batch; denominators that texts share do not matter. Prefixes that no text
    with positive weight has keep a uniform conditional.
    """
    mask_XT = enumeration.tokens_XT != PAD
    rollout = Rollout(
        rewards_B=torch.zeros(len(mask_XT), dtype=torch.float64),
        group_B=torch.arange(len(mask_XT)),
        mask_BT=mask_XT,
        max_length=mask_XT.shape[1],
        token_ids_BT=enumeration.tokens_XT.clamp(min=0),
    )
    mass_XT = enumeration.log_p_X.exp()[:, None] * strategy.score(rollout).weights_BT
    counts_CV = torch.zeros_like(model.logits_PCV[0])
    for t in range(mask_XT.shape[1]):
        there_X = mask_XT[:, t]
        nodes = prefix_index(enumeration.tokens_XT[there_X, :t], model.vocab_size)
        counts_CV.index_put_((nodes, enumeration.tokens_XT[there_X, t]), mass_XT[there_X, t], accumulate=True)
    counts_CV[counts_CV.sum(1) == 0] = 1.0
    return TabularModel(counts_CV.log()[None], model.eos_ids)


def learnt(model: TabularModel, strategy: Strategy, limit: int = LIMIT) -> Learnt:
    """Compares the data of `model` with what `strategy`'s weight makes of them."""
    enumeration = enumerate_texts(model, limit, 1.0)
    data_X = enumeration.log_p_X.exp()
    reached_X = enumerate_texts(optimum(model, enumeration, strategy), limit, 1.0).q_X
    lengths_X, repeated_X = enumeration.lengths_X.double(), repeated_pairs(enumeration.tokens_XT)
    seen_X = data_X > 0
    matched = sum(
        reached_X[here_X].sum() * (data_X @ (repeated_X * here_X)) / data_X[here_X].sum()
        for here_X in (lengths_X == length for length in lengths_X.unique())
    )
    return Learnt(
        length=float(reached_X @ lengths_X),
        data_length=float(data_X @ lengths_X),
        repetition=float(reached_X @ repeated_X),
        data_repetition=float(data_X @ repeated_X),
        matched_repetition=float(matched),
        distance=total_variation(reached_X, data_X),
        divergence=float((data_X[seen_X] * (data_X[seen_X] / reached_X[seen_X]).log()).sum()),
    )


def repeated_pairs(tokens_XT: Tensor) -> Tensor:
    """(X,) share of neighbouring pairs that have stood in the same text before; 0 for fewer than two pairs."""
    shares = []
    for row in tokens_XT.tolist():
        text = [token for token in row if token != PAD]
        pairs = list(pairwise(text))
        shares.append(1 - len(set(pairs)) / len(pairs) if len(pairs) > 1 else 0.0)
    return torch.tensor(shares, dtype=torch.float64)


def table(strategies: dict[str, Strategy], worlds: int = WORLDS) -> list[dict]:
    """One row per weight: means over random worlds, with 95 % intervals of the change against the data."""
    models = [TabularModel.random(VOCABULARY, LIMIT, scale=1.0, seed=seed) for seed in range(worlds)]
    rows = []
    for name, strategy in strategies.items():
        found = [learnt(model, strategy) for model in models]
        shift = mean_interval([[f.length - f.data_length for f in found]])
        repeats = mean_interval([[f.repetition - f.data_repetition for f in found]])
        matched = mean_interval([[f.repetition - f.matched_repetition for f in found]])
        rows.append(
            {
                "weight": name,
                "data_length": sum(f.data_length for f in found) / worlds,
                "length_change": (shift.value, shift.low, shift.high),
                "data_repetition": sum(f.data_repetition for f in found) / worlds,
                "repetition_change": (repeats.value, repeats.low, repeats.high),
                "matched_change": (matched.value, matched.low, matched.high),
                "distance": sum(f.distance for f in found) / worlds,
                "divergence": sum(f.divergence for f in found) / worlds,
            }
        )
    return rows


def markdown(rows: list[dict]) -> str:
    first = rows[0]
    lines = [
        f"{WORLDS} random worlds of {VOCABULARY} tokens and texts of up to {LIMIT}; the data have "
        f"{first['data_length']:.3f} tokens and {first['data_repetition']:.4f} repeated pairs on average.",
        "",
        "| weight | change of length [95 %] | of repetition [95 %] | at equal lengths [95 %] | distance (TV) | KL(data, optimum) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        shown = [_interval(*row[key]) for key in ("length_change", "repetition_change", "matched_change")]
        lines.append(f"| {row['weight']} | {' | '.join(shown)} | {row['distance']:.4f} | {row['divergence']:.5f} |")
    return "\n".join(lines)


def _interval(mean: float, low: float, high: float) -> str:
    mean, low, high = (round(value, 4) + 0.0 for value in (mean, low, high))  # no -0.0000
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def main(arguments: Sequence[str]) -> None:
    from configs.compose import compose_strategy  # Hydra: in the lab's command lines only

    named = [a.removeprefix("weight=") for a in arguments if a.startswith("weight=")] or list(DEFAULT)
    unknown = [a for a in arguments if not a.startswith(("weight=", "out="))]
    if unknown:
        raise SystemExit(f"lab.length_bias: {unknown[0]}: give weight=NAME (several may be given) and out=FOLDER.")
    strategies = {}
    for name in named:
        member, *bound = name.split()
        overrides = [f"credit/weight={member}", *(f"credit.weight.{entry}" for entry in bound)]
        try:
            strategies[name] = compose_strategy(overrides)
        except ValueError as error:
            raise SystemExit(f"lab.length_bias: {error}") from None
    rows = table(strategies)
    text = markdown(rows)
    print(text)
    for out in (a.removeprefix("out=") for a in arguments if a.startswith("out=")):
        folder = Path(out).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "length_bias.md").write_text(text + "\n", encoding="utf-8")
        (folder / "length_bias.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from userio.commands import asks_for_help
    from userio.terminal import steady_output

    steady_output()
    if asks_for_help(sys.argv[1:]):
        from configs.fields.help import help_of_choices

        print(help_of_choices("train_sft", sys.argv[1:]) or __doc__)
    else:
        main(sys.argv[1:])
