"""What the trainer says of options that keep credit exact and yet are not what they seem."""

from __future__ import annotations

import pytest
from trl import GRPOConfig

from configs.compose import named_strategy
from trainers.seam.refusals import warn_of_what_is_lost


def said(caplog, **options) -> str:
    warn_of_what_is_lost(GRPOConfig("unused", report_to="none", bf16=False, **options), named_strategy("rloo", ()))
    return caplog.text


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"top_p": 0.9}, "top_p=0.9"),
        ({"top_k": 20}, "top_k=20"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1"),
        ({"generation_kwargs": {"min_new_tokens": 8}}, "min_new_tokens=8"),
        ({"generation_kwargs": {"top_k": 5}}, "top_k=5"),
    ],
)
def test_a_sampler_that_is_not_the_policy_is_told(options, name, caplog):
    assert f"{name}: completions are drawn from another distribution" in said(caplog, **options)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"generation_kwargs": {"top_p": 1.0, "cache_implementation": None}}]
)
def test_the_policy_itself_is_not_talked_about(options, caplog):
    assert "another distribution" not in said(caplog, **options)
