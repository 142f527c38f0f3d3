from __future__ import annotations

import json
import re
import unicodedata
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from compare.view import __main__ as cli
from compare.view.data import credit_of, find_records, read_record, view_of_step
from compare.view.page import json_block, page
from configs.compose import compose_config
from credit import Strategy, spread, weight
from credit.declare import declares
from support.records import HOSTILE, rows, write
from userio.visible import visible


@declares()
def surprise(advantages_B, policy_logps_BT):
    return advantages_B[:, None] * policy_logps_BT


def length_aware(advantages_B, mask_BT, lengths_B):
    return advantages_B[:, None] * lengths_B[:, None].expand(mask_BT.shape)


def some_rows():
    return rows([["a", "b", "c"], ["d"], ["e", "f"], ["g", "h"]], [7, 7, 9, 9], [1.0, 0.0, 0.5, None])


@given(st.text())
def test_json_block_holds_nothing_that_html_can_read_and_comes_back_whole(text):
    block = json_block({text: [text]})
    assert not re.search("[<>&\u2028\u2029]", block)
    assert json.loads(block) == {text: [text]}


@given(st.text(st.characters()))
def test_visible_text_has_no_control_or_format_characters_but_newlines(text):
    assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in visible(text))
    assert "\x1b" not in visible(text) and "\u202e" not in visible(text)


def test_visible_keeps_ordinary_text_of_every_script():
    assert visible("Grüße, 你好, 🙂\n  <b>") == "Grüße, 你好, 🙂\n  <b>"
    assert visible("\x1b[0m\u202e\t") == "\\x1b[0m\\u202e\\t"


class Scripts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "script":
            self.found.append(dict(attrs))


def test_page_has_one_script_one_data_block_and_a_policy_that_names_their_hash(tmp_path):
    folder = write(tmp_path, rows([HOSTILE], [0], [1.0], prompt=["</title><script>alert(1)</script>"]))
    html = page(cli.build_view(cli.Request(folder, credit=["uniform"])))
    parser = Scripts()
    parser.feed(html)
    assert parser.found == [{"type": "application/json", "id": "data"}, {}]
    assert {"img", "svg", "iframe", "form", "link"}.isdisjoint(parser.tags)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    import base64
    import hashlib

    script = html.rsplit("<script>", 1)[1].rsplit("</script>", 1)[0]
    assert "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_data_on_the_page_is_what_was_recorded(tmp_path):
    folder = write(
        tmp_path, rows([["x", "</script>"], ["y"]], [3, 3], [0.25, None], **{"reward/f": [0.25, float("nan")]})
    )
    html = page(cli.build_view(cli.Request(folder, credit=[])))
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    group = data["steps"][0]["groups"][0]
    assert group["rows"][0]["tokens"] == ["x", "</script>"]
    assert (group["rows"][0]["A"], group["rows"][0]["w"]) == ([[0.5, 0.5]], [[0.25, 0.25]])
    assert [row["reward"] for row in group["rows"]] == [0.25, None]
    assert [row["rewards"] for row in group["rows"]] == [[0.25], [None]]


def test_recomputed_credit_is_the_strategys_on_the_recorded_rows(tmp_path):
    path = find_records(write(tmp_path, some_rows()))[1]
    advantages, weights = credit_of(Strategy(weight=weight.seq_mean), read_record(path))
    assert weights == [pytest.approx([1 / 12] * 3), [1 / 4], [1 / 8] * 2, [1 / 8] * 2]
    assert [row[0] for row in advantages] == pytest.approx([0.5, -0.5, 0, 0])


def test_spread_that_needs_the_live_forward_is_recomputed_from_recorded_log_probs(tmp_path):
    columns = some_rows()
    columns["policy_logps"] = [[-0.5] * len(t) for t in columns["tokens"]]
    path = find_records(write(tmp_path, columns))[1]
    advantages, _ = credit_of(Strategy(weight=weight.seq_sum, spread=surprise), read_record(path))
    assert advantages[0] == pytest.approx([-0.25] * 3)


def test_strategy_that_needs_what_was_not_recorded_loses_its_column_and_says_why(tmp_path):
    data = read_record(find_records(write(tmp_path, some_rows()))[1])
    makers = {
        "live": lambda: Strategy(weight=weight.seq_sum, spread=surprise),
        "ok": lambda: Strategy(weight=weight.constant),
    }
    step = view_of_step(1, data, makers)
    assert step["strategies"] == ["recorded: mine", "ok"]
    assert "policy_logps_BT" in step["failed"]["live"]


def test_masked_tokens_do_not_count_towards_lengths(tmp_path):
    columns = rows([["a", "tool", "b"]], [0], [1.0], learns=[[True, False, True]])
    data = read_record(find_records(write(tmp_path, columns))[1])
    advantages, weights = credit_of(
        Strategy(weight=weight.seq_mean, spread=length_aware, baseline=lambda rewards_B: rewards_B), data
    )
    assert weights == [[0.5, 0.0, 0.5]] and advantages == [[2.0, 0.0, 2.0]]


def test_values_are_only_lent_to_strategies_with_the_critic_that_made_them(tmp_path):
    values = {"values": [[0.2, 0.3], [0.4, 0.1]], "policy_logps": [[-1.0, -1.0]] * 2}
    folder = write(tmp_path, rows([["a", "b"], ["c", "d"]], [0, 0], [1.0, 0.0], **values))
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(compose_config("strategy", ["credit=value"])))
    names = ["value", "value credit.spread.lambda_=0.9", "decomposition"]
    (step,) = cli.build_view(cli.Request(folder, credit=names))["steps"]
    assert step["strategies"] == ["recorded: mine", *names[:2]]
    assert "critic is another" in step["failed"]["decomposition"]
    first = step["groups"][0]["rows"][0]
    assert first["A"][1] == pytest.approx([0.8, 0.7])  # R - V(s_t)


def test_groups_without_credit_come_last(tmp_path):
    columns = rows([["a"], ["b"], ["c"], ["d"]], [0, 0, 1, 1], [1.0, 1.0, 1.0, 0.0])
    columns["credit"] = [[0.0], [0.0], [0.5], [-0.5]]
    folder = write(tmp_path, columns)
    (step,) = cli.build_view(cli.Request(folder, credit=[]))["steps"]
    assert [group["group"] for group in step["groups"]] == [1, 0]


def test_whole_batch_recorded_gives_the_recorded_credit_again(tmp_path):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 12)
    columns = rows([["t"] * n for n in lengths], [i // 4 for i in range(12)], list(generator.normal(size=12)))
    strategy = Strategy(weight=weight.token_mean, spread=spread.broadcast)
    data = read_record(find_records(write(tmp_path, columns))[1])
    advantages, weights = credit_of(strategy, data)
    total = sum(lengths)
    assert all(w == pytest.approx([1 / total] * n) for w, n in zip(weights, lengths, strict=True))
    rewards = torch.tensor(columns["reward"], dtype=torch.float64).view(3, 4)
    assert [a[0] for a in advantages] == pytest.approx((rewards - rewards.mean(1, keepdim=True)).flatten().tolist())


def test_some_steps_are_the_first_the_last_and_an_even_spread():
    assert cli.choose_steps(list(range(1, 101)), "some")[::11] == [1, 100]
    assert cli.choose_steps([1, 11], "some") == [1, 11]
    assert cli.choose_steps([5], "some") == [5]
    assert cli.choose_steps([1, 11, 21], "21,1") == [1, 21]
    with pytest.raises(ValueError, match="Recorded: 1, 11"):
        cli.choose_steps([1, 11], "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one run folder"),
        (["a", "b"], "one run folder"),
        (["a", "rows=0"], "whole number"),
        (["a", "colour=red"], "credit, steps"),
        (["a", "--config-dir"], "needs a folder"),
    ],
)
def test_command_lines_that_are_not_understood_name_the_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        cli.parse(arguments)


def test_command_ends_with_a_message_when_there_is_nothing_to_show(tmp_path, capsys):
    assert cli.main([str(tmp_path)]) == 2
    assert "record.every" in capsys.readouterr().err


def test_unknown_strategy_is_named_before_anything_is_written(tmp_path, capsys):
    folder = write(tmp_path, some_rows())
    assert cli.main([str(folder), "credit=unifrom"]) == 2
    assert "uniform" in capsys.readouterr().err
    assert not (folder / "credit.html").exists()


def test_command_writes_the_page_and_leaves_out_the_runs_own_strategy(tmp_path, capsys):
    columns = some_rows() | {"strategy": ["uniform"] * 4}
    folder = write(tmp_path, columns)
    assert cli.main([str(folder)]) == 0
    data = json.loads(re.search(r'id="data">(.*?)</script>', (folder / "credit.html").read_text(), re.S)[1])
    assert data["steps"][0]["strategies"] == ["recorded: uniform", "seq_norm", "dr_grpo"]


def test_terminal_shows_tokens_without_obeying_them(tmp_path, capsys):
    folder = write(tmp_path, rows([HOSTILE], [0], [1.0], prompt=["[red]p[/red]\x1b[2J"]))
    assert cli.main([str(folder), "--terminal", "credit=uniform"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out and "\x07" not in out
    assert "[bold]markup[/bold]" in out.replace("\n", "") and "[red]p[/red]" in out
