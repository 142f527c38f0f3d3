"""Under run= an audit has what the run had: its start as the reference, its critic, and what its members remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from configs.compose import compose_strategy
from support.four_tokens import four_token_model
from trainers.audit.measure import audited_trainer
from trainers.command.audit.prepare import prepare_audit
from trainers.command.cli import compose_command
from trainers.run.grpo import register_schema
from trainers.seam.members import FILE, keepers_of

PROMPTS = torch.tensor([3, 5])


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "a": 2, "b": 3}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")


def saved(folder: Path, seed: int) -> Path:
    four_token_model(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def run_folder(folder: Path, *words: str) -> Path:
    """A run as train_grpo.py leaves it: another model than it began with, and a checkpoint of the same weights in which the prompt
    memory of its strategy knows two prompts."""
    register_schema()
    start = saved(folder / "start", seed=0)
    (folder / "rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    (folder / "reward.py").write_text(
        "def long(completions, **columns):\n    return [float(len(c)) for c in completions]\n"
    )
    said = [
        *("model=hf", f"model.name={start}", "task=jsonl", f"task.path={folder / 'rows.jsonl'}", "task.eval_share=0"),
        *("task.answer_column=null", f"reward.funcs=[{folder / 'reward.py'}:long]", "trainer.num_generations=2"),
        *("trainer.per_device_train_batch_size=4", "trainer.gradient_accumulation_steps=1"),
        *("trainer.max_completion_length=3", "credit=prompt_ema", *words),
    ]
    run = folder / "run"
    run.mkdir()
    (run / "config.yaml").write_text(OmegaConf.to_yaml(compose_command("train_grpo", said).config))
    return run


def remembered() -> dict:
    strategy = compose_strategy(["credit=prompt_ema"])
    strategy.baseline(torch.tensor([1.0, 0.25]), torch.tensor([0, 1]), PROMPTS)
    return {part: keeper.state_dict() for part, keeper in keepers_of(strategy).items()}


def same(model, other) -> bool:
    theirs = dict(other.named_parameters())
    return all(torch.equal(value, theirs[name]) for name, value in model.named_parameters())


def test_the_reference_is_the_start_and_members_know_what_they_knew(tmp_path):
    run = run_folder(tmp_path, "trainer.beta=0.1")
    for place in (run / "model", run / "checkpoints" / "checkpoint-4"):
        saved(place, seed=1)
    torch.save({"states": remembered(), "lost": {}}, run / "checkpoints" / "checkpoint-4" / FILE)
    saved(run / "checkpoints" / "checkpoint-9", seed=2)  # of other weights, so what it remembers is not asked for
    words = [f"run={run}", "credit=prompt_ema,spo,prime", f"out={tmp_path / 'audit'}"]
    job = prepare_audit(compose_command("audit", words))
    trainer, _, told = audited_trainer(job)
    assert same(trainer.ref_model, four_token_model(0)) and same(trainer.model, four_token_model(1))
    of = {candidate.name: candidate for candidate in trainer.candidates}
    known, expected = keepers_of(of["prompt_ema"].strategy)["baseline"].state_dict(), remembered()["baseline"]
    assert known["keys"].tolist() == [3, 5] and all(torch.equal(known[key], expected[key]) for key in expected)
    assert not keepers_of(of["spo"].strategy)["baseline"].state_dict()["keys"].tolist()
    said = "\n".join(told)
    assert "checkpoint-4" in said and "anew" in said.split("prompt_ema")[1] and "spo" in said
    assert job.facts["memory"].endswith("checkpoint-4") and job.facts["start"]["name"] == str(tmp_path / "start")


@pytest.mark.slow
def test_below_an_adapter_the_start_lies_bare(tmp_path):
    from peft import get_peft_model

    run = run_folder(tmp_path, "trainer.beta=0.1", "model/peft=lora", "model.peft.target_modules=[q_proj,v_proj]")
    job = prepare_audit(compose_command("audit", [f"run={adapter_of(run, get_peft_model)}", "credit=seq_norm"]))
    trainer, _, told = audited_trainer(job)
    trained = [parameter for name, parameter in trainer.model.named_parameters() if "lora_B" in name]
    assert trained and all(parameter.requires_grad and parameter.abs().sum() > 0 for parameter in trained)
    ids = torch.tensor([[2, 3, 2]])
    with torch.no_grad():
        live = trainer.model(input_ids=ids).logits
        with trainer.model.disable_adapter():
            below = trainer.model(input_ids=ids).logits
        torch.testing.assert_close(below, four_token_model(0)(input_ids=ids).logits)
    assert not torch.allclose(live, below, atol=1e-3) and any("start" in line for line in told)


def adapter_of(run: Path, get_peft_model) -> Path:
    """The run with a trained adapter as its model."""
    from peft import LoraConfig

    base = type(four_token_model()).from_pretrained(run.parent / "start")
    adapted = get_peft_model(base, LoraConfig(r=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    adapted.save_pretrained(run / "model")
    tokenizer().save_pretrained(run / "model")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("credit", ["prime", "spro", "prime credit/signals=reward_model"])
def test_a_start_that_a_signal_reads_is_the_runs_without_a_kl_term_too(tmp_path, credit):
    run = run_folder(tmp_path)
    saved(run / "model", seed=1)
    words = [f"run={run}", *f"credit={credit}".split(), "batches=4"]
    trainer, _, _ = audited_trainer(prepare_audit(compose_command("audit", words)))
    assert same(trainer.start, four_token_model(0)) and same(trainer.model, four_token_model(1))


@pytest.mark.slow
def test_an_average_without_a_memory_is_one_of_the_audited_policy(tmp_path):
    run = run_folder(tmp_path)
    saved(run / "model", seed=1)
    words = [f"run={run}", "credit=sdpo", "credit/teacher=ema", "batches=4"]
    trainer, _, _ = audited_trainer(prepare_audit(compose_command("audit", words)))
    provider = next(one for one, _ in trainer.candidates[1].strategy.makers() if hasattr(one, "decay"))
    assert same(provider.model_for(type("Rows", (), {"training": False})), four_token_model(1))


@pytest.mark.slow
def test_a_start_that_is_gone_is_said_with_the_remedy(tmp_path):
    run = run_folder(tmp_path, "trainer.beta=0.1")
    saved(run / "model", seed=1)
    (tmp_path / "start").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"trainer\.beta=0"):
        audited_trainer(prepare_audit(compose_command("audit", [f"run={run}"])))
