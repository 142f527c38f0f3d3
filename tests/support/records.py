"""Records to look at, and a headless browser to look with."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trainers.run.records import Recorder

HOSTILE = [
    "<script>document.title='pwned'</script>",
    "</script><script>document.body.id='pwned'</script>",
    "<img src=x onerror=\"document.body.id='pwned'\">",
    "<!--<script>",
    "\u2028alert(1)\u2029",
    "\u202eevil\u202c",
    "\x1b[31mred\x1b[0m\x07",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "&lt;b&gt;",
    "[bold]markup[/bold]",
    "{{7*7}}",
    "\u0000",
    "a\nb",
    "",
]


def rows(tokens: list[list[str]], groups: list[int], rewards: list[float | None], **more) -> dict:
    """Columns of a record with credit 0.5, -0.5, ... and weight 0.25."""
    return {
        "group": groups,
        "prompt": ["prompt"] * len(tokens),
        "reward": rewards,
        "advantage": [0.5] * len(tokens),
        "max_length": [32] * len(tokens),
        "batch_rows": [64] * len(tokens),
        "batch_tokens": [999] * len(tokens),
        "strategy": ["mine"] * len(tokens),
        "token_ids": [list(range(len(t))) for t in tokens],
        "tokens": tokens,
        "learns": [[True] * len(t) for t in tokens],
        "credit": [[0.5 * (-1) ** i] * len(t) for i, t in enumerate(tokens)],
        "weight": [[0.25] * len(t) for t in tokens],
        **more,
    }


def write(folder: Path, columns: dict, step: int = 1) -> Path:
    Recorder(folder / "records", every=1).record(step, columns)
    return folder


def on_page(html: str) -> list[dict[str, Any]]:
    """The runs of a page, each step with its groups, whether it stands there packed or plain."""
    runs = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])["runs"]
    for r, run in enumerate(runs):
        for i, step in enumerate(run["steps"]):
            kind, block = re.search(rf'type="([a-z/]+)" id="step-{r}-{i}">(.*?)</script>', html, re.S).groups()
            step["groups"] = json.loads(
                block if kind == "application/json" else gzip.decompress(base64.b64decode(block))
            )
    return runs


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium: apt-get install chromium")
    return found


def dump(page: Path, profile: Path, size: str = "1440,900", *more: str) -> str:
    """The document after its scripts ran."""
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        f"--user-data-dir={profile}", f"--window-size={size}", *more, "--dump-dom", page.resolve().as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
