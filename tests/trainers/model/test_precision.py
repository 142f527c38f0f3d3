"""Which dtype weights are trained in, and what is said where it is too coarse."""

from __future__ import annotations

import json

import pytest
import torch

from configs.compose import compose_config
from support.tiny import tiny_model, tiny_tokenizer
from trainers.command.build import to_train
from trainers.model.precision import SWALLOWED, coarse_weights


def dtype(*words: str):
    return to_train(compose_config("train_grpo", ["model=hf", *words])).model.dtype


def test_all_weights_are_trained_in_float32_and_a_base_stays_as_it_was_saved(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/model"}))
    assert dtype("model.name=x") == "float32"
    assert dtype("model.name=x", "model/peft=lora") is None
    assert dtype(f"model.name={folder}") is None
    assert dtype(f"model.name={folder}", "model.merge_adapter=true") == "float32"
    assert dtype("model.name=x", "model.dtype=bfloat16") == "bfloat16"
    assert dtype("model.name=x", "model.dtype=auto") == "auto"


def test_a_folder_saved_in_bfloat16_is_trained_in_float32_and_sampled_as_it_is(tmp_path):
    from tasks.base import Task
    from trainers.command.build import build_policy, load_policy

    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    config = compose_config("train_grpo", ["model=hf", f"model.name={tmp_path}"])
    task = Task("t", [{"prompt": "ab"}], [], [], [])
    policy = load_policy(config, task)
    assert policy is not None and policy.model.dtype == torch.float32
    assert build_policy(config, task).model.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", SWALLOWED)
def test_an_update_below_the_bound_is_lost_and_one_above_it_is_not(dtype):
    one, step = torch.ones((), dtype=dtype), SWALLOWED[dtype]
    assert one + torch.tensor(0.99 * step, dtype=dtype) == one
    assert one + torch.tensor(1.5 * step, dtype=dtype) > one


def test_the_warning_names_the_bound_and_the_remedy():
    said = coarse_weights({torch.bfloat16, torch.float32}, 1e-6)
    assert said is not None and "1/256" in said and "0.0003" in said and "model.dtype=float32" in said
    assert coarse_weights({torch.float32}, 1e-6) is None and coarse_weights(set(), 1e-6) is None
