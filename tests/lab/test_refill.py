"""What a refill does to the mean update: nothing to its direction where prompts come from a large data set, all to its size; and
that it is another one where the same prompt is asked again."""

from __future__ import annotations

import json

import pytest
import torch

from configs.compose import named_strategy
from lab.exact.quantities import exact
from lab.exact.worlds import world
from lab.measure.batches import itemise
from lab.refill import arms, main, pairs, refilled


@pytest.mark.parametrize("credit", ["dr_grpo", "rloo"])
def test_other_prompts_leave_the_direction_alone_and_the_same_prompt_does_not(credit):
    found = refilled(exact(world("levels")), named_strategy(credit), 4)
    for name in ("plain", "refill 3", "refill"):
        assert found[name]["bias"] < 1e-9
        assert found[name]["scale"] == pytest.approx(found[name]["cost"]), "a step is as much longer as it cost"
    assert found["same"]["bias"] > 0.4
    assert 1 == found["plain"]["cost"] < found["refill 3"]["cost"] < found["refill"]["cost"] < found["same"]["cost"]
    assert found["refill"]["noise_at_equal_completions"] < 1 < found["same"]["noise_at_equal_completions"]


def test_same_prompts_weigh_by_one_over_the_share_of_their_groups_with_spread():
    learner = exact(world("levels"))
    drawn = pairs(learner, itemise(learner, learner, False), 4)
    shares = {name: prob_U for name, (prob_U, _) in arms(drawn).items()}
    for prob_U in shares.values():
        assert prob_U.sum() == pytest.approx(1) and (prob_U >= 0).all()
    for name in ("refill", "same"):
        assert shares[name][~drawn.spread_U].sum() == 0
    by_prompt = torch.zeros(3, dtype=torch.float64).index_add_(0, drawn.prompt_U, shares["plain"] * drawn.spread_U) * 3
    ratio_U = (shares["same"] / shares["plain"])[drawn.spread_U]
    assert torch.allclose(ratio_U, 1 / by_prompt[drawn.prompt_U[drawn.spread_U]])
    assert by_prompt.min() < 0.5 < by_prompt.max(), "prompts alike would show nothing"


def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lab.refill.WORLDS", {"levels": 2})
    monkeypatch.setattr("lab.refill.STRATEGIES", ("dr_grpo",))
    main([f"out={tmp_path}"])
    (row,) = json.loads((tmp_path / "refill.json").read_text())["rows"]
    assert row["arms"]["refill"]["bias"] < 1e-9 and "| `levels` | `dr_grpo` | 0 | 0 | 0 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="out=FOLDER"):
        main(["oust=x"])
