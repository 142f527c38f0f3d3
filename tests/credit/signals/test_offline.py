"""Values of prompts from before training: by formula, from a column or a file, and what is no value."""

from __future__ import annotations

import json
import math

import pytest
import torch

from credit.signals import OfflineValue, Rows

WEIGHED = 0.5 * math.log((math.exp(0 / 0.5) + math.exp(1 / 0.5) + math.exp(1 / 0.5)) / 3)


class Table(Rows):
    def __init__(self, prompts=("a", "b"), **columns):
        self.prompts, self.columns = list(prompts), columns
        self.rewards_B = torch.zeros(len(self.prompts), dtype=torch.float64)


def values(provider, rows) -> list[float]:
    return provider(rows)["offline_value_B"].tolist()


def test_a_list_of_rewards_is_weighed_by_their_exponentials_and_a_number_is_itself():
    rows = Table(offline_rewards=[[0, 1, 1], 0.3])
    assert values(OfflineValue(), rows) == pytest.approx([WEIGHED, 0.3], abs=1e-12)
    assert values(OfflineValue(temperature=0), rows) == pytest.approx([2 / 3, 0.3], abs=1e-12)
    assert values(OfflineValue(temperature=1e-3), rows)[0] == pytest.approx(1, abs=1e-2)  # and does not overflow


def test_a_file_lists_prompts_or_the_texts_of_a_column(tmp_path):
    path = tmp_path / "values.json"
    path.write_text(json.dumps({"a": [0, 1, 1], "b": 0.3}))
    of_prompts = OfflineValue(column="prompt", file=str(path))
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}]
    assert values(of_prompts, Table()) == values(of_prompts, Table([chat, "b"])) == pytest.approx([WEIGHED, 0.3])
    assert values(OfflineValue(column="id", file=str(path)), Table(id=["b", "a"])) == pytest.approx([0.3, WEIGHED])
    with pytest.raises(ValueError, match=r"has no value for 'c'; it lists 2 texts"):
        of_prompts(Table(["a", "c"]))
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="must be an object"):
        OfflineValue(file=str(path), column="prompt")(Table())


def test_what_is_no_value_is_refused_with_its_row():
    with pytest.raises(ValueError, match="no column 'offline_rewards'; there is answer"):
        OfflineValue()(Table(answer=["1", "2"]))
    for wrong in (None, [], [1, None], "many", float("nan")):
        with pytest.raises(ValueError, match="row 1 has"):
            OfflineValue()(Table(offline_rewards=[1, wrong]))
    with pytest.raises(ValueError, match="temperature=-1"):
        OfflineValue(temperature=-1)
