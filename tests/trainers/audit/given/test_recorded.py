"""Recorded completions in the place of sampled ones: the same gradients to the bit, and what gives other policies away."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from support.exact.audits import deal_out, sampling_audit
from support.exact.swapped import prompts
from trainers.audit.collected import Collected
from trainers.audit.given.drift import drift_of

NAMES = ("rloo", "seq_norm", "prompt_ema")
SETTINGS = {"share_batches": 1, "warmup": 1}


def written(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def sampled(tmp_path_factory) -> tuple[Path, list[dict], Collected]:
    """(folder, what was drawn, what was found): three batches of the same four prompts, one of them to learn from."""
    folder, drawn = tmp_path_factory.mktemp("sampled"), []
    engine = sampling_audit(NAMES, folder, batches=2, **SETTINGS)
    trainer = engine.trainer
    trainer.train_dataset = prompts(count=4)
    trainer.scoring_observers.append(
        lambda _, scoring: drawn.extend(
            {"prompt": row["prompt"], "token_ids": ids}
            for row, ids in zip(scoring.rows, scoring.completion_ids, strict=True)
        )
    )
    return folder, drawn, engine.collect()


def test_recorded_completions_have_the_gradients_of_the_same_ones_sampled(sampled, tmp_path):
    """To the bit, also after a stop; each prompt stands in all three batches."""
    _folder, drawn, collected = sampled
    assert Counter(row["prompt"] for row in drawn).most_common(1)[0][1] == 9
    file = written(tmp_path / "drawn.jsonl", drawn)
    deal_out(sampling_audit(NAMES, tmp_path, batches=1, **SETTINGS), file).collect()
    found = deal_out(sampling_audit(NAMES, tmp_path, batches=2, **SETTINGS), file).collect()
    assert collected.gram_SBSB.diagonal(dim1=0, dim2=2).abs().min() > 0
    assert torch.equal(found.gram_SBSB, collected.gram_SBSB) and found.shares == collected.shares
    assert [one["reward"] for one in found.facts] == [one["reward"] for one in collected.facts]
    told = drift_of([one["drift"] for one in found.facts])
    assert not told["other_policy"] and abs(told["excess"]) < 4 * told["excess_error"]
