"""The picture and the table of lab/temperature.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

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
