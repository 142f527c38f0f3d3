"""A transformer small enough to enumerate: four tokens, texts of up to three."""

from __future__ import annotations

import itertools

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sampling.tabular import TabularModel

LIMIT = 3


def four_token_model(seed=0):
    """Ids 0..3 only: 1 ends a text, the others are letters. Small enough to enumerate."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=4, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.25, eos_token_id=1, pad_token_id=0,
        bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).float().eval()


def table_of(model, prompt):
    prefixes = [list(p) for n in range(LIMIT) for p in itertools.product(range(4), repeat=n)]
    with torch.no_grad():
        logits = torch.stack([model.eval()(input_ids=torch.tensor([prompt + p])).logits[0, -1] for p in prefixes])
    return TabularModel(logits[None], eos_ids=(1,))
