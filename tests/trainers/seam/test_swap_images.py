"""A policy that reads images, as in TRL's own test-suite, with our trainer in place of TRL's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from support.exact.swapped import assert_same, both, outcome
from trainers.grpo import CreditGRPOTrainer
from trainers.model.embedded import byte_tokenizer

TEMPLATE = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)
LAYERS = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A Llava of four image tokens, on disk with its processor."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    reader = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    LlavaProcessor(
        image_processor=reader(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    text = LlamaConfig(
        **LAYERS,
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=0,
        bos_token_id=None,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**LAYERS, image_size=16, patch_size=8, projection_dim=16),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).float().save_pretrained(folder)
    return str(folder)


def pictures(each: int = 1) -> Dataset:
    random = np.random.default_rng(0)
    images = [[Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype="uint8"))] * each for _ in range(6)]
    columns = {"image": [row[0] for row in images]} if each == 1 else {"images": images}
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": "what?"}] for _ in images], **columns})


CASES = {
    "beta": dict(train_dataset=pictures(), args=dict(beta=0.1)),
    "several steps": dict(train_dataset=pictures(), args=dict(steps_per_generation=2)),
    "two images": dict(train_dataset=pictures(2)),
    "adapter": dict(train_dataset=pictures(), peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"])),
}


@pytest.mark.parametrize("name", CASES)
def test_a_swap_changes_nothing_with_images(name, policy, tmp_path):
    stock, ours = both(tmp_path, policy, **CASES[name])
    assert_same(stock, ours)
    if name == "two images" and stock["error"]:
        pytest.skip("this trl miscounts Llava's images")
    assert stock["error"] is None and stock["moved"]


@pytest.mark.parametrize(
    "credit", ["dr_grpo", "spans", "value", "decomposition", "value credit/spread=value_whitened", "value_prompt"]
)
def test_credit_with_images(credit, policy, tmp_path):
    ours = outcome(CreditGRPOTrainer, tmp_path, policy, credit=credit, **CASES["several steps"])
    assert ours["error"] is None and ours["moved"]


def test_a_critic_that_would_not_see_the_images_is_refused(policy, tmp_path):
    ours = outcome(CreditGRPOTrainer, tmp_path, policy, credit="value credit/critic=separate", **CASES["beta"])
    assert ours["error"][0] is ValueError and "images" in ours["error"][1]
