"""A self-contained page and its twin in Markdown: tables, lists and pictures, whatever stands in them. Nothing that a name
or a file says can act on it: no script, no outside address, no markup of theirs."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path

import numpy as np

from compare.untrusted import write_file
from userio.visible import visible

Cells = Sequence[str]
TitledTable = tuple[str, Cells, Sequence[Cells]]  # title, header, rows
_CSS = (Path(__file__).with_name("page.css")).read_text(encoding="utf-8")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def inert(text: object) -> str:
    """The text as HTML that shows it and does nothing else."""
    return escape(visible(str(text)))


def html_sheet(kind: str, title: str, verdict: str, how: str, body: str) -> str:
    """The whole page. kind: what it is a page of; verdict: what it says first, and `how` it knows; body: HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{inert(title)}</title><style>{_CSS}</style></head><body><main>
<header><p class="kind">{inert(kind)}</p><h1>{inert(title)}</h1>
<p class="lead">{inert(verdict)} <span>({inert(how)})</span></p></header>
{body}
</main></body></html>
"""


def html_bullets(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_code(inert(line))}</li>" for line in lines) + "</ul>"


def html_table(header: Cells, rows: Sequence[Cells], kind: str = "") -> str:
    """kind: "cards" for one that becomes a card for each row where the screen is narrow."""
    head = "".join(f"<th scope=col>{inert(cell)}</th>" for cell in header)
    named = [
        [f'<td data-label="{inert(name)}">{inert(cell)}</td>' for name, cell in zip(header, row, strict=True)]
        for row in rows
    ]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in named)
    return f'<div class="scroll {kind}" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def html_pictures(pictures: Mapping[str, str], folder: Path) -> str:
    """pictures: name of the PNG in the folder -> what it shows, for those who do not see it. They stand in the page itself."""
    figures = "".join(
        f'<figure><img alt="{inert(alt)}" src="data:image/png;base64,'
        f'{base64.b64encode((folder / f"{name}.png").read_bytes()).decode()}"></figure>'
        for name, alt in pictures.items()
    )
    return f'<section class="pictures">{figures}</section>'


def _code(escaped: str) -> str:
    """`so` in (already escaped) text as <code>."""
    return re.sub(r"`([^`<>]+)`", r"<code>\1</code>", escaped)


def markdown_table(header: Cells, rows: Sequence[Cells]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(markdown_cell(cell) for cell in line) + " |" for line in lines)


def markdown_cell(text: str) -> str:
    """Markdown that shows `text` literally, inside or outside of a table; what stands between backticks is code."""
    parts = visible(text).replace("\n", " ").replace("|", "\\|").split("`")
    literal = [re.sub(r"([\\*_\[<])(?!\|)", r"\\\1", part) for part in parts[::2]]
    return "`".join(
        part for pair in zip(literal, [*parts[1::2], None], strict=False) for part in pair if part is not None
    )


def markdown_list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {markdown_cell(line)}" for line in lines)


def write_csv(path: Path, header: Cells, rows: Sequence[Cells]) -> None:
    text = StringIO(newline="")
    csv.writer(text).writerows([[_plain(cell) for cell in row] for row in (header, *rows)])
    write_file(path, text.getvalue())


def _plain(cell: str) -> str:
    """A cell that acts in no terminal, and that no spreadsheet takes for a formula: names of folders are not ours."""
    cell = visible(cell)
    is_number = re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell)
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number else cell


def full_number(value: float) -> str:
    """Every digit; nothing where there is no number."""
    return json.dumps(float(value)) if np.isfinite(value) else ""
