"""Token temperature against sequence temperature, one picture and one table per model.

    python -m lab.temperature        an enumerable world: exact curves, and every sampler's distance and cost
    python -m lab.temperature model=embedded task=chain [tau=0.9,0.7,0.5] [sampler=smc,mh] [out=FOLDER]

    tau=1.0,0.8,0.6,0.5,0.4     temperatures
    sampler=token,smc,mh        of a model: those of `python sample.py --help`
    samples=32 prompts=8        texts for each prompt, and prompts (of a model)
    max_length=64               longest text in tokens; left out: what the task suggests
    out=runs/temperature        where the picture and the table go
    seed=0                      of the texts

With a model, every setting of `sample.py` may be given; `--help task=jsonl` shows those of one choice.

The picture: mean log-probability of a text (its likelihood) against the entropy of what is written (its diversity),
both in nats. Among all ways to write with a given entropy, sequence temperature has the highest mean log-probability
(it maximises E[log p] + H / alpha), so its curve is the upper edge of what is possible; how far token temperature
lies below is the difference between the two.

Shapes: S samples of a prompt, X texts of up to the limit.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from sampling.ancestral import TokenTemperature
from sampling.draws import Draws, Sampler, check_counts
from sampling.exact import enumerate_texts, total_variation
from sampling.mh import PowerSampling, SuffixMH
from sampling.model import Model
from sampling.rejection import Rejection
from sampling.smc import SMC, SNIS
from sampling.tabular import TabularModel
from sampling.tempering import alpha_of
from userio.words import word_of

TAUS = (1.0, 0.8, 0.6, 0.5, 0.4)
SETTINGS = ("tau", "sampler", "samples", "prompts", "max_length", "out", "seed")
VOCABULARY, LIMIT, DRAWS = 3, 6, 100_000
SAMPLERS: dict[str, Sampler] = {
    "token": TokenTemperature(),
    "snis": SNIS(16),
    "smc": SMC(16),
    "mh": SuffixMH(32),
    "power": PowerSampling(10, 4),
    "rejection": Rejection(),
}


INK, GRID = "#222222", "#dddddd"
# Okabe-Ito: told apart by colour-blind readers.
COLOURS = {
    "token": "#D55E00",
    "sequence": "#0072B2",
    "smc": "#0072B2",
    "mh": "#009E73",
    "snis": "#CC79A7",
    "power": "#E69F00",
    "rejection": "#56B4E9",
}
MARKS = {"token": "o", "smc": "s", "mh": "^", "snis": "v", "power": "D", "rejection": "x", "sequence": "."}
NAMES = {"token": "token temperature", "sequence": "sequence temperature (exact)"}


@dataclass(frozen=True)
class Point:
    """One sampler at one temperature. NaN where it is not known.

    Args:
        log_p: mean log-probability of a text under the model at temperature 1.
        entropy: of what the sampler writes, or for the samplers of sequence temperature of what they aim at; nats.
        distance: total variation to the exact target, where that can be enumerated; noise: what as many exact draws
            would show.
        tokens: drawn per returned text. ess: effective sample size over its maximum. acceptance: of proposals.
        length, distinct: mean tokens of a text; share of different texts among a prompt's samples.
    """

    sampler: str
    tau: float
    log_p: float
    entropy: float
    distance: float
    noise: float
    tokens: float
    ess: float
    acceptance: float
    length: float
    distinct: float
    seconds: float


def measure_sampler(name: str, model: Model, prompts, tau: float, samples: int, limit: int, generator, log_z_P=None):
    """(Point, Draws). log_z_P: log normalisers for the entropy of sequence temperature; None: the draws' own."""
    sampler = _sized(SAMPLERS[name], samples)
    started = time.perf_counter()
    draws: Draws = sampler(model, prompts, tau, samples, limit, generator)
    seconds = time.perf_counter() - started
    log_p_PS = draws.logps_PS.double()
    if name == "token":
        # log q(x) = alpha log p(x) - sum_t log Z_t is known for every draw.
        entropy = float((draws.log_weights_PS - log_p_PS / tau).mean())
    else:
        log_z_P = draws.log_normaliser_P if log_z_P is None else log_z_P
        entropy = float((log_z_P - log_p_PS.mean(1) / tau).mean())
    texts = draws.texts()
    return Point(
        sampler=name,
        tau=tau,
        log_p=float(log_p_PS.mean()),
        entropy=entropy,
        distance=math.nan,
        noise=math.nan,
        tokens=draws.tokens_per_sample,
        ess=float(draws.ess_P.mean() / max(1, draws.ess_out_of)),
        acceptance=float(draws.acceptance_P.mean()),
        length=float(draws.lengths_PS.double().mean()),
        distinct=sum(len({tuple(t) for t in per_prompt}) / samples for per_prompt in texts) / len(prompts),
        seconds=seconds,
    ), draws


def exact_points(taus: Sequence[float] = TAUS, draws: int = DRAWS, seed: int = 0) -> tuple[list[Point], list[Point]]:
    """(both temperatures by enumeration, every sampler by sampling) in one random world."""
    model = TabularModel.random(VOCABULARY, LIMIT, seed=10)
    generator = torch.Generator().manual_seed(seed)
    exact, sampled = [], []
    for tau in taus:
        enumeration = enumerate_texts(model, LIMIT, 1 / tau)
        for name, p_X in (("token", enumeration.q_X), ("sequence", enumeration.target_X)):
            exact.append(_exact_point(name, tau, enumeration, p_X))
        spread_X = enumeration.target_X * (1 - enumeration.target_X)
        noise = float((spread_X / (2 * math.pi * draws)).sqrt().sum())
        for name in SAMPLERS:
            point, found = measure_sampler(
                name, model, [[0]], tau, draws, LIMIT, generator, enumeration.log_normaliser[None]
            )
            shares_X = enumeration.frequencies(found.tokens_PST[0]) / draws
            distance = total_variation(shares_X, enumeration.target_X)
            sampled.append(Point(**{**asdict(point), "distance": distance, "noise": noise}))
    return exact, sampled


def _exact_point(name: str, tau: float, enumeration, p_X) -> Point:
    seen_X = p_X > 0
    return Point(
        sampler=name,
        tau=tau,
        log_p=float(p_X[seen_X] @ enumeration.log_p_X[seen_X]),
        entropy=float(-(p_X[seen_X] @ p_X[seen_X].log())),
        distance=total_variation(p_X, enumeration.target_X),
        noise=0.0,
        tokens=float(p_X @ enumeration.lengths_X.double()),
        ess=math.nan,
        acceptance=math.nan,
        length=float(p_X @ enumeration.lengths_X.double()),
        distinct=math.nan,
        seconds=math.nan,
    )


def model_points(
    model: Model,
    prompts,
    taus: Sequence[float] = TAUS,
    samplers: Sequence[str] = ("token", "smc", "mh"),
    samples: int = 32,
    limit: int = 64,
    seed: int = 0,
) -> list[Point]:
    """Every sampler at every temperature. Normalisers come from the SMC runs where there are any."""
    generator = torch.Generator(getattr(model, "device", "cpu")).manual_seed(seed)
    points = []
    for tau in taus:
        log_z_P = None
        for name in sorted(samplers, key=lambda name: name != "smc"):
            point, draws = measure_sampler(name, model, prompts, tau, samples, limit, generator, log_z_P)
            log_z_P = draws.log_normaliser_P if name == "smc" else log_z_P
            points.append(point)
    return points


def _sized(sampler: Sampler, samples: int) -> Sampler:
    """The sampler with batches as large as the exact worlds allow; rejection, whose first batch knows nothing of the
    acceptance, with smaller ones, or that batch would be the cost."""
    rows = max(256, samples // 10 if isinstance(sampler, Rejection) else min(samples * 16, 200_000))
    return type(sampler)(**{**sampler.__dict__, "max_rows": rows})


def draw(curves: Sequence, dots: Sequence, title: str, path: Path) -> None:
    """Likelihood against diversity, a curve per way of tempering, tau written along it; distance to the exact target
    (or likelihood, where that cannot be enumerated) and cost against tau."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    for name in dict.fromkeys(point.sampler for point in curves):
        line = [point for point in curves if point.sampler == name]
        left.plot([p.entropy for p in line], [p.log_p for p in line], linewidth=2, **_style(name))
        spread = max(p.entropy for p in curves) - min(p.entropy for p in curves)
        last = math.inf
        for point in sorted(line, key=lambda p: -p.entropy) if name in ("token", "sequence", "smc") else []:
            if (point.tau == 1 and name != "token") or last - point.entropy < 0.05 * spread:
                continue  # both curves begin at tau = 1; no number over another
            last = point.entropy
            offset, anchor = ((-7, -9), "right") if name == "token" else ((6, 5), "left")
            words = {"fontsize": 8, "color": COLOURS[name], "ha": anchor}
            left.annotate(f"{point.tau:g}", (point.entropy, point.log_p), offset, textcoords="offset points", **words)
    left.set_xlabel("entropy of a text (nats): diversity")
    left.set_ylabel("mean log p of a text (nats): likelihood")
    left.set_title("Numbers along the curves: tau", loc="left", fontsize=10, color=INK)
    left.legend(frameon=False, loc="lower left")
    exact = any(not math.isnan(point.distance) for point in dots)
    for name in dict.fromkeys(point.sampler for point in dots):
        line = sorted((point for point in dots if point.sampler == name), key=lambda point: point.tau)
        taus = [point.tau for point in line]
        middle.plot(taus, [p.distance if exact else p.log_p for p in line], linewidth=1.5, **_style(name))
        right.plot(taus, [p.tokens for p in line], linewidth=1.5, **_style(name))
    if exact:
        noise = {point.tau: point.noise for point in dots}
        middle.plot(sorted(noise), [noise[tau] for tau in sorted(noise)], ":", color=INK, label="as many exact draws")
        middle.set_yscale("log")
    middle.set_ylabel("total variation to sequence temperature" if exact else "mean log p of a text (nats)")
    right.set_ylabel("tokens drawn per returned text")
    right.set_yscale("log")
    for axis in (middle, right) if exact else (right,):
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    middle.set_title("Distance to the target" if exact else "Likelihood", loc="left", fontsize=10, color=INK)
    right.set_title("Cost", loc="left", fontsize=10, color=INK)
    handles, labels = middle.get_legend_handles_labels()
    right.legend(handles, labels, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    for axis in (middle, right):
        axis.set_xlabel("tau")
    for axis in (left, middle, right):
        axis.grid(color=GRID, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=12, color=INK)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _style(name: str) -> dict[str, str]:
    return {"color": COLOURS[name], "marker": MARKS[name], "label": NAMES.get(name, name)}


def markdown(curves: Sequence, dots: Sequence, title: str) -> str:
    """One row per temperature and sampler; exact rows first where there are any."""
    lines = [
        f"{title}",
        "",
        "| tau | sampler | mean log p | entropy | distance (TV) | tokens per text | ESS share | accepted |",
    ]
    lines[-1] += " length | distinct |"
    lines.append("|" + "---|" * 10)
    points = list(dots) if curves is dots else [*curves, *dots]
    for point in sorted(points, key=lambda point: -point.tau):
        exact = "exact " if curves is not dots and any(point is other for other in curves) else ""
        cells = [
            f"{point.tau:g}",
            f"{exact}{point.sampler}",
            _number(point.log_p, 3),
            _number(point.entropy, 3),
            _number(point.distance, 4),
            _number(point.tokens, 1),
            _number(point.ess, 3),
            _number(point.acceptance, 3),
            _number(point.length, 2),
            _number(point.distinct, 3),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if any(point.noise > 0 for point in dots):
        noise = max(point.noise for point in dots)
        lines += ["", f"As many exact draws lie at a distance of about {noise:.4f}."]
    return "\n".join(lines)


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def main(arguments: Sequence[str]) -> None:
    given = {key: value for key, value in map(word_of, arguments) if value is not None and key in SETTINGS}
    overrides = [argument for argument in arguments if word_of(argument).key not in SETTINGS]
    try:
        taus = tuple(float(tau) for tau in given.get("tau", ",".join(map(str, TAUS))).split(","))
    except ValueError:
        raise SystemExit(f"lab.temperature: tau={given['tau']} must be numbers with commas between them.") from None
    try:
        for tau in taus:
            alpha_of(tau)
        for key in ("samples", "prompts", "max_length"):
            if key in given:
                check_counts(**{key: int(given[key]) if given[key].isdigit() else given[key]})
        if not given.get("seed", "0").isdigit():
            raise ValueError(f"seed={given['seed']} must be a whole number.")
    except ValueError as error:
        raise SystemExit(f"lab.temperature: {error}") from None
    samplers = tuple(given.get("sampler", "token,smc,mh").split(","))
    if unknown := [name for name in samplers if name not in SAMPLERS]:
        raise SystemExit(f"lab.temperature: sampler={unknown[0]}: choose among {', '.join(SAMPLERS)}.")
    folder = Path(given.get("out", "runs/temperature")).expanduser()
    seed = int(given.get("seed", 0))
    try:
        if overrides:
            title, curves = _of_model(overrides, taus, samplers, given, seed)
            dots = curves
        else:
            title = f"one world: {VOCABULARY} tokens, texts of up to {LIMIT}, {DRAWS} draws"
            curves, dots = exact_points(taus, DRAWS, seed)
    except ValueError as error:
        raise SystemExit(f"lab.temperature: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(curves, dots, title)
    (folder / "temperature.md").write_text(text + "\n", encoding="utf-8")
    draw(curves, dots, title, folder / "temperature.png")
    points = [] if curves is dots else [{"exact": True, **asdict(point)} for point in curves]
    points += [{"exact": False, **asdict(point)} for point in dots]
    (folder / "temperature.json").write_text(json.dumps(list(map(_finite, points)), indent=1) + "\n", encoding="utf-8")
    print(text)
    print(f"\n{folder}: temperature.md, temperature.json, temperature.png")


def _finite(point: dict) -> dict:
    """JSON knows no NaN."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in point.items()}


def _of_model(overrides, taus, samplers, given, seed) -> tuple[str, list[Point]]:
    from sampling.causal_lm import CausalLM
    from trainers.command.behind.agreed import SAMPLED, with_model_of, with_runs
    from trainers.command.build import build_policy, build_task, template_of
    from trainers.command.cli import compose_command
    from trainers.model.adapters import for_sampling
    from trainers.model.prompts import prompt_ids
    from trainers.run.sample import plays_with_tools, prompts_of

    words = compose_command("sample", [*overrides, f"limit={given.get('prompts', 8)}"])
    command = with_runs(with_model_of(words), SAMPLED)
    task = build_task(command.config)
    if command.config.tools or plays_with_tools(command.config, task):
        raise ValueError(
            f"task {task.name} is played with tools, and texts are compared here. Conversations: sample.py sampler=token."
        )
    prompts = prompts_of(command.config, task)
    limit = int(given.get("max_length", task.max_completion_length or 64))
    samples = int(given.get("samples", 32))
    policy = build_policy(command.config, task)
    model = for_sampling(policy.model).to("cuda" if torch.cuda.is_available() else "cpu")
    ids = [prompt_ids(prompt, policy.tokenizer, **template_of(command.config)) for prompt in prompts]
    points = model_points(CausalLM(model, policy.tokenizer), ids, taus, samplers, samples, limit, seed)
    choices = command.choices
    title = f"model={choices['model']}, task={choices['task']}: {len(prompts)} prompts, {samples} texts each"
    return title, points


if __name__ == "__main__":
    from userio.commands import asks_for_help
    from userio.terminal import steady_output

    steady_output()
    if asks_for_help(sys.argv[1:]):
        from configs.fields.help import help_of_choices

        print(help_of_choices("sample", sys.argv[1:]) or __doc__)
    else:
        main(sys.argv[1:])
