"""`model.load_in_4bit`: what it needs and what it refuses, and what the model is asked for (bitsandbytes itself is stood in for)."""

import importlib.metadata
import importlib.util

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from support.models_saved import save_model
from tasks.base import Task
from trainers.model.embedded import byte_tokenizer
from trainers.model.policy import count_parameters
from trainers.model.pretrained import hf

TASK = Task("mine", [{"prompt": "a"}], [], [lambda completions, **_: [0.0] * len(completions)], [1.0])

LORA = {"r": 2, "target_modules": ["q_proj"]}


class Asked(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("four") / "model", byte_tokenizer()))


@pytest.fixture(scope="module")
def adapter(folder):
    """A folder with an adapter on it."""
    model = LlamaForCausalLM(LlamaForCausalLM.config_class.from_pretrained(folder))
    model.name_or_path = folder
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapted.save_pretrained(f"{folder}-adapter")
    return f"{folder}-adapter"


@pytest.fixture
def weights(monkeypatch):
    """Stands in for the loading of weights: raises with what it was asked for."""

    def from_pretrained(*_, **options):
        raise Asked(options)

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", from_pretrained)


@pytest.fixture
def installed(monkeypatch):
    find, version = importlib.util.find_spec, importlib.metadata.version
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: name if name == "bitsandbytes" else find(name, *a))
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: "0.50.0" if name == "bitsandbytes" else version(name)
    )


@pytest.mark.parametrize(("dtype", "computes"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_base_is_asked_for_in_four_bits_and_computes_in_its_own_type(folder, weights, installed, dtype, computes):
    with pytest.raises(Asked) as asked:
        hf(TASK, name=folder, peft=LORA, load_in_4bit=True, dtype=dtype)
    config = asked.value.args[0]["quantization_config"]
    assert config.load_in_4bit and config.bnb_4bit_quant_type == "nf4" and config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == computes
    with pytest.raises(Asked) as asked:
        hf(TASK, name=folder, peft=LORA)
    assert "quantization_config" not in asked.value.args[0]


def test_without_an_adapter_there_is_nothing_to_train(folder, weights, installed):
    with pytest.raises(ValueError, match=r"add an adapter, model/peft=lora"):
        hf(TASK, name=folder, load_in_4bit=True)


def test_a_missing_package_is_one_line_with_the_command(folder, weights, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a))
    with pytest.raises(
        ValueError, match=r"^model.load_in_4bit=true needs the package bitsandbytes: pip install bitsandbytes$"
    ):
        hf(TASK, name=folder, peft=LORA, load_in_4bit=True)


def test_nothing_is_merged_into_four_bits(adapter, weights, installed):
    for settings in ({"peft": LORA}, {"merge_adapter": True}):
        with pytest.raises(ValueError, match=r"would be merged into weights of 4 bits"):
            hf(TASK, name=adapter, load_in_4bit=True, **settings)
    with pytest.raises(Asked):
        hf(TASK, name=adapter, load_in_4bit=True)  # is trained on


def test_two_parameters_of_four_bits_in_a_byte_are_counted_as_two():
    class Params4bit(torch.nn.Parameter):
        pass

    model = torch.nn.Module()
    model.packed = Params4bit(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    model.plain = torch.nn.Parameter(torch.zeros(3))
    assert count_parameters(model) == 19
