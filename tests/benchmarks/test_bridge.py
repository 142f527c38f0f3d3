"""The bridge's benchmarks: sampled updates have the expectation that the lab computes, and tables are made from columns."""

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest
import torch

from configs.compose import compose_strategy
from lab.bridge import Way, Worlds, expected_update
from sampling.tabular import TabularModel

BRIDGE = Path(__file__).resolve().parents[2] / "benchmarks" / "stages" / "bridge"


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"bridge_{name}", BRIDGE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("weight", ["seq_sum", "seq_mean"])
@pytest.mark.parametrize("place", ["true", "false"])
def test_the_mean_of_sampled_updates_is_the_expected_one(place, weight, monkeypatch):
    """All pairs of texts, each as one group of two: rloo's mean over them is exact."""
    world = script("world")
    monkeypatch.setattr(world, "LIMIT", 3)
    worlds = Worlds(TabularModel.random(2, 3, prompts=1, seed=3), 3)
    credit = compose_strategy(["credit=rloo", f"credit/weight={weight}", f"credit.kl_in_reward={place}"])
    theta = worlds.start_SKV + torch.randn(worlds.start_SKV.shape, generator=torch.Generator().manual_seed(0)).double()
    logq_SXT = worlds.logps(theta)
    q_X = logq_SXT[0].sum(-1).exp()
    mean_XT = torch.zeros_like(logq_SXT[0])
    for pair in itertools.product(range(len(q_X)), repeat=2):
        text_B, group_B = torch.tensor(pair), torch.zeros(2, dtype=torch.long)
        share = q_X[text_B].prod()
        mean_XT.index_add_(0, text_B, share * world.signal(worlds, 0, text_B, group_B, logq_SXT[0], credit))
    taken_SCV = worlds.counts(mean_XT[None], theta.shape[1])
    update_SCV = taken_SCV - taken_SCV.sum(-1, keepdim=True) * theta.softmax(-1)
    wanted_SCV = expected_update(worlds, theta, Way(credit, world.BETA))
    assert torch.allclose(update_SCV, wanted_SCV) and wanted_SCV.norm() > 0.01


def test_differences_pair_what_both_have():
    report = script("report")
    rows = [{"way": "dr_grpo", "seed": seed, "distance": 0.1 * seed} for seed in range(3)]
    rows += [{"way": "lhts", "seed": seed, "distance": 1.0} for seed in (2, 1)]
    assert report.shared(rows, "lhts") == ([1.0, 1.0], [0.1, 0.2])
