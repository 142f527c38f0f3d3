"""Token temperature against sequence temperature where both are equally diverse: exact, by enumeration.

    python -m lab.equal_entropy [out=FOLDER]

At one tau the two differ in diversity, too, and a likelier text may be no more than a less diverse one. So the token temperature is
moved until the entropy of its texts is that of p^alpha / Z. Then, as sequence temperature is the likeliest way to write with
its entropy,

    E_sequence[log p] - E_token[log p] = KL(token || p^alpha/Z) / alpha >= 0

Nothing in that says whether texts become longer or repeat: the worlds differ in it.

Shapes: X texts of up to the limit, C prefixes (sampling/tabular.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from compare.statistics import mean_interval
from lab.length_bias import repeated_pairs
from sampling.exact import enumerate_texts, total_variation
from sampling.tabular import TabularModel, prefixes
from userio.commands import out_folders

TAUS = (0.8, 0.6, 0.4)
SEEDS, VOCABULARY, LIMIT = 10, 4, 6


@dataclass(frozen=True)
class Compared:
    """Sequence temperature `tau`, and token temperature `token_tau` with the same entropy; sequence minus token.

    Args:
        entropy: nats, of both. log_p, length, repetition: differences of mean log p, mean tokens and mean share of repeated pairs.
        matched_repetition: the same between sequence temperature and token texts that have its lengths.
        distance: total variation between the two. ess: effective share of texts of token temperature *at the same tau*, weighted
            towards sequence temperature, which is what a sampler shows.
        token_length, same_tau_length: tokens of a text of token temperature, at `token_tau` and at `tau`; start_length: at 1.
    """

    tau: float
    token_tau: float
    entropy: float
    log_p: float
    length: float
    repetition: float
    matched_repetition: float
    distance: float
    ess: float
    sequence_length: float
    token_length: float
    same_tau_length: float
    start_length: float


def compared(model: TabularModel, tau: float, limit: int = LIMIT) -> Compared:
    """Both temperatures at one entropy."""
    at = enumerate_texts(model, limit, 1 / tau)
    target_X, entropy = at.target_X, entropy_of(at.target_X)
    token_tau = equally_diverse(model, entropy, limit)
    token_X = enumerate_texts(model, limit, 1 / token_tau).q_X
    lengths_X, repeated_X = at.lengths_X.double(), repeated_pairs(at.tokens_XT)
    change_X = target_X - token_X
    seen_X = at.q_X > 0
    return Compared(
        tau=tau,
        token_tau=token_tau,
        entropy=entropy,
        log_p=float(change_X[seen_X] @ at.log_p_X[seen_X]),
        length=float(change_X @ lengths_X),
        repetition=float(change_X @ repeated_X),
        matched_repetition=float(target_X @ repeated_X) - _at_lengths(token_X, target_X, lengths_X, repeated_X),
        distance=total_variation(target_X, token_X),
        ess=1 / float((target_X[seen_X] ** 2 / at.q_X[seen_X]).sum()),
        sequence_length=float(target_X @ lengths_X),
        token_length=float(token_X @ lengths_X),
        same_tau_length=float(at.q_X @ lengths_X),
        start_length=float(at.log_p_X.exp() @ lengths_X),
    )


def entropy_of(p_X: Tensor) -> float:
    return float(torch.special.entr(p_X).sum())


def equally_diverse(model: TabularModel, entropy: float, limit: int, steps: int = 60) -> float:
    """The token temperature whose texts have this entropy: of several, that nearest to 1."""

    def of(tau: float) -> float:
        return entropy_of(enumerate_texts(model, limit, 1 / tau).q_X)

    low = high = 1.0
    while of(low) > entropy:
        high, low = low, low * 0.9
    for _ in range(steps):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if of(middle) > entropy else (middle, high)
    return 0.5 * (low + high)


def _at_lengths(p_X: Tensor, like_X: Tensor, lengths_X: Tensor, values_X: Tensor) -> float:
    """Mean of values under p, its lengths made those of `like`."""
    total = 0.0
    for length in lengths_X.unique():
        here_X = lengths_X == length
        if p_X[here_X].sum() > 0:
            total += float(like_X[here_X].sum() * (p_X @ (values_X * here_X)) / p_X[here_X].sum())
    return total


# ---- worlds


def any_world(seed: int) -> TabularModel:
    """Independent logits at every prefix."""
    return TabularModel.random(VOCABULARY, LIMIT, seed=seed, scale=1.5)


def one_length(seed: int) -> TabularModel:
    """Independent tokens, no end before the limit: prod Z_t is the same for every text, and the two temperatures agree."""
    logits_V = 1.5 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits_V[0] = -torch.inf
    return TabularModel(logits_V.repeat(1, prefixes(VOCABULARY, LIMIT), 1))


def goes_on(seed: int) -> TabularModel:
    """At every place one word is likelier than the end, as in stories: sharpened token by token, texts go on."""
    return _ending(seed, -1.0)


def ends(seed: int) -> TabularModel:
    """At every place the end is likelier than any one word, though not than all of them."""
    return _ending(seed, 2.0)


def _ending(seed: int, end: float) -> TabularModel:
    model = TabularModel.random(VOCABULARY, LIMIT, seed=seed, scale=0.7)
    logits = model.logits_PCV.clone()
    logits[..., 0] = end + 0.3 * logits[..., 0]
    if end > 0:
        logits[..., 1:] *= 0.3
    return TabularModel(logits)


def trap(seed: int) -> TabularModel:
    """The likeliest first word leads to a place where everything is equally likely, the others to sure endings."""
    model = TabularModel.random(VOCABULARY, LIMIT, seed=seed, scale=0.5)
    logits = model.logits_PCV.clone()
    logits[:, 0] += torch.tensor([-2.0, 1.5, 0.0, 0.0], dtype=torch.float64)
    for place in range(1, prefixes(VOCABULARY, LIMIT)):
        first = _first_token(place)
        if first in (2, 3):
            logits[:, place, 0] += 4.0
    return TabularModel(logits)


def _first_token(place: int) -> int:
    while place > VOCABULARY:
        place = (place - 1) // VOCABULARY
    return place - 1


WORLDS: dict[str, Callable[[int], TabularModel]] = {
    "independent tokens of one length": one_length,
    "random": any_world,
    "the end is the likeliest token": ends,
    "a word is likelier than the end": goes_on,
    "the likeliest word is a trap": trap,
}


def table(taus: Sequence[float] = TAUS, seeds: int = SEEDS) -> list[dict]:
    """Every seed's numbers, by kind of world and temperature."""
    rows = []
    for name, make in WORLDS.items():
        for tau in taus:
            found = [asdict(compared(make(seed), tau)) for seed in range(seeds)]
            rows.append(
                {"world": name, "tau": tau, **{key: [one[key] for one in found] for key in found[0] if key != "tau"}}
            )
    return rows


COLUMNS = {
    "ess": ("ESS share at that tau", 2),
    "token_tau": ("token tau of equal entropy", 2),
    "log_p": ("log p", 3),
    "distance": ("TV", 3),
    "length": ("length", 2),
    "matched_repetition": ("repeated pairs at equal lengths", 4),
}


def markdown(rows: list[dict]) -> str:
    lines = [
        f"| world | tau | {' | '.join(title for title, _ in COLUMNS.values())} |",
        "|" + "---|" * (2 + len(COLUMNS)),
    ]
    for row in rows:
        cells = []
        for key, (_, digits) in COLUMNS.items():
            mean = mean_interval([row[key]])
            value, low, high = (round(each, digits) + 0.0 for each in (mean.value, mean.low, mean.high))
            cells.append(f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        lines.append(f"| {row['world']} | {row['tau']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    folders = out_folders("lab.equal_entropy", arguments)
    rows = table()
    print(markdown(rows))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(rounded(rows), separators=(",", ":"))
        (folder / "equal_entropy_worlds.json").write_text(text + "\n", encoding="utf-8")


def rounded(rows: list[dict]) -> list[dict]:
    """Seven digits."""
    return [
        {key: [float(f"{v:.7g}") for v in value] if isinstance(value, list) else value for key, value in row.items()}
        for row in rows
    ]


if __name__ == "__main__":
    from userio.commands import asks_for_help
    from userio.terminal import steady_output

    steady_output()
    if asks_for_help(sys.argv[1:]):
        print(__doc__)
    else:
        main(sys.argv[1:])
