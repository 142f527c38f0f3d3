"""Run under torchrun by test_resume_ranks.py: from every checkpoint, on this many ranks."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from credit import Strategy, weight
from rewards.guard import guarded
from support.remembering import RunningMean
from support.resumed import goes_on_from_everywhere, grpo, live, sft
from trainers.run.tell.online_audit import OnlineAudit


def uneven(completions, **columns):
    """Fails on some rows, so that ranks count different failures."""
    return [float("nan") if "h" in text else len(text) / 10 for text in completions]


class OddHalf(OnlineAudit):
    """The other half of the same gradient, which must say the same of the whole."""

    def in_first_half(self, visit):
        return ~super().in_first_half(visit)

    def _log(self, metrics, *measured):
        super()._log(defaultdict(list), *measured)


def audited(folder: Path, half: dict) -> None:
    """Two ranks: the update is as without it, goes on from a checkpoint, and both halves agree."""
    audits: list[OnlineAudit] = []

    def callbacks():
        audits.extend([OddHalf(2, 4), OnlineAudit(2, 4)])  # the second is the one that is carried
        return audits[-2:]

    whole = goes_on_from_everywhere(grpo(**half, callbacks=callbacks), folder / "audited", 8, [3])
    plain = live(grpo(**half)(folder / "not_audited"))
    assert all(torch.equal(plain.weights[name], whole.weights[name]) for name in plain.weights)
    odd, even = (torch.tensor(audit.state_dict()["recent"]) for audit in audits[:2])
    assert even.shape == (4, 2) and bool((even[:, 1] > 0).all())
    torch.testing.assert_close(odd, even, rtol=1e-4, atol=1e-9)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    half = dict(per_device_train_batch_size=4, ddp_find_unused_parameters=False)
    cases = {
        "plain": (grpo(**half), None),
        "several steps on a batch": (grpo(**half, steps_per_generation=2, max_steps=10), None),
        "two passes": (grpo(**half, num_iterations=2, gradient_accumulation_steps=2), None),
        "remembers": (grpo(Strategy(weight.constant, RunningMean(), name="mine"), **half, logging_steps=3), [3, 5]),
        "critic": (grpo("value", **half), [3, 5]),
        "texts": (sft(weight="seq_mean", per_device_train_batch_size=1, ddp_find_unused_parameters=False), [2, 4, 5]),
    }
    for name, (make, cuts) in cases.items():
        whole = goes_on_from_everywhere(make, folder / name.replace(" ", "_"), 10 if "several" in name else 8, cuts)
        assert len(whole.logs) >= 2

    audited(folder, half)
    guards = []

    def failing(at):
        guards.append(guarded(uneven, max_failed_share=1.0))
        return grpo(**half, funcs=guards[-1])(at)

    goes_on_from_everywhere(failing, folder / "guards", 8, [3])
    assert guards[0].state_dict() == guards[1].state_dict() and guards[0].counts.rows == 8 * 4
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
