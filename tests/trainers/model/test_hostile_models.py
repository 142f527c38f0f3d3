"""A model folder that names code, or hides some in its weights, is refused; nothing of it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from support.tiny import tiny_model, tiny_tokenizer
from tasks.base import Task
from trainers.model.pretrained import hf


class Evil:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def saved(folder: Path) -> Path:
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def change(file: Path, **facts) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def adapter(folder: Path, base: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return folder


def hostile(kind: str, folder: Path, marker: Path) -> tuple[Path, str]:
    """(folder, what is said about it)"""
    base = saved(folder / "model")
    code = folder / "model" / "evil.py"
    code.write_text(f"open({str(marker)!r}, 'w')\n")
    if kind == "pickled weights":
        (base / "model.safetensors").unlink()
        torch.save({"x": Evil(marker)}, base / "pytorch_model.bin")
        return base, "more than tensors"
    if kind == "model code":
        maps = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
        change(base / "config.json", auto_map=maps, model_type="evil")
        return base, "brings its own code"
    if kind == "tokenizer code":
        change(base / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="Evil")
        return base, "brings its own code"
    if kind == "kernel":
        change(base / "config.json", attn_implementation="evil/kernel")
        return base, "asks for the attention kernel evil/kernel"
    if kind == "chat template":
        (base / "chat_template.jinja").write_text(f"{{{{ cycler.__init__.__globals__.os.mkdir({str(marker)!r}) }}}}")
        return base, "cannot encode the prompt"
    lora = adapter(folder / "lora", base)
    if kind == "adapter's weights":
        (lora / "adapter_model.safetensors").unlink()
        torch.save({"x": Evil(marker)}, lora / "adapter_model.bin")
        return lora, "more than tensors"
    change(lora / "adapter_config.json", megatron_config={}, megatron_core="megatron.evil")
    change(lora / "adapter_config.json", megatron_config={"a": 1})
    return lora, "names the module 'megatron.evil'"


KINDS = (
    "pickled weights",
    "model code",
    "tokenizer code",
    "kernel",
    "chat template",
    "adapter's weights",
    "adapter's module",
)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_model_folder_brings_along_is_run(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    marker = tmp_path / "pwned"
    folder, said = hostile(kind, tmp_path, marker)
    prompt = [{"role": "user", "content": "a"}] if kind == "chat template" else "ab"
    task = Task("mine", [{"prompt": prompt}], [], [lambda completions, **_: [0.0] * len(completions)], [1.0])
    with pytest.raises(ValueError, match=said):
        hf(task, name=str(folder))
    assert not marker.exists()


def test_pickled_weights_that_are_only_weights_are_loaded(tmp_path):
    folder = saved(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")
    task = Task("mine", [{"prompt": "ab"}], [], [lambda completions, **_: [0.0] * len(completions)], [1.0])
    model = hf(task, name=str(folder)).model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny_model().parameters(), strict=True))
