"""The memory formula against transformers' own modules: bytes of weights, gradients and moments, and the most that a forward
and a backward pass hold, as a dispatch mode counts it, on a CPU."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2Config, LlamaConfig, Qwen2Config, Qwen2ForCausalLM

from trainers.plan.forecast import KNOWN, config_of_known
from trainers.plan.memory import BASE, LOGITS, Load, memory_of, optimizer_bytes
from trainers.plan.shape import shape_of

LORA = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
SIZES = dict(hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)


def config(**changed) -> Qwen2Config:
    return Qwen2Config(**{**SIZES, "vocab_size": 40, "pad_token_id": 0, "use_cache": False, **changed})


def built(model_config, dtype, adapter=None) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(model_config, dtype=dtype)
    return get_peft_model(model, copy.deepcopy(adapter)) if adapter else model


# ---- what stays: exactly


@pytest.mark.parametrize("adapter", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "model_config",
    [
        config(tie_word_embeddings=True),
        config(tie_word_embeddings=False),
        LlamaConfig(vocab_size=40, **SIZES),
        GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=40, n_positions=32),
    ],
    ids=["tied", "untied", "llama", "gpt2"],
)
def test_weights_gradients_and_moments_are_those_of_the_module(model_config, dtype, adapter):
    shape, model = shape_of(model_config, dtype, adapter), built(model_config, dtype, adapter)
    weights = list(model.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    assert shape.parameters == sum(w.numel() for w in weights) > shape.trained * (adapter is not None)
    assert shape.weight_bytes == sum(w.numel() * w.element_size() for w in weights)
    assert shape.trained_bytes == sum(w.numel() * w.element_size() for w in trained)
    optimizer = torch.optim.AdamW(trained, foreach=False)
    for weight in trained:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.dim()]
    assert optimizer_bytes(shape, Load(1, 1, 1)) == sum(t.numel() * t.element_size() for t in moments)


@pytest.mark.parametrize("name, millions", [("0.5B", 494.03), ("1.5B", 1543.71), ("7B", 7615.62)])
def test_models_of_the_recipes_have_the_sizes_that_their_cards_say(name, millions):
    shape = shape_of(config_of_known(f"Qwen/Qwen2.5-{name}-Instruct"), torch.bfloat16)
    assert shape.parameters / 1e6 == pytest.approx(millions, abs=0.01)
    assert len(KNOWN) == 3


# ---- what comes and goes: bounded


class Held(TorchDispatchMode):
    """The most bytes of storage that operations inside have made and not given back. there: tensors from before."""

    def __init__(self, *there):
        super().__init__()
        self.now = self.most = 0
        self.seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        for tensor in there:
            self.seen[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self.seen:
                self.seen[storage] = True
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._freed, storage.nbytes())
        return out

    def _freed(self, size: int) -> None:
        self.now -= size


def held_by_a_pass(model, rows: int, length: int, is_mixed: bool, is_checkpointed: bool) -> int:
    """Of the decoder without its head, in a second micro-batch: gradients are there already."""
    decoder = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
    if is_checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    ids, mask = torch.zeros(rows, length, dtype=torch.long), torch.ones(rows, length, dtype=torch.long)
    mask[0, :3] = 0

    def micro_batch() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
            last = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last.float().pow(2).sum().backward()

    micro_batch()
    weights = list(model.parameters())
    with Held(*weights, *(weight.grad for weight in weights if weight.grad is not None)) as held:
        micro_batch()
    return held.most


@pytest.mark.parametrize("is_checkpointed", [True, False], ids=["checkpointed", "kept"])
@pytest.mark.parametrize(
    "dtype, adapter, is_mixed",
    [(torch.float32, None, True), (torch.bfloat16, LORA, True), (torch.float32, None, False)],
    ids=["mixed", "adapter", "single"],
)
@pytest.mark.parametrize(
    "changed, rows, length",
    [({}, 2, 256), ({"hidden_size": 128, "num_hidden_layers": 6}, 1, 300), ({"intermediate_size": 640}, 4, 128)],
    ids=["base", "wide_deep", "thick"],
)
def test_activations_are_bounded_closely(changed, rows, length, dtype, adapter, is_mixed, is_checkpointed):
    """Never more than the formula says, and not less than 55 % of it."""
    model_config = config(**changed)
    shape = shape_of(model_config, dtype, adapter)
    load = Load(rows, 0, length, is_mixed=is_mixed, is_checkpointed=is_checkpointed, makes_tiles=False)
    parts = memory_of(replace(shape, vocabulary=0), load).training
    said = parts["kept for backward"] + parts["one layer"] + parts.get("bfloat16 copies", 0)
    # Gradients of one layer's weights before they are added up, which at real sizes is next to nothing.
    said += 4 * shape.trained / shape.layers
    measured = held_by_a_pass(built(model_config, dtype, adapter), rows, length, is_mixed, is_checkpointed)
    assert 0.55 * said < measured < said, measured / said


def test_logits_of_a_micro_batch_are_bounded():
    """What TRL did before it made them in tiles: float32 of them, log-probabilities of the sampled tokens, their gradient."""
    rows, length, vocabulary = 2, 32, 5000
    logits = torch.randn(rows, length, vocabulary, dtype=torch.bfloat16, requires_grad=True)
    tokens = torch.zeros(rows, length, 1, dtype=torch.long)
    with Held() as held:
        whole = logits.float()
        lse = torch.stack([torch.logsumexp(row, dim=-1) for row in whole])
        (whole.gather(-1, tokens).squeeze(-1) - lse).sum().backward()
    assert 0.5 * LOGITS < held.most / (rows * length * vocabulary) < LOGITS


# ---- how the parts combine


def shape(name="0.5B", dtype=torch.float32, adapter=None):
    return shape_of(config_of_known(f"Qwen/Qwen2.5-{name}-Instruct"), dtype, adapter)


def test_dealing_out_divides_what_is_dealt_out():
    one, load = shape(), Load(2, 256, 256, generated=16)
    alone = memory_of(one, load)
    fsdp = memory_of(one, replace(load, ranks=8, sharding="fsdp"))
    zero3 = memory_of(one, replace(load, ranks=8, sharding="zero3"))
    ddp = memory_of(one, replace(load, ranks=8))
    for part in ("weights", "optimizer"):
        assert fsdp.stays[part] == alone.stays[part] / 8
        assert ddp.stays[part] == alone.stays[part]
    assert fsdp.training["gradients"] == alone.training["gradients"] / 8
    assert ddp.training["gradients"] == 2 * alone.training["gradients"]  # its buckets
    # ZeRO-3: 2 bytes of a weight, 4 of its float32 master, 8 of moments
    assert zero3.stays["weights"] + zero3.stays["optimizer"] == pytest.approx(14 * one.parameters / 8)
    assert zero3.generating["gathered"] == 2 * one.parameters


def test_whole_logits_take_more_than_tiles_and_a_reference_more_than_none():
    load = Load(4, 256, 512, generated=64)
    whole, tiles = memory_of(shape(), load), memory_of(shape(), replace(load, makes_tiles=True))
    assert whole.training["logits"] == LOGITS * 4 * 513 * 151936 > 4 * tiles.training["logits"]
    with_reference = memory_of(shape(), replace(load, has_reference=True))
    assert with_reference.peak - whole.peak == shape().weight_bytes
    adapted = shape(dtype=torch.bfloat16, adapter=LORA)
    assert memory_of(adapted, replace(load, has_reference=True)).peak == memory_of(adapted, load).peak


def test_vllm_needs_its_share_of_a_card_beside_the_rest():
    load = Load(4, 256, 512, vllm=0.25)
    memory = memory_of(shape(), load)
    assert memory.smallest_card == pytest.approx(memory.peak / 0.75)
    assert memory.vllm_needs > 2 * shape().parameters + BASE
    sleeping = memory_of(shape(), replace(load, vllm_sleeps=True))
    assert sleeping.smallest_card < memory.smallest_card and sleeping.smallest_card >= sleeping.peak
    tight = memory_of(shape("7B", torch.bfloat16, LORA), replace(load, vllm=0.1))
    assert tight.smallest_card == pytest.approx(tight.vllm_needs / 0.1)  # its weights alone want a larger card


def test_a_card_has_a_twentieth_left_over():
    memory = memory_of(shape(), Load(1, 8, 8))
    assert memory.fits(memory.peak / 0.949) and not memory.fits(memory.peak / 0.951)


def test_four_bits_pack_the_layers_and_nothing_else():
    whole, packed = (
        shape_of(config_of_known("Qwen/Qwen2.5-7B-Instruct"), torch.bfloat16, LORA, in_4_bits=bits)
        for bits in (False, True)
    )
    assert (packed.parameters, packed.trained_bytes) == (whole.parameters, whole.trained_bytes)
    linear = 28 * (3584 * 3584 * 2 + 3584 * 512 * 2 + 3 * 3584 * 18944)
    assert whole.weight_bytes - packed.weight_bytes == pytest.approx(linear * (2 - 0.515625))
    assert packed.hidden_bytes == whole.hidden_bytes == 2


def test_a_real_model_is_what_was_planned():
    """The counted shape against a built model of the same configuration."""
    model = Qwen2ForCausalLM(config(tie_word_embeddings=True))
    one = shape_of(config(tie_word_embeddings=True), torch.float32)
    assert one.layers == 3 and one.layer == sum(p.numel() for p in model.model.layers[0].parameters())
    assert one.outside == sum(p.numel() for p in model.parameters()) - 3 * one.layer
    assert (one.heads, one.kv_heads, one.head_size, one.hidden_bytes) == (4, 2, 16, 4)
