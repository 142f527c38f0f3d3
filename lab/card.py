"""python -m lab.card credit=seq_norm   Writes a page about a credit strategy: what it says, what was measured.

    python -m lab.card credit=seq_norm                          docs/strategies/seq_norm.md
    python -m lab.card --all                                    every strategy in configs/credit/, and the index
    python -m lab.card credit=mine --config-dir my_configs out=my_docs

The pages are made, never edited. Everything on them is measured on the strategy object that trains.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from configs.compose import CONFIG_DIR, ConfigError
from credit.declare import declaration_of
from credit.methods.auxiliary import parts_declared, settings_in
from credit.signals import SIGNALS
from credit.strategy import Strategy
from lab.bench.jobs import BenchJob, Spec, help_with_choices, run_jobs, specs_of, split_arguments
from lab.bench.summary import YARDSTICK, percent
from lab.costs import costs_of
from lab.largest import GROUP_SIZE, Largest, largest_bias
from lab.measure.declarations import (
    ROUNDING_BIAS,
    TURN_WORLDS,
    Finding,
    check_declaration,
    credits_turns,
    enumerated,
    largest_enumeration,
)
from lab.measure.estimate import Budget
from lab.measure.invariances import invariances
from lab.measure.metrics import WORST_BIAS, nothing_learned
from userio.commands import asks_for_help
from userio.tracebacks import tell
from userio.words import word_of

_PAGES = CONFIG_DIR.parent / "docs" / "strategies"
FOLDER = _PAGES if _PAGES.is_dir() else Path("docs", "strategies")  # installed, there is no docs/ beside us
WORLDS = ["tiny", "levels", "shares", "filler", "poison", "two_turn", "regex_tags", "coin", "filler:transformer"]
QUICK_WORLDS = ("tiny", "tiny_turn")
QUICK_BUDGET = Budget(groups=2000, calls=100)
QUICK_METRICS = ("scale", "relative_bias", "nsr", "length_push", "spearman", "key_share")
AXES = ("baseline", "spread", "weight", "ratio")
INVARIANCES = {
    "row order": "rows of the batch in another order",
    "group labels": "prompts numbered otherwise",
    "padding": "more padding on the right",
    "content of masked positions": "other values at padding and tool tokens",
    "token ids": "the vocabulary renumbered",
    "unrelated prompts in the batch": "another prompt joins the batch (credit; weights up to one factor)",
    "reward shift": "a constant added to every reward",
    "reward scale": "every reward times three",
    "cut into micro-batches": "the live part computed on a few rows at a time",
    "one credit for all tokens of a row": "(none) all tokens of a row get the same; TRL's sequence ratio needs it",
    "masked tokens get nothing": "(none) padding and tool tokens get neither credit nor weight",
    "nothing to compare, nothing to learn": "all rewards made equal, or every group of one: no update",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the pages; 1 if a declaration was found wrong, 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.card",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="credit=..., out=docs/strategies, jobs=2")
    parser.add_argument("--all", action="store_true", help="every strategy in configs/credit/")
    parser.add_argument(
        "--help", "-h", action="store_true", help="this; --help credit=value: the settings of one choice"
    )
    parser.add_argument("--config-dir", action="append", default=[], help="a folder of your own with credit/*.yaml")
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if asks_for_help(arguments):
            print(help_with_choices(parser, arguments))
            return 0
        given = parser.parse_intermixed_args(arguments)
        settings, overrides = split_arguments(given.overrides)
        if given.all == bool(overrides):
            raise ValueError("say either credit=<name> or --all.")
        return write_cards(overrides, given.config_dir, settings, index=given.all)
    except ValueError as error:
        return tell("lab.card", error)


def write_cards(overrides: Sequence[str], config_dirs: Sequence[str], settings: dict[str, str], index: bool) -> int:
    """See `main`.

    Raises:
        ValueError: bad input, before any measurement.
    """
    folder = Path(settings.get("out", FOLDER))
    specs = specs_of(overrides, config_dirs)
    folder.mkdir(parents=True, exist_ok=True)
    by_name: dict[str, list[Spec]] = {}
    for spec in specs:
        by_name.setdefault(re.sub(r" \[.*\]$", "", spec.label), []).append(spec)
    yardstick = Spec(YARDSTICK, (f"credit={YARDSTICK}",))
    worlds = {spec.label: WORLDS + [*TURN_WORLDS] * credits_turns(spec.strategy()) for spec in specs}
    every = list(dict.fromkeys(world for own in worlds.values() for world in own))
    jobs = [BenchJob(yardstick, world, GROUP_SIZE) for world in every]
    jobs += [BenchJob(spec, world, GROUP_SIZE) for spec in specs for world in worlds[spec.label]]
    records = list(run_jobs(jobs, int(settings.get("jobs", 2)) if len(specs) > 1 else 1))
    wrong = []
    rows = {}
    for name, variants in by_name.items():
        page, finding = card(name, variants, records)
        path = folder / (re.sub(r"[^\w.-]+", "-", name) + ".md")
        path.write_text(page, encoding="utf-8")
        print(f"{path}  {finding}")
        rows[name] = (path.name, variants[0], finding, largest_bias(variants, records, finding))
        if not finding.agrees:
            wrong.append(name)
    if index:
        (folder / "README.md").write_text(_index(rows), encoding="utf-8")
    return 1 if wrong else 0


def card(name: str, variants: list[Spec], records: list[dict]):
    """The page as Markdown, and the finding about the declaration. `variants`: one spec for each critic shown."""
    strategy = variants[0].strategy()
    finding = check_declaration(strategy)
    measured = _measured(variants, records, _verdict(finding, largest_bias(variants, records, finding)))
    parts = [head(name, variants[0], strategy), measured, foot(strategy)]
    quick = json.dumps(quick_numbers(strategy), sort_keys=True)
    return "\n\n".join(parts) + f"\n\n<!-- quick: {quick} -->\n", finding


def head(name: str, spec: Spec, strategy: Strategy) -> str:
    """Everything on the page above the table of measurements."""
    words = {True: "unbiased", False: "biased", None: "nothing"}
    claim = strategy.declaration
    needs = ", ".join(
        f"`{need}`" for need in (*SIGNALS, *sorted(strategy.needs - set(SIGNALS))) if need in strategy.needs
    )
    parts = {axis: getattr(strategy, axis) for axis in (*AXES, "live_weight", "auxiliary", "critic")}
    rows = [_axis_row(axis, part) for axis, part in parts.items() if part is not None]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{_meaning(spec)}",
            "",
            f"`accelerate launch train_grpo.py {' '.join(spec.overrides)}`",
            "",
            "Made by `python -m lab.card`; do not edit. How to read it: [the lab](../credit/lab.md).",
            "",
            "## Formula",
            "",
            "loss = - sum over rows b and tokens t of w[b,t] f(rho[b,t], A[b,t])"
            + ("" if strategy.auxiliary is None else " + sum of m[b,t] l[b,t], the auxiliary")
            + ", where",
            "",
            "| part | member | what it is | source |",
            "|---|---|---|---|",
            *rows,
            "",
            *(
                ["The weights are rescaled to total mass 1 in each batch (`unit_mass`).", ""]
                if strategy.unit_mass
                else []
            ),
            "## Declares",
            "",
            f"- direction of the expected update: {words[claim.unbiased]}",
            f"- a token's factor depends on: {claim.weight_class or 'not declared'}",
            f"- one credit for all tokens of a row: {_yes(claim.row_constant)}",
            f"- reads: {needs}",
        ]
    )


def foot(strategy: Strategy) -> str:
    """Everything below the table of measurements."""
    found = invariances(strategy)
    beside = "" if strategy.auxiliary is None else ", and the auxiliary's push"
    lines = ["## Invariances", "", f"| change | what credit and weights do{beside} |", "|---|---|"]
    lines += [f"| {meaning} | {found[name]} |" for name, meaning in INVARIANCES.items() if name in found]
    return "\n".join([*lines, "", "## Cost", "", *costs_of(strategy)])


def quick_numbers(strategy: Strategy) -> dict[str, dict[str, float]]:
    """A few cheap enumerations, kept on the page: what `stale_parts` measures again."""
    numbers = {}
    for name in QUICK_WORLDS:
        found = largest_enumeration(enumerated(name), strategy, "random", QUICK_BUDGET, sizes=(3, 2))
        if found is not None:
            numbers[name] = {metric: float(f"{_cleaned(found[metric]):.6g}") for metric in QUICK_METRICS}
    return numbers


def stale_parts(path: Path, spec: Spec) -> list[str]:
    """Which parts of a page no longer agree with the code; empty if it is fresh. Cheap: measures small worlds only."""
    if not path.is_file():
        return [f"{path.name} does not exist"]
    page, strategy = path.read_text(encoding="utf-8"), spec.strategy()
    stale = []
    if head(path.stem, spec, strategy) not in page:
        stale.append("formula or declaration")
    if foot(strategy) not in page:
        stale.append("invariances or cost")
    stored = re.search(r"<!-- quick: (.*) -->", page)
    before, now = json.loads(stored.group(1)) if stored else {}, quick_numbers(strategy)
    if before.keys() != now.keys():
        return [*stale, "what can be enumerated"]
    for world, numbers in now.items():
        for metric, value in numbers.items():
            if not math.isclose(before[world].get(metric, math.inf), value, rel_tol=1e-4, abs_tol=1e-8):
                stale.append(f"{metric} in the world {world}")
    return stale


def _verdict(finding: Finding, largest: Largest) -> str:
    words = {True: "unbiased", False: "biased", None: "undecided"}
    if not finding.measurements:
        return f"**Nothing learned**: the mean update is zero in {', '.join(finding.nothing)}."
    if not finding.agrees:
        return (
            f"**WRONG DECLARATION: declared {words[finding.declared]}, measured {words[finding.measured]}** "
            f"(relative bias {percent(finding.worst)} in {finding.where})."
        )
    if finding.measured:
        return f"**Unbiased** in {finding.measurements} enumerated worlds, up to rounding."
    return f"**Biased**: {largest}."


def _measured(variants: list[Spec], records: list[dict], verdict: str) -> str:
    names = (
        "cosine",
        "relative_bias",
        "scale",
        "noise",
        "length_push",
        "success_push",
        "gain",
        "spearman",
        "key_share",
    )
    titles = "cosine | bias | scale | noise | length | successes | gain | rank | key"
    reference = {r["world"]: r["metrics"]["nsr"] for r in records if r["label"] == YARDSTICK and "metrics" in r}
    lines = [
        "## Measured",
        "",
        verdict,
        "",
        f"Groups of {GROUP_SIZE}, one for each prompt, on-policy. bias: relative bias of the direction; noise: "
        "noise-to-signal ratio relative to `rloo`; length, successes: push on the length of all and of rewarded texts, "
        "beyond the true one; gain: of a small step, 1 is best; rank: Spearman correlation of credit with the ideal "
        "A*; key: share of the update on tokens that decide. `±`: sampled, standard error; else enumerated.",
    ]
    for spec in variants:
        if len(variants) > 1:
            lines += ["", f"Critic: {spec.critic}."]
        lines += ["", f"| world | {titles} |", "|---|" + "---:|" * len(names)]
        own = dict.fromkeys(r["world"] for r in records if r["label"] == spec.label)
        for world in (name for name in own if name != "coin"):
            record = next((r for r in records if r["label"] == spec.label and r["world"] == world), None)
            if record is None or "metrics" not in record:
                lines.append(
                    f"| {world} | not measured: {(record or {}).get('skipped', '')} |" + " |" * (len(names) - 1)
                )
                continue
            lines.append(f"| {world} | " + " | ".join(_cell(record, n, reference.get(world)) for n in names) + " |")
    drifts = [r for r in records if r["label"] == variants[0].label and r["world"] == "coin" and "metrics" in r]
    if drifts:
        drift = _cleaned(drifts[0]["metrics"]["drift"])
        error = drifts[0]["errors"].get("drift")
        seen = "none" if drift == 0 else f"{drift:.2g} of its noise" + (f" ±{error:.1g}" if error else "")
        lines += [
            "",
            f"Where the reward is a coin (`coin`), the true gradient is zero; drift of the mean update: {seen}.",
        ]
    return "\n".join(lines)


def _cell(record: dict, name: str, reference: float | None) -> str:
    metrics, errors = record["metrics"], record["errors"]
    value, error = metrics.get(name), errors.get(name)
    if name == "relative_bias" and nothing_learned(metrics):
        return "nothing learned"
    if name == "noise":
        value, error = (metrics["nsr"] / reference, None) if metrics["nsr"] and reference else (None, None)
    if name in ("length_push", "success_push") and value is not None:
        value -= metrics[f"true_{name}"]
    if value is None:
        return "-"
    value, error = _cleaned(value), _cleaned(error)
    if name == "relative_bias" and value >= WORST_BIAS:
        return "backwards"
    if name == "relative_bias":
        return "0" if value == 0 and not error else percent(value) + (f" ±{100 * error:.1g}" if error else "")
    digits = f"{value:+.3f}" if name.endswith("push") else f"{value:.3f}" if name != "noise" else f"{value:.2f}"
    return "0" if value == 0 and not error else digits + (f" ±{error:.1g}" if error and error >= 5e-4 else "")


def _cleaned(value: float | None) -> float:
    """Rounding errors are zero; undefined is 0 as well (only where numbers are compared, not shown)."""
    return 0.0 if value is None or not math.isfinite(value) or abs(value) <= ROUNDING_BIAS else value


def _axis_row(axis: str, member) -> str:
    inner, bound = member, {}
    while isinstance(inner, partial):
        bound = {**inner.keywords, **bound}
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    module = getattr(inner, "__module__", type(inner).__module__)
    if axis == "auxiliary":
        bound = settings_in(member)
    first = inspect.cleandoc(inspect.getdoc(inner) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    settings = "".join(
        f", {key}={value:g}" if isinstance(value, float) else f", {key}={value}" for key, value in bound.items()
    )
    source = (parts_declared if axis == "auxiliary" else declaration_of)(member).source
    return f"| {axis} | `{module}.{name}`{settings} | {first} | {source} |"


def _meaning(spec: Spec) -> str:
    choice = word_of(spec.overrides[0]).text
    for folder in (*spec.config_dirs, CONFIG_DIR):
        path = Path(folder) / "credit" / f"{choice}.yaml"
        if path.is_file():
            first = path.read_text(encoding="utf-8").split("\n", 1)[0]
            text = first.lstrip("# ").strip()
            return text[:1].upper() + text[1:] + "."
    raise ConfigError(f"credit={choice}: no such choice.")


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not declared"}[value]


def _bias_found(finding: Finding, largest: Largest) -> str:
    if not finding.measurements:
        return "nothing learned"
    return "0" if finding.measured else f"{largest.words} ({largest.where.partition(',')[0]})"


def _index(rows: dict[str, tuple[str, Spec, Finding, Largest]]) -> str:
    lines = [
        "# Credit strategies",
        "",
        "One page for each strategy in `configs/credit/`, made by `python -m lab.card --all`. Bias is the relative bias of the",
        "update's direction, the largest found in all the worlds of its page; see [the lab](../credit/lab.md).",
        "",
        "| strategy | what it is | declares | largest bias found |",
        "|---|---|---|---|",
    ]
    words = {True: "unbiased", False: "biased", None: "nothing"}
    for name, (file, spec, finding, largest) in rows.items():
        bias = _bias_found(finding, largest)
        wrong = "" if finding.agrees else " **wrong**"
        lines.append(f"| [{name}]({file}) | {_meaning(spec)} | {words[finding.declared]}{wrong} | {bias} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    sys.exit(main())
