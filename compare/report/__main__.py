"""`python -m compare.report runs/... [reference=uniform] [out=...]`: compare runs, write one page about them.

    python -m compare.report runs/chain
    python -m compare.report sweeps/mine reference=uniform metric=reward primary=auc threshold=0.9

Folders: runs, folders that hold runs, or a sweep. Options (key=value):
    reference   the arm all others are compared with (default: uniform, else the first)
    metric      column of metrics.jsonl (default: reward)
    primary     what decides: final, auc, tokens, final_steps (default: final)
    threshold   for tokens-to-threshold (default: nine tenths of the reference's way)
    window      steps averaged for a score (default: a tenth of the run)
    level       of confidence (default: 0.95)
    compare     where arms are combinations of settings: the one that is compared, at the best of the others (default: the
                strategy)
    tuning_seeds   seeds that choose that best, as tuning_seeds=0,1; the others compare (default: the lowest, half of them,
                or fewer so that five are left)
    bounds      between which the metric must lie, as bounds=0,1, or none (default: 0,1 for a reward never logged outside)
    allow       settings that may differ although they decide what is measured: allow=task.n_train,reward.weights
    out         folder of the report (default: <first folder>/report)
Writes report.html (self-contained), report.md, runs.csv, comparisons.csv and the pictures as PNG. Runs are read as data:
nothing that their files name is imported or called.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from compare.read import Study, read_study
from compare.report.analysis import Analysis, Options, analyse
from compare.report.limits import parse_bounds
from userio.visible import visible
from userio.words import check_option, is_path, word_of

_NUMBERS = {"threshold": float, "level": float, "window": int}
_KEYS = (
    "reference",
    "metric",
    "primary",
    "threshold",
    "window",
    "level",
    "compare",
    "tuning_seeds",
    "bounds",
    "allow",
    "out",
)


def write_report(study: Study, options: Options, out: Path) -> Analysis:
    """Analyses the study and writes every file of the report into `out`."""
    from compare.report.page import write_files  # matplotlib only when there is something to draw

    analysis = analyse(study, options)
    out.mkdir(parents=True, exist_ok=True)
    write_files(study, analysis, out)
    return analysis


def parse(arguments: Sequence[str]) -> tuple[list[str], Options, Path | None]:
    """Folders, options and `out` of a command line.

    Raises:
        ValueError: unknown option, or a value that is not a number.
    """
    folders = [a for a in arguments if "=" not in a or is_path(a)]
    chosen: dict[str, object] = {}
    for argument in arguments:
        if argument in folders:
            continue
        key, value = word_of(argument)
        check_option(key, _KEYS)
        try:
            chosen[key] = _NUMBERS.get(key, str)(value)
        except ValueError:
            raise ValueError(f"{argument}: {key} must be a number.") from None
    if not folders:
        raise ValueError("Give at least one folder with runs: python -m compare.report runs/chain")
    if not 0.5 < chosen.get("level", 0.95) < 1:  # type: ignore[operator]
        raise ValueError(f"level={chosen['level']} must lie between 0.5 and 1, e.g. 0.95.")
    if chosen.get("window", 1) < 1:  # type: ignore[operator]
        raise ValueError(f"window={chosen['window']} must be at least 1 step.")
    if not chosen.get("threshold", 0.0) < float("inf"):  # type: ignore[operator]
        raise ValueError(f"threshold={chosen['threshold']} must be a finite number.")
    if "allow" in chosen:
        chosen["allow"] = tuple(key.strip() for key in str(chosen["allow"]).split(",") if key.strip())
    if "bounds" in chosen:
        chosen["bounds"] = parse_bounds(str(chosen["bounds"]))
    if "tuning_seeds" in chosen:
        chosen["tuning_seeds"] = _seeds(str(chosen["tuning_seeds"]))
    out = chosen.pop("out", None)
    return folders, Options(**chosen), Path(str(out)) if out else None  # type: ignore[arg-type]


def _seeds(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise ValueError(f"tuning_seeds={text} must be seeds, as tuning_seeds=0,1.")
    return tuple(int(seed) for seed in text.split(","))


def _default_out(folder: Path) -> Path:
    """Raises ValueError if the folder's `report` is a link, which would lead the files elsewhere."""
    if (folder / "report").is_symlink():
        raise ValueError(f"{folder / 'report'} is a link to another place; name the folder of the report: out=...")
    return folder / "report"


def main(arguments: Sequence[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        folders, options, out = parse(arguments)
        study = read_study(folders)
        out = out or _default_out(Path(folders[0]))
        analysis = write_report(study, options, out)
    except (ValueError, OSError) as error:
        print(f"compare.report: {visible(str(error))}", file=sys.stderr)
        return 2
    from compare.report.words import conclusions

    for line in conclusions(study, analysis):
        print(f"- {visible(line)}")
    print(f"\n{visible(str(out / 'report.html'))}")
    return 0


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    raise SystemExit(main(sys.argv[1:]))
