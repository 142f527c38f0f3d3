"""Every recipe composes, fits its card by the formula, and answers `--dry-run` on a folder of its model's layout."""

from __future__ import annotations

import json

import pytest

from apportion.verbs import VERBS
from support.runs import ROOT
from trainers.command import cli
from trainers.plan.forecast import KNOWN
from trainers.plan.recipes import GB, recipe_names, recipe_of, table
from trainers.run.grpo import register_schema

register_schema()
MODELS = ("full_500m_24gb", "full_500m_80gb", "lora_1500m_24gb", "lora_1500m_80gb", "lora_7b_80gb", "full_7b_8x80gb")


def test_each_is_there_with_vllm_and_without():
    assert set(recipe_names()) == {name + end for name in MODELS for end in ("", "_vllm")}


@pytest.mark.parametrize("name", [name + end for name in MODELS for end in ("", "_vllm")])
def test_it_fits_its_card_by_the_formula(name):
    recipe = recipe_of(name)
    assert recipe.whole.fits(recipe.card) and recipe.tiles.fits(recipe.card)
    assert recipe.tiles.peak < recipe.whole.peak < recipe.card
    assert bool(recipe.whole.vllm) == name.endswith("_vllm")
    assert recipe.whole.vllm * recipe.card >= recipe.whole.vllm_needs


def test_a_recipe_with_vllm_differs_in_vllm_alone():
    for name in MODELS:
        plain, vllm = (recipe_of(name + end).command.config for end in ("", "_vllm"))
        differing = {key for key in plain.trainer if plain.trainer[key] != vllm.trainer[key]}
        assert differing and all("vllm" in key for key in differing)
        assert all(plain[key] == vllm[key] for key in plain if key != "trainer")


def test_the_page_has_the_table_that_the_formula_makes():
    assert table() in (ROOT / "docs" / "running" / "recipes.md").read_text()


@pytest.mark.parametrize("name", ["full_500m_24gb", "lora_7b_80gb_vllm", "full_7b_8x80gb"])
def test_a_folder_of_its_layout_is_enough_for_a_dry_run(name, tmp_path, monkeypatch, capsys):
    """config.json alone: no weights, no tokenizer, no network, eight processes planned on one."""
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = KNOWN[recipe_of(name).command.config.model.name]
    (tmp_path / "model").mkdir()
    settings = dict(
        architectures=["Qwen2ForCausalLM"],
        model_type="qwen2",
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=32768,
        torch_dtype="bfloat16",
    )
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    rows = "".join(json.dumps({"prompt": f"{i} + 1 =", "answer": str(i + 1)}) + "\n" for i in range(300))
    (tmp_path / "sums.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    words = [f"experiment={name}", "model.name=model", "task=jsonl", "task.path=sums.jsonl"]
    monkeypatch.setattr("sys.argv", ["train_grpo.py", "--dry-run", *words])
    cli.run_verb(*VERBS["train_grpo"].arguments)
    said = capsys.readouterr()
    recipe = recipe_of(name)
    assert f"{recipe.completions} completions a step" in said.out and "400 steps" in said.out
    assert f"{sum(recipe.tiles.stays.values()) / GB:.0f}"[0] in said.out and "memory   about" in said.out
    assert ("pip install" in said.err) == name.endswith("_vllm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "sums.jsonl"]
