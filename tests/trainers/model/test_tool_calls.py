"""A model that cannot call tools is refused before it is built."""

from __future__ import annotations

import pytest

from tasks.base import Task
from trainers.model.embedded import embedded


@pytest.mark.parametrize("wants", [{"tools": [len]}, {"environment": object}])
def test_a_model_that_cannot_call_tools_is_refused_before_it_is_built(tmp_path, wants):
    row = {"prompt": [{"role": "user", "content": "go"}]}
    task = Task(name="game", train=[row], evaluation=[], reward_funcs=[_nothing], reward_weights=[1.0], **wants)
    with pytest.raises(ValueError, match=r"model=embedded cannot call tools.*model=hf"):
        embedded(task, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def _nothing(completions, **columns):
    return [0.0 for _ in completions]
