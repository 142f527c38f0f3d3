"""The page in a real browser, with completions that try to take it over."""

from __future__ import annotations

import json
import re
import threading
from functools import partial
from html import unescape
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from compare.view import __main__ as cli
from compare.view import page as view_page
from support.records import HOSTILE, browser, dump, rows, write
from trainers.run.records import Recorder


def _page(tmp_path, columns, script: str = "", monkeypatch=None, steps: int = 1, credit=("uniform",)):
    if script:
        monkeypatch.setattr(view_page, "_SCRIPT", view_page._SCRIPT + script)
    for step in range(1, steps + 1):
        folder = write(tmp_path, columns, step)
    path = tmp_path / "credit.html"
    path.write_text(view_page.page(cli.build_view(cli.Request(folder, credit=list(credit)))), encoding="utf-8")
    return path


def _shown(html: str) -> str:
    """What the script drew, as HTML."""
    return html.split("<body", 1)[1].split('<script type="application/json"', 1)[0]


def _set(key: str, value: str) -> str:
    return f"{{const s=document.querySelector('[data-key={key}]'); s.value='{value}'; s.dispatchEvent(new Event('change'));}}"


def _press(*keys: str) -> str:
    event = "new KeyboardEvent('keydown',{key,bubbles:true})"
    return f"for (const key of {list(keys)}) (document.activeElement || document.body).dispatchEvent({event});"


def _text(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<script.*?</script>", "", html, flags=re.S)))


def test_hostile_text_is_shown_in_every_view_and_does_nothing(tmp_path, monkeypatch):
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
    evil = "".join(HOSTILE[:8] + more)
    columns = rows([HOSTILE + more], [0], [1.0], prompt=[f'</script><img src="{call}" onerror=document.title="pwned">'])
    columns |= {f"reward/<img src={call}>": [1.0], "strategy": [f"<b onclick=x>{call}"]}
    columns |= {"columns": [json.dumps({"answer": evil, evil: evil})]}
    columns |= {"messages": [json.dumps([{"role": evil, "content": evil, "tool_calls": [{"name": evil}]}])]}
    (tmp_path / "summary.json").write_text(json.dumps({"credit": evil, evil: evil}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, evil: 1.0, "reward": 0.5}))
    every_view = "document.querySelectorAll('nav button').forEach((tab) => { tab.click(); look(); });"
    choose = (
        "const s=document.querySelector('[data-key=quantity]'); s.value=o.value; s.dispatchEvent(new Event('change'));"
    )
    every_colour = "document.querySelectorAll('[data-key=quantity] option').forEach((o) => {" + choose + "look(); });"
    look = (
        "const seen = []; const look = () => { for (const e of document.getElementById('app').querySelectorAll('*')) "
        "{ seen.push(e.localName); for (const a of e.attributes) seen.push('@' + a.name); } };"
    )
    end = "document.body.dataset.seen = [...new Set(seen)].join(' ');"
    script = look + every_view + "document.querySelector('nav button').click();" + every_colour + end
    html = dump(_page(tmp_path, columns, script, monkeypatch), tmp_path / "profile")
    server.shutdown()
    assert hits == []
    assert 'id="pwned"' not in html and "<title>pwned" not in html
    seen = set(re.search('data-seen="([^"]*)"', html)[1].split())
    assert {"canvas", "table", "details", "dl"} <= seen  # every view was drawn
    assert not seen & {
        "script",
        "img",
        "svg",
        "iframe",
        "style",
        "object",
        "embed",
        "form",
        "link",
        "a",
        "@href",
        "@src",
    }
    assert not any(name.startswith("@on") for name in seen)
    assert "<script>document.title='pwned'</script>" in _text(_shown(html))
    assert "\\u202eevil" in _text(_shown(html))


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
def test_phone_width_has_no_sideways_scroll_in_any_view(tmp_path, monkeypatch):
    script = (
        "let over = []; document.querySelectorAll('nav button').forEach((tab) => { tab.click(); "
        "over.push(document.documentElement.scrollWidth - window.innerWidth); }); document.body.dataset.overflow = over;"
    )
    columns = rows([["averyveryverylongtokenwithoutanyspaces" * 6, "x"] * 4], [0], [1.0], prompt=["p" * 400])
    columns |= {"columns": [json.dumps({"answer" * 40: "a" * 400})], "strategy": ["s" * 200]}
    columns |= {"messages": [json.dumps([{"role": "r" * 300, "content": "c" * 300}])]}
    html = dump(_page(tmp_path, columns, script, monkeypatch), tmp_path / "profile", "500,844")
    overflow = re.search(r'data-overflow="([-0-9,]+)"', html)[1].split(",")
    assert len(overflow) == 4 and all(int(each) <= 0 for each in overflow)


@pytest.mark.slow
def test_legend_says_the_colours_and_what_is_of_the_completion_has_one_column(tmp_path, monkeypatch):
    columns = rows([["one", "two"]], [0], [1.0], entropies=[[0.5, 1.5]])
    html = _shown(dump(_page(tmp_path, columns), tmp_path / "profile"))
    assert "blue, solid line: the update makes the token more likely" in _text(html)
    assert html.count('class="tokens"') == 2
    html = _shown(dump(_page(tmp_path, columns, _set("quantity", "entropy"), monkeypatch), tmp_path / "profile"))
    assert "darker: the policy was less sure" in _text(html) and html.count('class="tokens"') == 1
    assert re.findall(r"background-color: rgb\(var\(--one\) / ([0-9.]+)\)", html)[-2:] == ["0.333", "1.000"]


@pytest.mark.slow
def test_search_marks_hits_hides_the_rest_and_enter_goes_to_the_next(tmp_path, monkeypatch):
    script = "const b=document.querySelector('[data-key=query]'); b.value='Ne tw'; b.focus();" + _press(
        "Enter", "Enter"
    )
    columns = rows([["o", "ne", " two"], ["other"], ["one two"], ["x"]], [0, 0, 1, 2], [1.0, 0.0, 1.0, 1.0])
    columns |= {"prompt": ["p", "p", "p", "find one two"]}
    html = _shown(dump(_page(tmp_path, columns, script, monkeypatch, credit=()), tmp_path / "profile"))
    assert "other" not in html and html.count("hit") >= 3 and "<mark>ne tw</mark>" in html
    assert "2 of 2" in _text(html) and "3 of 4 completions" in _text(html)
    assert re.search('class="t [^"]*hit here"[^>]*>one two', html)


@pytest.mark.slow
def test_chat_the_answer_and_turns_are_told_apart(tmp_path):
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "how many?"}]
    columns = rows([["call", "tool says", "so"]], [0], [1.0], learns=[[True, False, True]])
    columns |= {"messages": [json.dumps(chat)], "columns": [json.dumps({"id": 7, "answer": "42"})], "truncated": [True]}
    html = _shown(dump(_page(tmp_path, columns, credit=()), tmp_path / "profile"))
    text = _text(html)
    assert text.index("answer42") < text.index("id7")
    assert re.search('<details class="card system"><summary>system', html)
    assert re.search('<details class="card user" open="">', html)
    assert re.search('class="turn">model, turn 2', html) and 'class="t off">tool says' in html
    assert "grey: not learned from" in text and "advantage +0.5" in text and "cut at its longest" in text


@pytest.mark.slow
def test_packed_steps_open_and_long_pages_are_drawn_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(view_page, "PLAIN", 0)
    columns = rows([["word"] * 500] * 200, [0] * 200, [1.0] * 200)
    columns["group"] = [i // 8 for i in range(200)]
    monkeypatch.setattr("support.records.Recorder", partial(Recorder, max_rows_per_step=200))
    path = _page(tmp_path, columns, steps=2, credit=())
    html = _shown(dump(path, tmp_path / "profile", "900,700", "--virtual-time-budget=5000"))
    assert "200 of 200 completions" in _text(html) and 500 < html.count('class="t plus"') < 40_000


@pytest.mark.slow
def test_two_runs_stand_side_by_side_on_the_prompts_they_share(tmp_path):
    for name, prompts, reward in (("one", ["shared", "mine"], 1.0), ("two", ["other", "shared"], 0.0)):
        write(tmp_path / name, rows([[f"{name}0"], [f"{name}1"]], [0, 1], [reward, 0.5], prompt=prompts))
    request = cli.Request(tmp_path / "one", tmp_path / "two", credit=[])
    path = tmp_path / "two.html"
    path.write_text(view_page.page(cli.build_view(request)), encoding="utf-8")
    text = _text(_shown(dump(path, tmp_path / "profile")))
    assert "1 prompt in common" in text and "one, step 1" in text and "two, step 1" in text
    shared, rest = text.split("Prompts of one side only")
    assert "one0" in shared and "two1" in shared and "one1" in rest and "two0" in rest
    assert re.search("mean reward0.750.25\u22120.5", text)


@pytest.mark.slow
def test_keys_change_views_and_steps_and_the_table_opens_a_completion(tmp_path, monkeypatch):
    columns = rows([["one", "two"], ["three"]], [0, 1], [1.0, 0.0])
    script = _press("[", "2") + "[...document.querySelectorAll('tbody tr')][1].click();"
    html = _shown(dump(_page(tmp_path, columns, script, monkeypatch, steps=3), tmp_path / "profile"))
    assert 'aria-pressed="true">Completions' in html and re.search('class="t minus here"[^>]*>three', html)
