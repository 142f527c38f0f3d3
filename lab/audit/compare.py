"""`python -m lab.audit.compare audits/... audits/... [out=...]`: several audits in one figure.

    python -m lab.audit.compare audits/chain/start audits/chain/step200 audits/chain/step400
    python -m lab.audit.compare audits=audits/chain/start,audits/chain/step200 out=growth

Checkpoints of one run (does the ranking change as the policy improves?), of several runs, or models. Audits that all say
which step of a run they are of stand run by run, by their steps; else in the order given, and the page says so. Writes
compare.html (self-contained), compare.md, compare.csv, compare.json and pictures into `out` (default: compare_audits).
Audits are read as data. `python -m lab.audit run=... checkpoints=all` makes the audits of a run and this page at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from compare.untrusted import write_file
from userio.visible import visible
from userio.words import check_option, is_path, word_of

OUT = "compare_audits"


def words_of(arguments: Sequence[str]) -> tuple[list[Path], Path]:
    """Folders and `out`.

    Raises:
        ValueError: an unknown option.
    """
    folders, out = [], Path(OUT)
    for argument in arguments:
        if "=" not in argument or is_path(argument):
            folders.append(Path(argument))
            continue
        word = word_of(argument)
        check_option(word.key, ("audits", "out"), "folders of audits")
        if word.key == "out":
            out = Path(word.text)
        else:
            folders += [Path(one.strip()) for one in word.text.strip("[]").split(",") if one.strip()]
    return folders, out


def compare_audits(folders: Sequence[Path], out: Path) -> list[str]:
    """Writes the page; returns what may be concluded.

    Raises:
        ValueError: a folder without an audit, fewer than two, nothing that they share, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(
            f"out={out} is a file; the page and its pictures need a folder. Name another: out={out}_compared."
        )
    from compare.report.plots import save  # matplotlib only when there is something to draw
    from compare.report.sheet import (
        html_bullets,
        html_pictures,
        html_sheet,
        html_table,
        markdown_cell,
        markdown_list,
        markdown_table,
        write_csv,
    )
    from lab.audit.over import as_record, audits_of, changes, side_by_side, whether_it_holds
    from lab.audit.over_picture import over_audits
    from lab.audit.reading import read_audit

    audits = audits_of([(folder, read_audit(folder)[0]) for folder in folders])
    found, tables, figures = changes(audits), side_by_side(audits), over_audits(audits)
    title = f"{len(audits.readings)} audits: {', '.join(audits.readings)}"
    title = title if len(title) <= 100 else f"{len(audits.readings)} audits side by side"
    pictures = {name: text for name, (_, text) in figures.items()}
    save({name: figure for name, (figure, _) in figures.items()}, out)
    body = [
        f"<section><h2>What can be concluded</h2>{html_bullets(found)}</section>",
        html_pictures(pictures, out),
        *(f"<section><h2>{name}</h2>{html_table(header, rows, 'arms')}</section>" for name, header, rows in tables),
    ]
    basis = f"{len(audits.names)} strategies that more than one of them has"
    write_file(
        out / "compare.html", html_sheet("Apportion audits", title, whether_it_holds(audits), basis, "\n".join(body))
    )
    parts = [f"# {markdown_cell(title)}", "## What can be concluded", markdown_list(found)]
    parts += [f"![{text}]({name}.png)" for name, text in pictures.items()]
    for name, header, rows in tables:
        parts += [f"## {name}", markdown_table(header, rows)]
    write_file(out / "compare.md", "\n\n".join(parts) + "\n")
    header = ["measure", *tables[0][1]]
    write_csv(out / "compare.csv", header, [[name, *row] for name, _, rows in tables for row in rows])
    write_file(out / "compare.json", json.dumps(as_record(audits, found), indent=1) + "\n")
    return found


def main(arguments: Sequence[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        folders, out = words_of(arguments)
        found = compare_audits(folders, out)
    except (ValueError, OSError) as error:
        print(f"lab.audit.compare: {visible(str(error))}", file=sys.stderr)
        return 2
    for line in found:
        print(f"- {visible(line)}")
    print(f"\n{visible(str(out / 'compare.html'))}")
    return 0


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    raise SystemExit(main(sys.argv[1:]))
