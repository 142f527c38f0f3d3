"""Cards of strategies: fresh, complete, honest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from configs.compose import compose_strategy, config_choices
from credit import Strategy, weight
from lab import card
from lab.bench.jobs import Spec, specs_of
from lab.measure.declarations import check_declaration, enumerated
from lab.measure.estimate import measure
from lab.measure.invariances import HOLDS, invariances


@pytest.mark.parametrize("name", config_choices("credit"))
def test_every_card_agrees_with_its_strategy(name):
    stale = card.stale_parts(card.FOLDER / f"{name}.md", Spec(name, (f"credit={name}",)))
    assert not stale, f"run `python -m lab.card --all`: {', '.join(stale)}"


def test_there_is_a_card_for_each_strategy_and_no_other():
    pages = {path.stem for path in card.FOLDER.glob("*.md")} - {"README"}
    assert pages == set(config_choices("credit"))
    index = (card.FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name}.md)" in index for name in pages)


def biases_of(table: str) -> list[float]:
    """The column `bias` of a card's tables, in percent."""
    columns = re.findall(r"^\| [\w:]+ \| [^|]+ \| ([^|]+) \|", table, re.M)
    return [
        float(re.match(r"[\d.]+", cell.replace("-", "0")).group())
        for cell in columns
        if cell.strip()[0] in "0123456789-"
    ]


@pytest.mark.parametrize("name", config_choices("credit"))
def test_the_bias_that_is_published_is_the_largest_of_the_card(name):
    """In the card's own sentence, in the index and in README's table."""
    page = (card.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    largest = max(biases_of(page.split("## Measured")[1].split("## Invariances")[0]))
    index = (card.FOLDER / "README.md").read_text(encoding="utf-8")
    readme = (card.FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    published = re.search(rf"\| \[{name}\].*\| ([^|]+) \|$", index, re.M).group(1)
    row = re.search(rf"^\| `(?:\w+`, `)*{name}`.*\| ([^|]+) \|$", readme, re.M)
    if "**Unbiased**" in page:
        assert published == "0" and re.search(r"\b0\b", row.group(1))
        return
    if "**Biased**: backwards" in page:
        assert published.startswith("backwards") and "backwards" in row.group(1)
        return
    said = float(re.search(r"\*\*Biased\*\*: by up to ([\d.]+) %", page).group(1))
    assert said >= largest and published.startswith(f"{said:g} %")
    assert f"{said:g} %" in row.group(1)


@pytest.fixture
def page(tmp_path) -> Path:
    path = tmp_path / "opo_loo.md"
    path.write_text((card.FOLDER / "opo_loo.md").read_text(encoding="utf-8"), encoding="utf-8")
    return path


def stale(page: Path, overrides: tuple[str, ...] = ("credit=opo_loo",)) -> list[str]:
    return card.stale_parts(page, Spec("opo_loo", overrides))


def test_a_change_of_behaviour_makes_a_card_stale(page, monkeypatch):
    from credit import baseline

    def different(rewards_B, group_B, lengths_B):
        return 1.001 * baseline.length_weighted_loo(rewards_B, group_B, lengths_B)

    different.__doc__ = baseline.length_weighted_loo.__doc__
    different.__name__, different.__module__ = "length_weighted_loo", "credit.baseline"
    different.declaration = baseline.length_weighted_loo.declaration
    strategy = compose_strategy(["credit=opo_loo"])
    strategy.baseline = different
    monkeypatch.setattr(Spec, "strategy", lambda self: strategy)
    assert stale(page) and all("in the world" in part for part in stale(page))


def test_a_change_of_docstring_or_declaration_makes_a_card_stale(page, monkeypatch):
    from credit import baseline

    assert stale(page) == []
    monkeypatch.setattr(baseline.length_weighted_loo, "__doc__", "Something else.")
    assert stale(page) == ["formula or declaration"]


def test_a_changed_number_or_a_missing_page_is_stale(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace('"scale": ', '"scale": 1'), encoding="utf-8")
    assert any("scale" in part for part in stale(page))
    assert stale(tmp_path / "nothing.md") == ["nothing.md does not exist"]


def test_a_card_is_written_for_a_users_strategy_and_says_that_its_declaration_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(card, "WORLDS", ["tiny", "coin"])
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "mine.yaml").write_text(
        "# mine, in ten lines\n_target_: credit.strategy.Strategy\nname: mine\n"
        "baseline:\n  _target_: support.cheating.peeking\nweight:\n  _target_: credit.weight.seq_sum\n",
        encoding="utf-8",
    )
    out = tmp_path / "docs"
    assert card.main(["credit=mine", "--config-dir", str(tmp_path), f"out={out}"]) == 1
    text = (out / "mine.md").read_text(encoding="utf-8")
    assert "**WRONG DECLARATION: declared unbiased, measured biased**" in text
    assert "Mine, in ten lines." in text and "`support.cheating.peeking`" in text and "wishful thinking" in text
    assert "WRONG DECLARATION: mine" in capsys.readouterr().out


def test_a_strategy_with_a_critic_shows_one_table_for_each_critic(tmp_path, monkeypatch):
    (tmp_path / "credit").mkdir()
    (tmp_path / "my_spreads.py").write_text(
        "def value(rewards_B, values_BT):\n    return rewards_B[:, None] - values_BT\n", encoding="utf-8"
    )
    (tmp_path / "credit" / "mine.yaml").write_text(
        "# mine\n_target_: credit.strategy.Strategy\nspread:\n  _target_: my_spreads.value\n"
        "weight:\n  _target_: credit.weight.seq_sum\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(card, "WORLDS", ["tiny"])
    variants = specs_of(["credit=mine"], [tmp_path])
    assert [spec.label for spec in variants] == ["mine [perfect]", "mine [random]"]
    assert card.main(["credit=mine", "--config-dir", str(tmp_path), f"out={tmp_path}", "jobs=1"]) == 0
    text = (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert "Critic: perfect." in text and "Critic: random." in text and "| a critic: a value head" not in text
    assert "- a critic: a value head" in text and "declares" not in text.split("## Measured")[1].split("##")[0]


@pytest.mark.parametrize("arguments", [[], ["credit=rloo", "--all"], ["credit=rlo"], ["colour=red"]])
def test_bad_input_is_told(arguments, capsys):
    assert card.main(arguments) == 2
    assert "lab.card:" in capsys.readouterr().err


@pytest.mark.parametrize("name", config_choices("credit"))
def test_shipped_strategies_ignore_order_padding_labels_and_masked_places(name):
    found = invariances(compose_strategy([f"credit={name}"]))
    for change in ("row order", "group labels", "padding", "content of masked positions", "masked tokens get nothing"):
        assert found[change] == HOLDS, change


def test_invariances_that_break_are_seen():
    from credit import baseline, spread, weight
    from credit.strategy import Strategy

    def by_place(rewards_B, token_ids_BT, mask_BT, group_B):
        import torch

        return rewards_B[:, None] + token_ids_BT + group_B[:, None] + torch.arange(len(rewards_B))[:, None]

    found = invariances(Strategy(weight.seq_sum, baseline.none, by_place))
    for change in ("row order", "group labels", "token ids", "reward shift", "reward scale"):
        assert found[change] == "breaks", change

    def looks_at_padding(advantages_B, token_ids_BT):
        seen_B = token_ids_BT.double().mean(dim=1)
        return (advantages_B + seen_B)[:, None].expand(token_ids_BT.shape)

    found = invariances(Strategy(weight.seq_sum, baseline.group_mean, looks_at_padding))
    assert found["padding"] == found["content of masked positions"] == "breaks"

    def looks_at_other_rows(rewards_B, values_BT):
        return (rewards_B[:, None] - values_BT.mean()).expand(values_BT.shape)

    found = invariances(Strategy(weight.seq_sum, baseline.none, looks_at_other_rows))
    assert found["cut into micro-batches"] == "breaks"
    found = invariances(Strategy(weight.token_mean, baseline.batch_zscore, spread.broadcast))
    assert found["unrelated prompts in the batch"] == "breaks" and found["reward scale"] == "credit stays"


def test_a_card_says_that_nothing_was_learned():
    asleep = Strategy(weight.seq_sum, lambda rewards_B: rewards_B * 0, name="asleep")
    finding = check_declaration(asleep, worlds=("tiny", "coin"))
    largest = card.largest_bias([], [], finding)
    assert card._verdict(finding, largest) == "**Nothing learned**: the mean update is zero in tiny."
    assert card._bias_found(finding, largest) == "nothing learned"
    record = measure(enumerated("tiny"), asleep, 3).record()
    assert card._cell(record, "relative_bias", None) == "nothing learned" and card._cell(record, "noise", 1.0) == "-"
