"""Recorded completions in the place of sampled ones: the same gradients to the bit, and what gives other policies away."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from support.exact.audits import deal_out, sampling_audit
from support.exact.swapped import prompts
from support.runs import RANKS, run_ranks
from support.tiny import tiny_tokenizer
from trainers.audit.collected import Collected
from trainers.audit.given.drift import drift_in_batch, drift_of, together
from trainers.audit.given.tokens import TakenTokens, tokenised
from trainers.command.recorded.groups import Recorded
from trainers.command.recorded.said import Said

NAMES = ("rloo", "seq_norm", "prompt_ema")
SETTINGS = {"share_batches": 0, "warmup": 1}


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
    assert torch.equal(found.gram_SBSB, collected.gram_SBSB)
    assert [one["reward"] for one in found.facts] == [one["reward"] for one in collected.facts]
    told = drift_of([one["drift"] for one in found.facts])
    assert not told["other_policy"] and abs(told["excess"]) < 4 * told["excess_error"]


def test_the_end_of_a_text_is_told_by_its_tokens_then_by_what_is_said_then_by_its_length():
    end, letters = 1, {letter: place for place, letter in enumerate("abc", 3)}
    a, b = letters["a"], letters["b"]
    cases = [
        (Said("0", None, [a, end]), [a, end], {}),
        (Said("1", None, [a, b]), [a, b], {"short"}),
        (Said("2", None, [a, b], ended=True), [a, b, end], {"closed"}),
        (Said("3", None, [a, end, b, end]), [a, end], {"behind"}),
        (Said("4", None, [a, b, a, b, a]), [a, b, a, b], {"cut"}),
        (Said("5", "a"), [a, end], {"text", "unsaid"}),
        (Said("6", "a", ended=False), [a], {"text", "short"}),
        (Said("7", ""), [end], {"text", "unsaid"}),
        (Said("8", "a", [b, end]), [b, end], {"other text"}),
    ]
    for one, ids, counted in cases:
        said = [one, *(Said("fine", None, [a, end]) for _ in range(2))]  # most of a file must be sound
        found = tokenised(recorded(said), tiny_tokenizer(), {end}, most=4, size=11)
        assert found.drawn[0].ids == ids and {name for name, count in found.counts.items() if count} == set(counted)
    long = Said("0", None, [a, b, end], logps=[-1.0, -2.0, -3.0])
    assert tokenised(recorded([long]), tiny_tokenizer(), {end}, most=2, size=11).drawn[0].logps == [-1.0, -2.0]
    with pytest.raises(ValueError, match=r"here: token 11 is none of the model's 11"):
        tokenised(recorded([Said("here", None, [11])]), tiny_tokenizer(), {end}, most=4, size=11)
    with pytest.raises(ValueError, match="another tokenizer"):
        tokenised(recorded([Said("here", "a", [b, end])]), tiny_tokenizer(), {end}, most=4, size=11)


def recorded(said: list[Said]) -> Recorded:
    return Recorded(source="f", rows=[{} for _ in said], said=said, generations=1, batch=1, total=len(said), prompts=1, alone=0,
                    surplus=0)  # fmt: skip


def test_the_excess_of_surprise_tells_other_policies_from_the_one_that_drew():
    """Texts of 8 tokens from a fixed distribution: 0 for the drawer in a model of itself, else the divergence; log-probs say it too."""
    logits, generator = torch.tensor([0.5, 0.0, -1.0, 1.5]), torch.Generator().manual_seed(0)

    def told(temperature: float) -> dict:
        """Of texts that were drawn at this temperature and are looked at under 1."""
        drawer, own = (logits / temperature).softmax(dim=0), logits.softmax(dim=0)
        batches = []
        for _ in range(16):
            tokens_BT = torch.multinomial(drawer, 32 * 8, replacement=True, generator=generator).view(32, 8)
            taken = [TakenTokens(ids.tolist(), drawer[ids].log().tolist()) for ids in tokens_BT]
            entropies_BT = torch.full((32, 8), -(own * own.log()).sum().item())
            mask_BT = torch.arange(8) < torch.randint(1, 9, (32, 1), generator=generator)
            halves = [slice(0, 12), slice(12, 32)]  # as two ranks would
            batches.append(
                together(
                    [
                        drift_in_batch(taken[at], mask_BT[at], own[tokens_BT].log()[at], entropies_BT[at])
                        for at in halves
                    ]
                )
            )
        return drift_of(batches)

    mine, colder, hotter = told(1.0), told(0.7), told(1.4)
    assert not mine["other_policy"] and mine["logp_difference"] < 1e-6 and mine["worth"] == pytest.approx(1.0)
    assert mine["excess_error"] > 0 and abs(mine["excess"]) < 4 * mine["excess_error"]
    for other, sign in ((colder, -1), (hotter, 1)):
        drawer, own = (logits / (0.7 if sign < 0 else 1.4)).softmax(dim=0), logits.softmax(dim=0)
        expected = -((drawer - own) * own.log()).sum().item()
        assert other["other_policy"] and other["excess"] * sign > 4 * other["excess_error"] and other["worth"] < 1
        assert other["excess"] == pytest.approx(expected, abs=4 * other["excess_error"])
        assert other["logp_difference"] > 0.05


@pytest.mark.slow
def test_two_processes_give_what_one_gives(sampled, tmp_path):
    _, drawn, one = sampled
    file = written(tmp_path / "drawn.jsonl", drawn)
    run_ranks(RANKS / "audit_recorded.py", tmp_path / "two", ",".join(NAMES), str(file), timeout=300)
    two = Collected.load(tmp_path / "two" / "collected.pt")
    assert (one.gram_SBSB - two.gram_SBSB).norm() / one.gram_SBSB.norm() < 1e-5
    mine = deal_out(sampling_audit(NAMES, tmp_path, batches=2, **SETTINGS), file).collect()
    for here, there in zip(mine.facts, two.facts, strict=True):
        assert here["drift"]["tokens"] == there["drift"]["tokens"]
        assert here["drift"]["excess"] == pytest.approx(there["drift"]["excess"], abs=1e-3)
