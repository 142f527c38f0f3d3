from __future__ import annotations

import json
import re
import unicodedata
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from compare.records import find_records, read_record
from compare.view import __main__ as cli
from compare.view import page as view_page
from compare.view.chat import shown_columns, shown_messages
from compare.view.data import credit_of, rollout_of
from compare.view.digits import short_numbers
from compare.view.page import json_block, page
from compare.view.run import run_curves
from compare.view.steps import view_of_step
from configs.compose import compose_config
from credit import Strategy, spread, weight
from credit.declare import declares
from support.records import HOSTILE, on_page, rows, write
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


def test_page_has_one_script_blocks_of_data_and_a_policy_that_names_their_hash(tmp_path):
    folder = write(tmp_path, rows([HOSTILE], [0], [1.0], prompt=["</title><script>alert(1)</script>"]))
    html = page(cli.build_view(cli.Request(folder, credit=["uniform"])))
    parser = Scripts()
    parser.feed(html)
    blocks = [{"type": "application/json", "id": "data"}, {"type": "application/json", "id": "step-0-0"}]
    assert parser.found == [*blocks, {}]
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
    group = on_page(html)[0]["steps"][0]["groups"][0]
    assert group["rows"][0]["tokens"] == ["x", "</script>"]
    assert (group["rows"][0]["A"], group["rows"][0]["w"]) == ([0.5], [0.25])
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
    assert cli.choose_steps(list(range(1, 101)), "some")[:: cli.DEFAULT_STEPS - 1] == [1, 100]
    assert cli.choose_steps([1, 11], "some") == [1, 11]
    assert cli.choose_steps([5], "some") == [5]
    assert cli.choose_steps([1, 11, 21], "21,1") == [1, 21]
    with pytest.raises(ValueError, match="Recorded: 1, 11"):
        cli.choose_steps([1, 11], "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one run folder"),
        (["a", "b", "c"], "one run folder, or two"),
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
    (run,) = on_page((folder / "credit.html").read_text())
    assert run["steps"][0]["strategies"] == ["recorded: uniform", "seq_norm", "dr_grpo"]


def test_terminal_shows_tokens_without_obeying_them(tmp_path, capsys):
    folder = write(tmp_path, rows([HOSTILE], [0], [1.0], prompt=["[red]p[/red]\x1b[2J"]))
    assert cli.main([str(folder), "--terminal", "credit=uniform"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out and "\x07" not in out
    assert "[bold]markup[/bold]" in out.replace("\n", "") and "[red]p[/red]" in out


# ---- what the data set says, and what a step comes to ---------------------------------------------------------------

CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many?\x1b"}]},
    {"role": "assistant", "reasoning_content": "hm", "content": None,
     "tool_calls": [{"function": {"name": "count", "arguments": {"of": "cats"}}}]},
]  # fmt: skip


def test_chat_and_columns_reach_the_page_with_the_answer_first(tmp_path):
    more = {"messages": [json.dumps(CHAT)], "columns": [json.dumps({"source": "s", "n": 3, "answer": "4\u202e2"})]}
    folder = write(tmp_path, rows([["a"]], [0], [1.0], **more))
    (step,) = cli.build_view(cli.Request(folder, credit=[]))["steps"]
    group = step["groups"][0]
    assert group["columns"] == [["answer", "4\\u202e2"], ["source", "s"], ["n", "3"]]
    assert group["messages"] == [
        {"role": "system", "text": "be brief"},
        {"role": "user", "text": "<image>\nhow many?\\x1b"},
        {
            "role": "assistant",
            "text": "",
            "thinking": "hm",
            "calls": [{"name": "count", "arguments": '{"of": "cats"}'}],
        },
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    JSON | st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("role", "content", "tool_calls", "name"), JSON)))
)
def test_whatever_stands_in_a_strangers_json_is_shown_or_left_out(value):
    text = json.dumps(value)
    for shown in (shown_messages(text), shown_columns(text), shown_messages(text[1:]), shown_columns("[" * 100_000)):
        json.dumps(shown, allow_nan=False).encode()
    for name, each in shown_columns(text):
        assert visible(name) == name and visible(each) == each


def test_numbers_of_a_step_are_those_of_its_rows(tmp_path):
    columns = rows([["a", "b"], ["c"], ["e"], ["g", "h", "i"]], [7, 7, 9, 9], [1.0, 0.0, 0.5, 0.5])
    columns |= {
        "learns": [[True, False], [True], [True], [True] * 3],
        "truncated": [True, False, False, False],
        "entropies": [[0.5, 9.0], [0.0], [1.0], [0.0, 0.0, 1.5]],
        "policy_logps": [[-1.0, -9.0], [-2.0], [-1.0], [-1.0] * 3],
        "sampler_logps": [[-1.5, 9.0], [-1.0], [-1.0], [-1.0] * 3],
    }
    (step,) = cli.build_view(cli.Request(write(tmp_path, columns), credit=[]))["steps"]
    assert step["summary"] == {
        "rows": 4, "groups": 2, "reward": 0.5, "reward_sd": 0.3536, "same": 0.5, "length": 1.5, "truncated": 0.25,
        "masked": pytest.approx(1 / 7, abs=1e-4), "entropy": 0.5, "gap": 0.25,
    }  # fmt: skip
    assert step["limits"]["entropy"] == [{"low": 0.0, "high": 1.5, "least": 0.0, "most": 1.5}]
    assert step["limits"]["gap"] == [{"low": -1.0, "high": 0.5, "least": -1.0, "most": 0.5}]
    assert step["groups"][0]["rows"][0]["gap"] == [0.5, -18.0] and "ref" not in step["limits"]


def test_one_far_number_does_not_take_the_scale_from_the_others():
    from compare.view.totals import limits_of

    row = {"learns": [1] * 1001, "A": [[0.1, -0.1] * 500 + [50.0]], "w": [[1.0] * 1001]}
    (limit,) = limits_of([{"rows": [row]}], 1, [])["A"]
    assert (limit["low"], limit["high"], limit["least"], limit["most"]) == (-0.1, 0.1, -0.1, 50.0)


@given(st.lists(st.none() | st.floats() | st.floats(-1e3, 1e3), max_size=20))
@example([1.7976931348623157e308, -1.7976931348623157e308, 5e-324])
def test_numbers_are_shortened_to_four_digits(values):
    for exact, shown in zip(values, short_numbers(values), strict=True):
        if exact is None or not np.isfinite(exact):
            assert shown is None
        elif abs(exact) >= 1e290:
            assert shown == pytest.approx(exact, rel=6e-4)
        elif abs(exact) > 1e-290:
            assert shown == pytest.approx(exact, rel=6e-4) and len(f"{abs(shown):e}".split("e")[0].rstrip("0")) <= 6


def test_numbers_at_the_end_of_what_there_is_reach_the_page(tmp_path):
    columns = rows([["a"], ["b"], ["c"]], [0, 0, 1], [float("inf"), None, -1.7976931348623157e308])
    columns |= {"credit": [[float("nan")], [float("inf")], [3.4e38]], "entropies": [[float("nan")]] * 3}
    page(cli.build_view(cli.Request(write(tmp_path, columns), credit=["dr_grpo"])))


def test_format_one_is_still_read(tmp_path):
    path = find_records(write(tmp_path, some_rows()))[1]
    table = pq.read_table(path).replace_schema_metadata({"apportion_record_format": "1"})
    pq.write_table(table, path)
    (step,) = cli.build_view(cli.Request(tmp_path))["steps"]
    assert step["groups"][0]["messages"] is None and step["groups"][0]["columns"] == []
    assert step["summary"]["truncated"] is None and len(step["strategies"]) == 4


def test_rows_that_trl_hid_cost_no_strategy_its_column(tmp_path):
    columns = some_rows()
    columns["policy_logps"] = [[-0.5] * 3, None, [-0.5] * 2, [-0.5] * 2]
    columns["learns"][1] = [False]
    rows_ = read_record(find_records(write(tmp_path, columns))[1])
    advantages, _ = credit_of(Strategy(weight=weight.seq_sum, spread=surprise), rows_)
    assert advantages[1] == [0.0] and advantages[0] == pytest.approx([-0.25] * 3)


def test_span_rewards_are_lent_to_strategies_that_read_them(tmp_path):
    earned = [[0.0, 1.0], [0.0, 0.0]]
    columns = rows([["a", "b"], ["c", "d"]], [0, 0], [1.0, 0.0], span_rewards=earned)
    rows_ = read_record(find_records(write(tmp_path, columns))[1])
    assert rollout_of(rows_).span_rewards_BT.tolist() == earned
    columns.pop("span_rewards")
    assert rollout_of(read_record(find_records(write(tmp_path, columns))[1])).span_rewards_BT is None


# ---- pages of many steps, and of two runs ----------------------------------------------------------------------------


def test_large_steps_are_packed_and_come_back_whole(tmp_path, monkeypatch):
    folder = write(tmp_path, rows([HOSTILE, ["x", "y"]], [0, 0], [1.0, 0.0]))
    plain = on_page(page(cli.build_view(cli.Request(folder, credit=[]))))
    monkeypatch.setattr(view_page, "PLAIN", 0)
    html = page(cli.build_view(cli.Request(folder, credit=[])))
    assert 'type="text/plain" id="step-0-0"' in html and on_page(html) == plain
    assert "pwned" not in html.split("<body", 1)[1]


def test_steps_are_made_one_at_a_time(tmp_path):
    """Hundreds of steps need not fit into memory: one that is never asked for is never read."""
    for step in (1, 2):
        write(tmp_path, some_rows(), step)
    steps_ = cli.build_view(cli.Request(tmp_path, steps="all"))["steps"]
    assert next(steps_)["step"] == 1
    find_records(tmp_path)[2].write_bytes(b"broken")
    assert list(steps_) == []


def test_two_runs_stand_on_one_page_and_their_common_prompts_are_known(tmp_path, capsys):
    for name, prompts in (("one", ["p", "q"]), ("two", ["q", "r"])):
        write(tmp_path / name, rows([["a"], ["b"]], [0, 1], [1.0, 0.0], prompt=prompts))
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "reward": NaN}\n{"ste')
        (tmp_path / name / "summary.json").write_text('{"credit": "mine", "commit": "\\u001b[2J"}')
    assert cli.main([str(tmp_path / "one"), str(tmp_path / "two"), "credit=uniform"]) == 0
    assert not (tmp_path / "two" / "credit.html").exists()
    one, two = on_page((tmp_path / "one" / "credit.html").read_text())
    assert (one["title"], two["title"]) == ("one", "two")
    assert len(set(one["steps"][0]["prompts"]) & set(two["steps"][0]["prompts"])) == 1
    assert one["curves"] == {"steps": [1, 2], "values": {"reward": [0.5, None]}}
    assert one["facts"] == [["credit", "mine"], ["commit", "\\x1b[2J"]]
    assert cli.main([str(tmp_path / "one"), str(tmp_path / "two"), "--terminal"]) == 0
    said = capsys.readouterr().out
    assert "one, step 1" in said and "two, step 1" in said and "totals" in said


def test_long_metrics_are_thinned_to_means(tmp_path):
    lines = "".join(json.dumps({"step": step, "reward": float(step % 2)}) + "\n" for step in range(1, 4001))
    (tmp_path / "metrics.jsonl").write_text(lines)
    curves = run_curves(tmp_path)
    assert len(curves["steps"]) == 400 and curves["steps"][-1] == 4000 and set(curves["values"]["reward"]) == {0.5}


def test_terminal_shows_chat_columns_and_advantages(tmp_path, capsys):
    more = {"messages": [json.dumps(CHAT)], "columns": [json.dumps({"answer": "42"})], "truncated": [True]}
    folder = write(tmp_path, rows([["a"]], [0], [1.0], **more))
    assert cli.main([str(folder), "--terminal", "credit=uniform"]) == 0
    out = capsys.readouterr().out
    assert "system: be brief" in out and "answer 42" in out and "advantage +0.5" in out and "cut" in out
    assert "\x1b]" not in out and 'count {"of": "cats"}' in out
