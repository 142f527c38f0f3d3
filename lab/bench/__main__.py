"""python -m lab.bench [credit=...] [options]   Measures credit strategies against the exact gradient.

    python -m lab.bench                                   every strategy in configs/credit/, about a minute
    python -m lab.bench credit=seq_norm,dr_grpo           some of them
    python -m lab.bench credit=dr_grpo credit/weight=token_mean,seq_mean,constant
    python -m lab.bench credit=mine --config-dir my_configs
    python -m lab.bench lag=4 credit=rloo,seq_norm        off-policy: the sampler is four updates behind
    python -m lab.bench --full                            more worlds, both policies, large samples, off-policy too

Writes bench.json, bench.png and bench.pdf to lab_out/ (`out=...`). docs/credit/lab.md explains every column.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from lab.bench.jobs import BenchJob, Spec, help_with_choices, run_jobs, specs_of, split_arguments
from lab.bench.picture import draw
from lab.bench.summary import YARDSTICK, Summary, clouds, percent, summarise, yardsticks
from lab.exact.worlds import CATALOGUE, world
from lab.measure.declarations import ROUNDING_BIAS
from lab.measure.metrics import WORST_BIAS, nothing_learned
from userio.commands import asks_for_help
from userio.tracebacks import tell

SMALL = ("tiny", "tiny_turn")
DEFAULT_WORLDS = [name for name in CATALOGUE if name not in SMALL] + ["filler:transformer", "poison:transformer"]
FULL_WORLDS = [*CATALOGUE, *(f"{name}:transformer" for name in CATALOGUE)]
FULL_LAG = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; 1 if a declaration was found wrong, 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="credit=..., worlds=a,b, group=4, out=lab_out, ..."
    )
    parser.add_argument("--full", action="store_true", help="all worlds, both policies, large samples, off-policy too")
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
        return bench(given.overrides, given.config_dir, given.full)
    except ValueError as error:
        return tell("lab.bench", error)


def bench(overrides: Sequence[str], config_dirs: Sequence[str] = (), full: bool = False) -> int:
    """See `main`.

    Raises:
        ValueError: bad input, before any measurement.
    """
    settings, overrides = split_arguments(overrides)
    worlds = settings["worlds"].split(",") if settings.get("worlds") else FULL_WORLDS if full else DEFAULT_WORLDS
    for name in worlds:
        world(name.partition(":")[0])
    lag = _number(settings, "lag", 0, least=0)
    common = {
        "group_size": _number(settings, "group", 4, least=2),
        "full": full,
        "step": float(settings.get("step", 0.1)),
        "surrogate": settings.get("surrogate", "clip"),
        "seed": _number(settings, "seed", 0, least=0),
    }
    workers = _number(settings, "jobs", 2, least=1)
    specs = specs_of(overrides, config_dirs, settings.get("critic", ""))  # last: composing all of them takes seconds
    # The yardstick is needed even if the user did not ask for it.
    known = {spec.label for spec in specs}
    extra = [] if YARDSTICK in known else [Spec(YARDSTICK, (f"credit={YARDSTICK}",))]
    lags = [lag, FULL_LAG] if full and not lag else [lag]
    jobs = [BenchJob(spec, name, lag=k, **common) for k in lags for name in worlds for spec in [*extra, *specs]]
    started = time.perf_counter()
    records = _run_with_progress(jobs, workers)
    seconds = time.perf_counter() - started
    out = Path(settings.get("out", "lab_out"))
    out.mkdir(parents=True, exist_ok=True)
    tables = {}
    for k in lags:
        of_lag = [r for r in records if r["lag"] == k]
        tables[k] = _summaries(of_lag, [spec.label for spec in specs])
        _print_table(tables[k], k, common)
    if len(specs) <= 2:
        for spec in specs:
            _print_worlds([r for r in records if r["label"] == spec.label and r["lag"] == lags[0]], worlds)
    for spec in specs:
        reasons = sorted({r["skipped"] for r in records if r["label"] == spec.label and "skipped" in r})
        if reasons:
            measured = any("metrics" in r for r in records if r["label"] == spec.label)
            print(f"{spec.label}: {'skipped somewhere' if measured else 'not measured'}. {' '.join(reasons)}")
    _write_json(out / "bench.json", records, tables, {"worlds": worlds, "lags": lags, **common}, seconds)
    title = "Credit strategies against the exact gradient"
    subtitle = (
        f"{len(worlds)} enumerable worlds, groups of {common['group_size']}; bias: root mean square, "
        "noise: geometric mean; "
        "dots: single worlds"
    )
    shown = [r for r in records if r["lag"] == lags[0]]
    draw(tables[lags[0]], clouds(shown, yardsticks(shown)), out / "bench.png", title, subtitle)
    done = [record for record in records if "metrics" in record]
    enumerated = sum(record["exact"] for record in done)
    print(
        f"{len(records)} measurements in {seconds:.0f} s: {enumerated} by enumeration, {len(done) - enumerated} by sampling"
        + (f", {len(records) - len(done)} skipped" if len(done) < len(records) else "")
        + ". "
        + ", ".join(str(out / f"bench.{kind}") for kind in ("json", "png", "pdf"))
    )
    wrong = [s.label for s in tables[lags[0]] if s.verdict == "WRONG"]
    if wrong:
        print(f"WRONG DECLARATION: {', '.join(wrong)}. See docs/credit/lab.md, 'Declarations'.")
    return 1 if wrong else 0


def _number(settings: dict[str, str], key: str, default: int, least: int) -> int:
    text = settings.get(key, str(default))
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"{key}={text} must be a whole number, at least {least}.")
    return int(text)


def _run_with_progress(jobs: list[BenchJob], workers: int) -> list[dict]:
    from rich.markup import escape  # a label such as "value [perfect]" is no markup
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<42}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    records = []
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("starting workers", total=len(jobs))
        for record in run_jobs(jobs, min(workers, len(jobs))):
            records.append(record)
            said = escape(f"{record['label'][:24]} in {record['world']}")
            progress.update(bar, advance=1, description=said)
    return records


def _summaries(records: list[dict], labels: list[str]) -> list[Summary]:
    yardstick = yardsticks(records)
    by_label = defaultdict(list)
    for record in records:
        by_label[record["label"]].append(record)
    rows = [summarise(by_label[label], yardstick) for label in labels]
    known = [row for row in rows if row is not None]
    return sorted(known, key=lambda row: (len(row.backwards), _last(row.bias), _last(row.noise)))


def _last(value: float) -> float:
    """Undefined numbers go to the end."""
    return value if math.isfinite(value) else math.inf


def _print_table(rows: list[Summary], lag: int, common: dict) -> None:
    from rich import box
    from rich.markup import escape  # a label such as "value [perfect]" is no markup
    from rich.table import Table

    console = _console()
    wide, narrow = console.width >= 130, console.width < 105
    where = f"off-policy, {lag} updates behind, surrogate {common['surrogate']}" if lag else "on-policy"
    table = Table(
        title=f"Bias and noise ({where}, groups of {common['group_size']})", box=box.SIMPLE_HEAD, pad_edge=False
    )
    names = ["strategy", "bias", "worst", "noise", "length", "gain", "rank", "enumerated", "declares"]
    if wide:
        names = [*names[:3], "in", *names[3:-1], "key", names[-1]]
    elif narrow:
        names = [*names[:4], *names[-2:]]
    for name in names:
        left = name in ("strategy", "declares", "in")
        least, wraps = 14 if name == "strategy" else None, name in ("strategy", "declares", "bias")
        table.add_column(name, justify="left" if left else "right", no_wrap=not wraps, overflow="fold", min_width=least)
    words = {True: "unbiased", False: "biased", None: "nothing"}
    marks = {"WRONG": "[bold red]WRONG", "agrees": "[green]ok", "not seen": "[yellow]unseen", "no claim": ""}
    marks |= {"agrees so far": "[green]ok[/] where enumerated", "nothing learned": "[yellow]nothing learned"}
    for row in rows:
        cells = [row.label, _bias_text(row), _percent(row.worst_bias)]
        cells += [row.worst_world] if wide else []
        numbers = [(row.noise, ".2f"), (row.length_push, "+.3f"), (row.gain, ".3f"), (row.spearman, ".2f")]
        cells += [_shown(value, form) for value, form in (numbers[:1] if narrow else numbers)]
        cells += [f"{row.enumerated} of {row.worlds}"]
        cells += [_shown(row.key_share, ".2f")] if wide else []
        table.add_row(*map(escape, cells), f"{words[row.declared]} {marks[row.verdict]}")
    console.print(table)
    console.print(
        "bias: of the direction, root mean square over worlds; worst: largest; noise: relative to rloo; length: push "
        "on "
        "length beyond the true one; gain: of a small step, 1 is best; rank: correlation with the ideal credit; enumerated: worlds "
        "in which every batch was looked at. In the others batches were drawn, and a bias below the error is not seen.",
        style="dim",
    )
    for row in rows:
        if row.nothing:
            print(f"{row.label}: nothing learned in {', '.join(row.nothing)}: its mean update is zero there.")
        if row.backwards:
            print(f"{row.label}: backwards in {', '.join(row.backwards)}: its mean update lowers the reward there.")


def _print_worlds(records: list[dict], worlds: Sequence[str]) -> None:
    from rich import box
    from rich.markup import escape  # a label such as "value [perfect]" is no markup
    from rich.table import Table

    done = {r["world"]: r for r in records if "metrics" in r}
    if not done:
        return
    console = _console()
    names = {"relative_bias": "bias", "nsr": "nsr", "length_push": "length", "gain": "gain", "spearman": "rank"}
    if console.width >= 110:
        names |= {"true_length_push": "true length", "cosine": "cosine", "scale": "scale", "key_share": "key"}
    table = Table(title=f"{records[0]['label']}, world by world", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("world", "batches", *names.values()):
        table.add_column(column, justify="left" if column in ("world", "batches") else "right", no_wrap=True)
    for name in worlds:
        if record := done.get(name):
            how = "all" if record["exact"] else f"{record['batches']:,} drawn"
            table.add_row(escape(name), how, *(_number_text(record, metric) for metric in names))
    console.print(table)


def _console():
    """As wide as the terminal; in a pipe or a file, wide enough for every column."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=180)


def _number_text(record: dict, metric: str) -> str:
    value, error = record["metrics"].get(metric), record["errors"].get(metric)
    if metric == "relative_bias" and nothing_learned(record["metrics"]):
        return "nothing learned"
    if value is None:
        return "-"
    if metric == "relative_bias":
        return _percent(value) + (f" ±{100 * error:.1g}" if error and error > ROUNDING_BIAS else "")
    return "0" if abs(value) <= ROUNDING_BIAS else f"{value:.3f}"


def _bias_text(row: Summary) -> str:
    """The column `bias`: of the worlds in which the update points somewhere, and forward."""
    if row.measured == "nothing":
        return "nothing learned"
    if row.backwards:
        return f"backwards in {len(row.backwards)}"
    error = f" ±{100 * row.bias_error:.1g}" if row.bias_error > ROUNDING_BIAS else ""
    return _percent(row.bias) + error


def _shown(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def _percent(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "0" if value <= ROUNDING_BIAS else "backwards" if value >= WORST_BIAS else percent(value)


def _write_json(
    path: Path, records: list[dict], tables: dict[int, list[Summary]], settings: dict, seconds: float
) -> None:
    content = {
        "command": "python -m lab.bench " + " ".join(sys.argv[1:]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "seconds": round(seconds, 1),
        "settings": settings,
        "summary": {str(lag): [row.record() for row in rows] for lag, rows in tables.items()},
        "cells": sorted(records, key=lambda r: (r["lag"], r["label"], r["world"])),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    sys.exit(main())
