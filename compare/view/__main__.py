"""`python -m compare.view runs/.../seed0`: the completions of a run, each token coloured by its credit A*w.

    python -m compare.view runs/chain/uniform/seed0
    python -m compare.view runs/chain/uniform/seed0 credit=seq_norm,dr_grpo steps=last out=credit.html
    python -m compare.view runs/chain/uniform/seed0 runs/chain/value/seed0    # two runs, on the prompts that both saw
    python -m compare.view runs/chain/uniform/seed0 --terminal rows=8
    python -m compare.view evals/errands/seed0-1a2b3c4d    # what eval_model.py has left: conversations, model beside model

Options (key=value):
    credit   strategies computed on the same completions, next to the recorded one (default: uniform, seq_norm, dr_grpo,
             less the run's own);
             one with changes of its own in quotes: credit='dr_grpo credit/weight=seq_mean,uniform'
    steps    all, last, or numbers: steps=1,51 (default: at most 50, spread over the run)
    rows     at most so many completions in the terminal
    out      the page (default: credit.html in the run, the first of two)
    --config-dir DIR   your own YAMLs, as for training
The run folder is read as data: nothing that its files name is imported, called or looked up. Code runs for the strategies
of this command line only (credit=, --config-dir).
Recomputed columns see the recorded completions only: weights that count tokens or rows of the batch are those of the
sample, the same factor for every completion. docs/compare/viewer.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from compare.records import RecordRow, find_records, read_record
from compare.untrusted import read_object, write_file
from compare.view.evaluation import evaluated_files, view_of_evaluation
from compare.view.page import page
from compare.view.run import run_curves, run_facts
from compare.view.steps import view_of_step
from configs.compose import compose_config, make_strategy
from credit import Strategy
from userio.visible import visible
from userio.words import check_option, is_path, word_of

DEFAULT_CREDIT = ("uniform", "seq_norm", "dr_grpo")
DEFAULT_STEPS = 50
_KEYS = ("credit", "steps", "rows", "out")


@dataclass
class Request:
    """A parsed command line."""

    run: Path
    other: Path | None = None  # compared with
    credit: list[str] | None = None
    steps: str = "some"
    rows: int | None = None
    out: Path | None = None
    terminal: bool = False
    config_dirs: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str]) -> Request:
    """Raises ValueError, with the remedy, on anything that is not understood."""
    rest, folders, chosen, terminal, dirs = list(arguments), [], {}, False, []
    while rest:
        argument = rest.pop(0)
        key, value = word_of(argument)
        if argument in ("--terminal", "-t"):
            terminal = True
        elif key in ("--config-dir", "-cd"):
            if value is None and not rest:
                raise ValueError("--config-dir needs a folder.")
            dirs.append(rest.pop(0) if value is None else value)
        elif value is not None and not is_path(argument):
            check_option(key, _KEYS, "--terminal", "--config-dir")
            chosen[key] = value
        else:
            folders.append(Path(argument))
    if len(folders) not in (1, 2):
        raise ValueError("Give one run folder, or two to compare: python -m compare.view runs/chain/uniform/seed0")
    if "rows" in chosen and not (chosen["rows"].isdigit() and int(chosen["rows"]) > 0):
        raise ValueError(f"rows={chosen['rows']} must be a whole number from 1 on.")
    request = Request(folders[0], *folders[1:], terminal=terminal, config_dirs=dirs, steps=chosen.get("steps", "some"))
    if "credit" in chosen:
        request.credit = [name.strip() for name in chosen["credit"].split(",") if name.strip()]
    request.rows = int(chosen["rows"]) if "rows" in chosen else None
    request.out = Path(chosen["out"]) if "out" in chosen else None
    return request


def build_view(request: Request) -> dict[str, Any]:
    """Everything the page or the terminal shows, ready for JSON: title, facts and curves of the run, and "steps", made one at
    a time as they are asked for: hundreds need not fit into memory. "other" is the same of the run it is compared with.

    Raises:
        ValueError: no records, no such step, or no such strategy.
    """
    places = [
        place for run in (request.run, request.other) if run is not None for place in evaluated_files(run) or [run]
    ]
    view, *others = [_view_of(place, request) for place in places[:2]]
    return view | {"other": others[0] if others else None}


def _view_of(place: Path, request: Request) -> dict[str, Any]:
    if place.suffix != ".jsonl":
        return _view_of_run(place, request)
    if request.credit is not None or request.steps not in ("some", "last", "all"):
        raise ValueError(
            f"{place} is of an evaluation, which has no credit and no steps. Leave credit= and steps= out."
        )
    return view_of_evaluation(place)


def _view_of_run(run: Path, request: Request) -> dict[str, Any]:
    files = find_records(run)
    wanted = choose_steps(list(files), request.steps)
    critic = critic_of(run)
    names = DEFAULT_CREDIT if request.credit is None else request.credit
    makers = {name: _maker(name, request.config_dirs, critic) for name in names}
    parts = run.resolve().parts
    return {
        "title": visible("/".join(parts[-3:] if parts[-1].startswith("seed") else parts[-1:])),
        "facts": run_facts(run),
        "curves": run_curves(run),
        "steps": _steps({step: files[step] for step in wanted}, makers, request.credit is None),
    }


def _steps(
    files: dict[int, Path], makers: dict[str, Callable[[], Strategy]], skip_own: bool
) -> Iterator[dict[str, Any]]:
    """The view of each file that can be read; broken ones are named and left out, unless all are."""
    broken, shown = [], 0
    for step, path in files.items():
        try:
            rows: list[RecordRow] = read_record(path)
        except ValueError as error:
            broken.append(str(error))
            continue
        own = {row.get("strategy") for row in rows} if skip_own else set()
        shown += 1
        yield view_of_step(step, rows, {name: make for name, make in makers.items() if name not in own})
    if broken and not shown:
        raise ValueError(broken[0])
    for line in broken:
        print(f"compare.view: {visible(line)}", file=sys.stderr)


def choose_steps(recorded: list[int], wanted: str) -> list[int]:
    """`all`, `last`, `some` (at most fifty, evenly spread, first and last among them), or a list of numbers."""
    if wanted == "all":
        return recorded
    if wanted == "last":
        return recorded[-1:]
    if wanted == "some":
        count = min(DEFAULT_STEPS, len(recorded))
        places = [round(i * (len(recorded) - 1) / max(1, count - 1)) for i in range(count)]
        return [recorded[place] for place in places]
    try:
        steps = sorted({int(number) for number in wanted.split(",")})
    except ValueError:
        raise ValueError(f"steps={wanted}: all, last, or numbers like steps=1,51.") from None
    if absent := [step for step in steps if step not in recorded]:
        raise ValueError(f"Step {absent[0]} was not recorded. Recorded: {', '.join(map(str, recorded))}.")
    return steps


def critic_of(run: Path) -> dict[str, Any] | None:
    """What fitted the recorded values: `credit.critic` of the run's config.yaml, as plain data; None without either."""
    try:
        credit = (read_object(run / "config.yaml") or {}).get("credit")
    except (ValueError, OSError) as error:
        print(f"compare.view: {run}: {visible(str(error))}; values go to no column.", file=sys.stderr)
        return {"unknown": str(error)}
    critic = credit.get("critic") if isinstance(credit, dict) else None
    return critic if isinstance(critic, dict) else None


def _maker(name: str, config_dirs: Sequence[str], critic: dict[str, Any] | None) -> Callable[[], Strategy]:
    """Composes now, so that a wrong name stops the command; a strategy that cannot score these rows only loses its
    column. Whether its critic is the run's is told by comparing settings: the run's are never built."""
    first, *changes = name.split()
    node = compose_config("strategy", [first if "=" in first else f"credit={first}", *changes], config_dirs).credit
    strategy, own = make_strategy(node), OmegaConf.to_container(node, resolve=True)

    def make() -> Strategy:
        if critic is not None and strategy.needs_values and own.get("critic") != critic:
            raise ValueError("Its critic is another than the run's, whose values were recorded.")
        return strategy

    return make


def main(arguments: Sequence[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        request = parse(arguments)
        if request.terminal:
            request.steps = "last" if request.steps == "some" else request.steps
        view = build_view(request)
        if request.terminal:
            from rich.console import Console

            from compare.view.terminal import print_view

            print_view(view, Console(), request.rows)
            return 0
        out = request.out or (request.run if request.run.is_dir() else request.run.parent) / "credit.html"
        write_file(out, page(view))
    except (ValueError, OSError) as error:
        print(f"compare.view: {visible(str(error))}", file=sys.stderr)
        return 2
    print(visible(str(out)))
    return 0


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    raise SystemExit(main(sys.argv[1:]))
