"""The viewer as one HTML file. What a model wrote is hostile text: see `page`."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")


def page(view: dict[str, Any]) -> str:
    """A self-contained page. Three walls stand between the data and the browser: the data sits in a JSON block, which
    no character in it can end; the script writes it with textContent only; and the content-security policy allows
    nothing but this very script and style, by hash: no other script, no request, no frame, no form."""
    policy = (
        f"default-src 'none'; script-src '{_hash(_SCRIPT)}'; style-src '{_hash(_STYLE)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(str(view["title"]))}: credit</title>
<style>{_STYLE}</style></head>
<body><div id="app"><noscript>This page draws itself with its own script; scripts are switched off.</noscript></div>
<script type="application/json" id="data">{json_block(view)}</script>
<script>{_SCRIPT}</script>
</body></html>
"""


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
