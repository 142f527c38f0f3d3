"""The page in a real browser, with completions that try to take it over."""

from __future__ import annotations

import re
import threading
from html import unescape
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from compare.view import __main__ as cli
from compare.view import page as view_page
from support.records import HOSTILE, browser, dump, rows, write


def _page(tmp_path, columns, script: str = "", monkeypatch=None):
    if script:
        monkeypatch.setattr(view_page, "_SCRIPT", view_page._SCRIPT + script)
    folder = write(tmp_path, columns)
    path = tmp_path / "credit.html"
    path.write_text(view_page.page(cli.build_view(cli.Request(folder, credit=["uniform"]))), encoding="utf-8")
    return path


def _text(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<script.*?</script>", "", html, flags=re.S)))


def test_hostile_completions_are_shown_and_do_nothing(tmp_path):
    browser()
    hits = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    call = f"http://127.0.0.1:{server.server_port}/stolen"
    more = [
        f'<img src="{call}">',
        f'<script src="{call}"></script>',
        f"<style>@import '{call}'</style>",
        f'<iframe src="{call}">',
    ]
    columns = rows([HOSTILE + more], [0], [1.0], prompt=[f'</script><img src="{call}" onerror=document.title="pwned">'])
    columns |= {f"reward/<img src={call}>": [1.0], "strategy": [f"<b onclick=x>{call}"]}
    html = dump(_page(tmp_path, columns), tmp_path / "profile")
    server.shutdown()
    assert hits == []
    assert 'id="pwned"' not in html and "<title>pwned" not in html
    body = html.split("<body", 1)[1].split('<script type="application/json"', 1)[0]
    assert not re.search(r"<(script|img|svg|iframe|style|b onclick)\b", body)
    assert "<script>document.title='pwned'</script>" in _text(body)
    assert "\\u202eevil" in _text(body)


def test_markup_put_past_the_escaping_is_still_stopped_by_the_policy(tmp_path, monkeypatch):
    """The last wall by itself: the page's own script is made to write raw HTML."""
    script = "document.getElementById('app').innerHTML += '<img src=x onerror=\"document.body.id=`pwned`\">';"
    html = dump(
        _page(tmp_path, rows([["a"]], [0], [1.0]), script, monkeypatch),
        tmp_path / "profile",
        "900,700",
        "--virtual-time-budget=2000",
    )
    assert "onerror" in html and 'id="pwned"' not in html


@pytest.mark.slow
def test_arrow_keys_walk_over_tokens_and_completions(tmp_path, monkeypatch):
    press = (
        "for (const key of ['ArrowRight','ArrowRight','ArrowDown']) "
        "document.body.dispatchEvent(new KeyboardEvent('keydown',{key,bubbles:true}));"
    )
    columns = rows([["one", "two"], ["three", "four"]], [0, 0], [1.0, 0.0])
    html = dump(_page(tmp_path, columns, press, monkeypatch), tmp_path / "profile")
    footer = _text(re.search(r"<footer.*?</footer>", html, re.S)[0])
    assert "four" in footer and "token 2 of 2" in footer
    assert "A\u00b7w \u22120.125 = \u22120.5 \u00d7 0.25" in footer
    assert html.count("t minus here") == 1


@pytest.mark.slow
def test_filters_hide_completions_outside_their_range(tmp_path, monkeypatch):
    script = (
        "{const i=document.querySelector('[data-filter=rewardmin]'); i.value='0.5'; "
        "i.dispatchEvent(new Event('input'));}"
    )
    columns = rows([["keepme"], ["dropme"], ["unscored"]], [0, 0, 1], [1.0, 0.0, None])
    html = dump(_page(tmp_path, columns, script, monkeypatch), tmp_path / "profile")
    body = html.split('<script type="application/json"')[0]
    assert "keepme" in body and "dropme" not in body and "unscored" not in body
    assert "1 of 3 completions" in _text(body)


@pytest.mark.slow
def test_phone_width_has_no_sideways_scroll(tmp_path, monkeypatch):
    script = "document.body.dataset.overflow = String(document.documentElement.scrollWidth - window.innerWidth);"
    columns = rows([["averyveryverylongtokenwithoutanyspaces" * 6, "x"] * 4], [0], [1.0], prompt=["p" * 400])
    html = dump(_page(tmp_path, columns, script, monkeypatch), tmp_path / "profile", "500,844")
    assert int(re.search(r'data-overflow="(-?\d+)"', html)[1]) <= 0
