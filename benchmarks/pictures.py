"""Makes docs/results/report.png and viewer.png anew from a finished sweep, in headless Chromium; or viewer.png from a run:

python sweep.py credit=uniform,seq_norm,dr_grpo,value seed=0,1,2,3,4 task=chain jobs=2
python benchmarks/pictures.py sweeps/<name> [run=<cell>] [step=21]

python train_grpo.py credit=value task=chain seed=0
python benchmarks/pictures.py viewer=runs/chain/value/seed0 [step=21]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "results"
sys.path.insert(0, str(ROOT))

from compare.report.__main__ import main as report
from compare.view import __main__ as view
from compare.view import page as view_page
from userio.words import word_of

# The reader of a picture cannot point: the third completion's eighth token is picked with the keys.
PRESS = (
    ";for (const key of [...Array(8).fill('ArrowRight'), 'ArrowDown', 'ArrowDown']) "
    "document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})); "
    "window.scrollTo(0, 0);"
)


def shoot(page: Path, out: Path, width: int, height: int, window: int) -> None:
    """The uppermost `height` pixels of a page in a window of `window`, with 256 colours."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        raise SystemExit("pictures.py needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}",
            f"--window-size={width},{window}", f"--screenshot={out}", page.resolve().as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    picture = Image.open(out).convert("RGB").crop((0, 0, width, height))
    picture.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    print(out)


def picture_of_report(sweep: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if report([str(sweep), f"out={folder}"]):
            raise SystemExit(1)
        shoot(Path(folder) / "report.html", IMAGES / "report.png", 1280, 1240, window=1500)


def picture_of_viewer(run: Path, step: str) -> None:
    view_page._SCRIPT += PRESS  # the policy names the script by hash, so it is changed before the page is made
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "credit.html"
        page.write_text(view_page.page(view.build_view(view.Request(run, steps=step))), encoding="utf-8")
        shoot(page, IMAGES / "viewer.png", 1280, 900, window=900)


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        raise SystemExit(__doc__)
    chosen = dict(word_of(argument) for argument in arguments if not Path(argument).is_dir())
    step = chosen.get("step") or "some"
    if viewer := chosen.get("viewer"):
        return picture_of_viewer(Path(viewer), step)
    sweep = Path(arguments[0])
    picture_of_report(sweep)
    first_seed = (path.parent for path in sweep.glob("cells/*seed*0/records"))
    picture_of_viewer(sweep / "cells" / chosen["run"] if "run" in chosen else max(first_seed), step)


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main(sys.argv[1:])
