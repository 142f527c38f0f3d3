"""Completions that depend on seed, prompt and number alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from support.tiny import tiny_model
from trainers.evaluation.sampling import ByInversion, drawn_from, shapers_of, stream_of

SCORES = torch.randn(1, 7, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize(
    "shape", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7, "temperature": 2.0}, {"min_p": 0.2}]
)
def test_tokens_come_with_the_probabilities_of_the_model(shape):
    """A grid of numbers in place of random ones: shares are exact up to its step."""
    rows = 4000
    shapers = shapers_of(GenerationConfig(do_sample=True, **{"top_k": 0, "top_p": 1.0, "temperature": 1.0} | shape))
    grid_N1 = ((torch.arange(rows) + 0.5) / rows)[:, None]
    chosen = ByInversion(grid_N1, shapers)(torch.zeros(rows, 2, dtype=torch.long), SCORES.expand(rows, -1)).argmax(-1)
    expected = SCORES.clone()
    for shaper in shapers:
        expected = shaper(torch.zeros(1, 2, dtype=torch.long), expected)
    shares = torch.bincount(chosen, minlength=7) / rows
    assert torch.allclose(shares, expected.softmax(-1)[0], atol=1.5 / rows)
    assert len(shapers) == len(shape)


def test_no_number_takes_a_token_that_cannot_come():
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    for number in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        token = ByInversion(torch.tensor([[number]], dtype=torch.float64))(torch.zeros(1, 1), scores).argmax().item()
        assert token in (1, 3)


def test_a_stream_is_named_by_seed_prompt_and_number():
    first = stream_of(0, "a", 0).random(5)
    assert np.array_equal(first, stream_of(0, "a", 0).random(5))
    others = [
        stream_of(1, "a", 0),
        stream_of(0, "b", 0),
        stream_of(0, "a", 1),
        stream_of(0, [{"role": "user", "content": "a"}], 0),
    ]
    assert all(not np.array_equal(first, other.random(5)) for other in others)


def drawn(model, prompts, streams):
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    config = GenerationConfig(do_sample=True, max_new_tokens=12, pad_token_id=0, eos_token_id=1, temperature=1.3)
    with torch.no_grad(), drawn_from(model, streams):
        made = model.generate(input_ids=ids, attention_mask=(ids != 0).long(), generation_config=config)
    return [[token for token in row[width:].tolist() if token] for row in made]


def test_the_batch_has_no_say():
    model, prompts = tiny_model().eval(), [[3, 4, 5], [6], [7, 8], [3, 3]]
    whole = drawn(model, prompts, [stream_of(0, str(prompt), 0) for prompt in prompts])
    alone = [drawn(model, [prompt], [stream_of(0, str(prompt), 0)])[0] for prompt in prompts]
    assert whole == alone and len(set(map(tuple, whole))) == 4
    torch.manual_seed(1)
    assert drawn(model, prompts[::-1], [stream_of(0, str(prompt), 0) for prompt in prompts[::-1]]) == whole[::-1]


def test_without_streams_the_likeliest_token_is_taken_and_the_model_is_left_as_it_was():
    model = tiny_model().eval()
    assert drawn(model, [[3, 4]], None) == drawn(model, [[3, 4]], None)
    assert "generate" not in vars(model)
