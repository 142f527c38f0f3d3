"""The viewer as one HTML file. What a model wrote is hostile text: see `page`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

_STATIC = Path(__file__).with_name("static")
_STYLE = (_STATIC / "page.css").read_text(encoding="utf-8")
# In this order: each may use what stands above it at once, and what stands below it once the page is drawn.
_PARTS = [
    "base",
    "quantities",
    "tokens",
    "here",
    "search",
    "completions",
    "charts",
    "table",
    "compare",
    "run",
    "controls",
    "main",
]
_SCRIPT = "\n".join(
    [
        '"use strict";',
        "(() => {",
        *((_STATIC / f"{name}.js").read_text(encoding="utf-8") for name in _PARTS),
        "})();",
        "",
    ]
)
PLAIN = 2**16  # characters of a step up to which it stands in the page as it is; larger ones are packed


def page(view: dict[str, Any]) -> str:
    """A self-contained page. Three walls stand between the data and the browser: the data sits in blocks of JSON, which no
    character in it can end; the script writes it with textContent only; and the content-security policy allows nothing
    but this very script and style, by hash: no other script, no request, no frame, no form.

    Each step is a block of its own, packed with gzip where it is large, and is opened when it is looked at."""
    blocks: list[str] = []
    runs = [_run(run, number, blocks) for number, run in enumerate([view, view.get("other")]) if run]
    policy = (
        f"default-src 'none'; script-src '{_hash(_SCRIPT)}'; style-src '{_hash(_STYLE)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = " and ".join(escape(str(run["title"])) for run in runs)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{title}: credit</title>
<style>{_STYLE}</style></head>
<body><div id="app"><noscript>This page draws itself with its own script; scripts are switched off.</noscript></div>
<script type="application/json" id="data">{json_block({"runs": runs})}</script>
{"".join(blocks)}<script>{_SCRIPT}</script>
</body></html>
"""


def _run(run: dict[str, Any], number: int, blocks: list[str]) -> dict[str, Any]:
    steps = []
    for place, step in enumerate(run["steps"]):
        blocks.append(_block(f"step-{number}-{place}", [_packed(group) for group in step["groups"]]))
        steps.append({key: value for key, value in step.items() if key != "groups"})
    return {key: value for key, value in run.items() if key not in ("steps", "other")} | {"steps": steps}


def _packed(group: dict[str, Any]) -> dict[str, Any]:
    """A list of one number over and over, as credit often is, becomes that number."""
    rows = [row | {key: [_once(values) for values in row[key]] for key in ("A", "w")} for row in group["rows"]]
    return group | {"rows": rows}


def _once(values: list[float | None]) -> list[float | None] | float:
    first = values[0] if values else None
    return first if first is not None and values.count(first) == len(values) else values


def _block(name: str, value: Any) -> str:
    text = json_block(value)
    if len(text) <= PLAIN:
        return f'<script type="application/json" id="{name}">{text}</script>\n'
    packed = base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")
    return f'<script type="text/plain" id="{name}">{packed}</script>\n'


def json_block(value: Any) -> str:
    """JSON that is inert inside a <script> element: no <, >, &, and no line separators, in any string.

    Raises:
        ValueError: NaN or inf, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    """CSP source of an inline element: the SHA-256 of exactly what stands between its tags."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
