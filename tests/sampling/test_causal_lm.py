"""The KV cache never changes what is computed: reordered, cut, merged and left-padded states equal a fresh encoding."""

import itertools
import types

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from sampling.causal_lm import CausalLM
from sampling.exact import enumerate_texts, total_variation
from sampling.mh import PowerSampling, SuffixMH
from sampling.particles import Particles
from sampling.rejection import Rejection
from sampling.smc import SMC, SNIS
from sampling.tabular import TabularModel

EOS = 1
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def llama(vocab=11, **more):
    config = LlamaConfig(vocab_size=vocab, max_position_embeddings=48, initializer_range=0.3, **SMALL, **more)
    return _ended(LlamaForCausalLM(config))


def gpt2(vocab=11):
    return _ended(GPT2LMHeadModel(GPT2Config(vocab_size=vocab, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)))


def mistral(vocab=11):
    config = MistralConfig(vocab_size=vocab, sliding_window=4, initializer_range=0.3, **SMALL)
    return _ended(MistralForCausalLM(config))


def gemma2(vocab=11):
    config = Gemma2Config(
        vocab_size=vocab, sliding_window=4, head_dim=8, query_pre_attn_scalar=8, initializer_range=0.3, **SMALL
    )
    return _ended(Gemma2ForCausalLM(config)).float()  # transformers itself gives NaN for left-padded rows in double


def _ended(model):
    model.generation_config.eos_token_id = EOS
    return model.double().eval()


@pytest.fixture(params=[llama, gpt2, mistral, gemma2], ids=lambda make: make.__name__)
def model(request):
    torch.manual_seed(0)
    return request.param()


def tolerance(model):
    return 1e-9 if model.dtype == torch.float64 else 2e-4


def fresh_logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1]


PROMPTS = [[3, 4, 5, 6, 7], [8, 9]]


def test_states_that_were_reordered_cut_and_merged_give_the_logits_of_a_fresh_encoding(model):
    lm = CausalLM(model)
    state, logits = lm.start(PROMPTS)
    assert torch.allclose(logits, torch.stack([fresh_logits(model, p) for p in PROMPTS]), atol=tolerance(model))
    rows = torch.tensor([1, 0, 0, 1])
    state = lm.reorder(state, rows)
    texts = [[2, 3, 4, 5, 6, 7], [3, 3, 9, 9, 2, 4], [10, 2, 2, 4, 5, 5], [7, 6, 5, 4, 3, 2]]
    for t in range(6):
        state, logits = lm.step(state, torch.tensor([text[t] for text in texts]))
    whole = [PROMPTS[p] + text for p, text in zip(rows.tolist(), texts, strict=True)]
    assert torch.allclose(logits, torch.stack([fresh_logits(model, ids) for ids in whole]), atol=tolerance(model))

    cut = lm.crop(state, 2)
    for token in (9, 10):
        cut, _ = lm.step(cut, torch.full((4,), token))
    mixed = lm.merge(state, cut, torch.tensor([True, False, True, False]))  # lengths 6 and 4
    again = lm.crop(mixed, 3)
    again, logits = lm.step(again, torch.tensor([2, 2, 2, 2]))
    kept = [text[:2] + [9] if taken else text[:3] for text, taken in zip(texts, (1, 0, 1, 0), strict=True)]
    whole = [PROMPTS[p] + text + [2] for p, text in zip(rows.tolist(), kept, strict=True)]
    assert torch.allclose(logits, torch.stack([fresh_logits(model, ids) for ids in whole]), atol=tolerance(model))


@pytest.mark.parametrize(
    "sampler",
    [SMC(8, 0.9), SNIS(4), SuffixMH(12), PowerSampling(4, 3), Rejection(max_rows=32)],
    ids=lambda s: type(s).__name__,
)
def test_log_probabilities_of_returned_texts_are_the_models_own(sampler, model):
    """Whatever happened to the cache on the way, each text's log p is that of one plain forward pass over it."""
    limit = 3 if isinstance(sampler, Rejection) else 9
    draws = sampler(CausalLM(model), PROMPTS, 0.8, 8, limit, torch.Generator().manual_seed(0))
    for prompt, texts, logps_S in zip(PROMPTS, draws.texts(), draws.logps_PS, strict=True):
        for text, logp in zip(texts, logps_S.tolist(), strict=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
            own = logits.log_softmax(-1).gather(1, torch.tensor(text)[:, None]).sum().item()
            assert logp == pytest.approx(own, abs=10 * tolerance(model))
            assert EOS not in text[:-1] and (text[-1] == EOS or len(text) == limit)


def as_table(model, prompts, vocab, limit):
    """The transformer as a tabular model: one forward pass per prefix."""
    tables = []
    for prompt in prompts:
        prefixes = [list(p) for n in range(limit) for p in itertools.product(range(vocab), repeat=n)]
        tables.append(torch.stack([fresh_logits(model, prompt + prefix) for prefix in prefixes]))
    return TabularModel(torch.stack(tables), eos_ids=(EOS,))


@pytest.mark.parametrize(
    "sampler",
    [
        SMC(64, 0.9, max_rows=64000),
        SuffixMH(48, max_rows=4096),
        PowerSampling(64, 2, max_rows=4096),
        Rejection(max_rows=4096),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_transformer_is_sampled_from_its_own_sequence_temperature(sampler):
    torch.manual_seed(4)
    model, prompts = llama(vocab=4), [[2, 3], [3, 2, 2, 3]]
    table = as_table(model, prompts, 4, 3)
    draws = sampler(CausalLM(model), prompts, 0.4, 1000, 3, torch.Generator().manual_seed(0))
    for place in range(2):
        enumeration = enumerate_texts(table, 3, 2.5, place)
        assert total_variation(enumeration.q_X, enumeration.target_X) > 0.1
        assert total_variation(enumeration.frequencies(draws.tokens_PST[place]) / 1000, enumeration.target_X) < 0.07


def test_what_is_kept_is_not_encoded_again():
    torch.manual_seed(0)
    model = llama()
    seen = []
    forward = model.forward
    model.forward = types.MethodType(lambda self, **k: seen.append(tuple(k["input_ids"].shape)) or forward(**k), model)
    lm = CausalLM(model)
    chains = Particles(lm, [[3, 4, 5, 6, 7]], torch.zeros(16, dtype=torch.long), 8, 1.0, keep_ended=True)
    chains.finish(torch.Generator().manual_seed(0))
    assert seen[0] == (1, 5)  # the prompt, once for 16 rows
    assert all(shape == (16, 1) for shape in seen[1:]) and len(seen) == chains.t
    seen.clear()
    proposal = chains.cut(5).finish(torch.Generator().manual_seed(1))
    assert seen == [(16, 1)] * (proposal.t - 5)


def test_resampling_encodes_nothing():
    torch.manual_seed(0)
    model = llama()
    seen = []
    forward = model.forward
    model.forward = types.MethodType(lambda self, **k: seen.append(k["input_ids"].shape[1]) or forward(**k), model)
    draws = SMC(16, 1.0)(CausalLM(model), [[3, 4, 5]], 0.5, 1, 8, torch.Generator().manual_seed(0))
    assert draws.extras["resamplings"].item() >= 2
    assert seen[0] == 3 and set(seen[1:]) == {1} and len(seen) <= 8


def test_several_end_tokens_end_texts():
    torch.manual_seed(0)
    model = llama()
    model.generation_config.eos_token_id = [1, 2]
    draws = SMC(4)(CausalLM(model), [[3]], 1.0, 50, 12, torch.Generator().manual_seed(0))
    last = {text[-1] for text in draws.texts()[0] if len(text) < 12}
    assert last == {1, 2}


def test_a_model_without_end_token_and_a_prompt_that_is_too_long_are_refused():
    torch.manual_seed(0)
    model = llama()
    with pytest.raises(ValueError, match="at most 3"):
        SMC()(CausalLM(model), [[3] * 45], 0.5, 1, 20)
    with pytest.raises(ValueError, match="no tokens"):
        SMC()(CausalLM(model), [[]], 0.5, 1, 20)
    model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="end-of-text"):
        CausalLM(model)
