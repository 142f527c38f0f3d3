"""The model card says what was trained, how, on what and with which result, in a form that the hub reads."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import ModelCard
from omegaconf import OmegaConf

from configs.compose import CONFIG_DIR, compose_strategy, config_choices
from credit.citations import PAPERS, bibtex, papers_in
from support.runs import train
from support.tiny import tiny_model, tiny_tokenizer
from tasks.base import Task
from trainers.command.build import Rewards
from trainers.command.cli import Command
from trainers.command.job import GRPOJob
from trainers.publish.card import AXES, card_of, papers_of, write_card
from trainers.publish.complete import complete
from trainers.run.folder import RunFolder

FACTS = {"command": "train_grpo.py credit=dr_grpo", "versions": {"trl": "1.16"}, "commit": "abc", "processes": 2}
SUMMARY = {
    "parameters": 1000,
    "trainable_parameters": 10,
    "steps": 7,
    "completions_per_step": 16,
    "tokens": 12345,
    "initial_reward": 0.25,
    "final_reward": 0.75,
    "eval_reward_before": 0.2,
    "eval_reward_after": 0.7,
    "evaluation": {
        "before": {"reward": {"value": 0.2, "low": 0.1, "high": 0.3, "prompts": 64}},
        "after": {"reward": {"value": 0.7, "low": 0.6, "high": 0.8, "prompts": 64}},
    },
}


def polite(completions, **columns):
    """1 where the text says please|thanks."""
    return [0.0 for _ in completions]


def job_of(tmp_path, credit="dr_grpo", **task) -> GRPOJob:
    config = OmegaConf.create({"model": {"_target_": "x"}, "task": task, "seed": 3})
    settings = {"reward_weights": None, "num_generations": 8, "learning_rate": 1e-5, "lr_scheduler_type": "constant"}
    args = SimpleNamespace(**settings, beta=0.1, bf16=True, fp16=False)
    rows = [{"prompt": f"{i}", "answer": "1"} for i in range(6)]
    return GRPOJob(
        command=Command(config, {"task": "hub", "model": "hf"}, ()),
        folder=RunFolder(tmp_path),
        credit=credit,
        strategy=compose_strategy([f"credit={credit}"]),
        task=Task("sums", rows[:4], rows[4:], [polite], [0.5]),
        args=args,
        rewards=Rewards([polite], [0.5]),
        data="4 prompts",
    )


def trainer_of(name: str) -> SimpleNamespace:
    model, accelerator = tiny_model(), SimpleNamespace(unwrap_model=lambda model: model)
    model.name_or_path = name
    return SimpleNamespace(model=model, accelerator=accelerator, processing_class=tiny_tokenizer())


def test_the_card_has_what_a_reader_and_the_hub_look_for(tmp_path):
    text = card_of(job_of(tmp_path, dataset="openai/gsm8k"), trainer_of("Qwen/Qwen2.5-0.5B"), FACTS, SUMMARY)
    data = ModelCard(text).data
    assert data.base_model == "Qwen/Qwen2.5-0.5B" and data.datasets == ["openai/gsm8k"]
    assert data.library_name == "transformers" and data.pipeline_tag == "text-generation"
    assert {"apportion", "trl", "grpo", "dr_grpo"} <= set(data.tags)
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_type) == ("reward", 0.7, "openai/gsm8k")
    for words in (
        "`Qwen/Qwen2.5-0.5B`",
        "1,000, 10 of them trained",
        "`openai/gsm8k`), 4 rows, 2 held out",
        "`polite` x 0.5 (1 where the text says please\\|thanks)",
        "| held-out reward | 0.2 [0.1, 0.3] | 0.7 [0.6, 0.8] |",
        "| training reward, first step and last ten | 0.25 | 0.75 |",
        "over 64 held-out prompts",
        "train_grpo.py credit=dr_grpo",
        "| KL coefficient | 0.1 |",
        "trl 1.16",
        "commit abc",
        "Understanding R1-Zero-Like Training",
    ):
        assert words in text, words
    for axis in AXES:
        assert re.search(rf"^\| {axis} \| `\w+`.* \| \S.* \| \S.* \|$", text, re.M), axis


@pytest.mark.parametrize("credit", config_choices("credit"))
def test_every_strategy_has_a_formula_and_papers_that_can_be_cited(tmp_path, credit):
    job = job_of(tmp_path, credit)
    text = card_of(job, trainer_of("a/b"), FACTS, SUMMARY)
    papers = papers_of(job.strategy, "train_grpo")
    assert "2402.03300" in papers and all(f"eprint = {{{paper}}}" in text for paper in papers)
    assert "not declared" not in text and yaml.safe_load(text.split("---")[1])["tags"][-1] == credit


def test_the_card_shows_a_term_beside_the_credit(tmp_path):
    words = ["credit=dr_grpo", "credit/auxiliary=nll", "credit.auxiliary.coefficient=0.3"]
    job = replace(job_of(tmp_path), strategy=compose_strategy(words))
    text = card_of(job, trainer_of("a/b"), FACTS, SUMMARY)
    assert "+ sum_{b,t}  m[b,t] * l[b,t]" in text
    row = r"^\| auxiliary \| `LikelihoodOfSuccesses` \(coefficient=0.3, success=0.5\) \| .+ \| VAPO.*2504.05118 \|$"
    assert re.search(row, text, re.M) and "eprint = {2504.05118}" in text
    assert "m[b,t]" not in card_of(job_of(tmp_path), trainer_of("a/b"), FACTS, SUMMARY)


def test_every_paper_that_a_declaration_names_has_a_title():
    for axis in AXES:
        named = papers_in((CONFIG_DIR.parent / "credit" / f"{axis}.py").read_text(encoding="utf-8"))
        assert set(named) <= set(PAPERS) and (named or axis == "spread")


def test_a_citation_is_bibtex_also_of_a_paper_that_we_do_not_know():
    assert papers_in("A, arXiv 2402.03300, section 4.1.1; B, arXiv:1707.06347; again 2402.03300") == [
        "2402.03300",
        "1707.06347",
    ]
    for paper in (*PAPERS, "2999.12345"):
        entry = bibtex(paper)
        assert re.match(r"@misc\{[a-z]+\d{4}_\d{5},\n", entry) and entry.count("{") == entry.count("}")
        assert f"https://arxiv.org/abs/{paper}" in entry and "year = {2" in entry.replace("{19", "{2")


def test_a_base_in_a_folder_is_no_hub_id_and_its_own_card_says_what_it_began_with(tmp_path):
    folder = tmp_path / "earlier" / "model"
    folder.mkdir(parents=True)
    job, trainer = job_of(tmp_path, path="data/rows.jsonl"), trainer_of(str(folder))
    text = card_of(job, trainer, FACTS, {**SUMMARY, "eval_reward_after": None, "evaluation": None})
    data = ModelCard(text).data
    assert data.base_model is None and data.datasets is None and data.eval_results is None
    assert str(tmp_path) not in text, "places of this machine are nobody's business"
    job.command.config.model.name = str(tmp_path / "tiny model")
    text = card_of(job, trainer, FACTS, SUMMARY)
    assert "# tiny model, dr_grpo on hub" in text and str(tmp_path) not in text, "its name, and no place"
    (folder / "README.md").write_text("---\nbase_model: Qwen/Qwen2.5-0.5B\n---\n# earlier\n")
    assert ModelCard(card_of(job, trainer, FACTS, SUMMARY)).data.base_model == "Qwen/Qwen2.5-0.5B"


def test_what_a_folder_lacks_is_added_and_what_it_has_stays(tmp_path):
    trainer = trainer_of("a/b")
    trainer.processing_class.chat_template = "{{ messages[0].content }}"
    complete(trainer, tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == "{{ messages[0].content }}"
    assert json.loads((tmp_path / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").write_text("{}")
    complete(trainer, tmp_path)
    assert (tmp_path / "generation_config.json").read_text() == "{}"


def test_the_curves_go_with_the_card(tmp_path):
    job = job_of(tmp_path)
    job.folder.model.mkdir()
    write_card(job, trainer_of("a/b"), FACTS, SUMMARY)
    assert "curves.png" not in (job.folder.model / "README.md").read_text()
    job.folder.curves.write_bytes(b"png")
    write_card(job, trainer_of("a/b"), FACTS, SUMMARY)
    assert "![curves](curves.png)" in (job.folder.model / "README.md").read_text()
    assert (job.folder.model / "curves.png").read_bytes() == b"png"


@pytest.mark.slow
def test_all_three_verbs_leave_a_card_that_reads(tmp_path):
    """And an adapter's folder has the generation config of its base."""
    small = ("trainer.max_steps=2", "trainer.per_device_train_batch_size=16", "model.pretrain.steps=10")
    train(*small, f"run_dir={tmp_path / 'grpo'}", cwd=tmp_path)
    train(*small, f"run_dir={tmp_path / 'sft'}", "probe=2", script="train_sft.py", cwd=tmp_path)
    on_it = ("model=hf", f"model.name={tmp_path / 'sft' / 'model'}", "model/peft=lora", "task=corpus", "probe=2")
    train(*small[:2], *on_it, f"run_dir={tmp_path / 'lhts'}", script="train_lhts.py", cwd=tmp_path)
    for name, verb in (("grpo", "train_grpo.py"), ("sft", "train_sft.py"), ("lhts", "train_lhts.py")):
        model, summary = tmp_path / name / "model", json.loads((tmp_path / name / "summary.json").read_text())
        assert "failed_after_training" not in summary
        text = (model / "README.md").read_text()
        data = ModelCard(text).data
        assert name in data.tags and verb in text and "pushed" not in summary
        assert (model / "curves.png").is_file() and (model / "generation_config.json").is_file()
        assert data.library_name == ("peft" if name == "lhts" else "transformers")
