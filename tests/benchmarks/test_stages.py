"""The benchmarks of the stages: models side by side, what is measured of texts, and the update that filler predicts."""

import importlib.util
import json
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

STAGES = Path(__file__).resolve().parents[2] / "benchmarks" / "stages"
sys.path[:0] = [str(STAGES), str(STAGES / "pretraining"), str(STAGES / "filler")]

import filler
import train
from many import Many, Shape
from measures import Usual, held_out_measures, repeated_pairs, written_measures
from texts import Texts, made_up

from credit import weight
from credit.batch import Rollout
from trainers.run.generations import repeated_pairs as repeated

SHAPE = Shape(vocabulary=6, longest=9, width=8, depth=2, heads=2)
END = 5


@pytest.fixture
def models():
    made = Many(SHAPE, [0, 1, 0])
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return made


def test_models_of_one_seed_start_alike_and_others_do_not():
    made = Many(SHAPE, [0, 1, 0])
    tokens_SBT = torch.randint(6, (1, 4, 5), generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    logits = made(tokens_SBT)
    assert torch.equal(logits[0], logits[2]) and not torch.allclose(logits[0], logits[1], atol=1e-4)


def test_models_side_by_side_do_not_touch_each_other(models):
    tokens_SBT = torch.randint(6, (3, 4, 9), generator=torch.Generator().manual_seed(0))
    models(tokens_SBT)[1].square().sum().backward()
    for parameter in models.parameters():
        assert parameter.grad[1].abs().sum() > 0 and parameter.grad[[0, 2]].abs().sum() == 0


def test_texts_are_drawn_from_the_model_and_end_once(models):
    uniforms_SBT = torch.rand(3, 50, SHAPE.longest, generator=torch.Generator().manual_seed(0))
    texts_SBT = models.write(uniforms_SBT, END)
    there_SBT = texts_SBT >= 0
    below = models(models.inputs(texts_SBT)).softmax(-1).cumsum(-1)
    drawn = (uniforms_SBT[..., : texts_SBT.shape[2], None] > below[..., :-1] + 1e-5).sum(-1)
    assert (texts_SBT == drawn)[there_SBT].float().mean() > 0.99  # all but numbers at an edge
    ended_SB = (texts_SBT == END).sum(2)
    assert ended_SB.max() == 1 and 0 < ended_SB.sum() < ended_SB.numel() + 1
    assert (there_SBT[..., 1:] <= (there_SBT & (texts_SBT != END))[..., :-1]).all()


def test_repetition_of_a_table_is_that_of_its_texts():
    generator = torch.Generator().manual_seed(0)
    table_NT = torch.randint(3, (40, 8), generator=generator)
    lengths_N = torch.randint(1, 9, (40,), generator=generator)
    table_NT[torch.arange(8) >= lengths_N[:, None]] = -1
    wanted = [repeated([token for token in row if token >= 0]) for row in table_NT.tolist()]
    assert repeated_pairs(table_NT, 3).tolist() == pytest.approx(wanted) and max(wanted) > 0.3


def _texts(rows: list[list[int]]) -> Texts:
    table = torch.full((len(rows), SHAPE.longest), -1, dtype=torch.int16)
    for place, row in enumerate(rows):
        table[place, : len(row)] = torch.tensor(row, dtype=torch.int16)
    return Texts(table, table, table, SHAPE.vocabulary, END, 0.0)


def test_writing_more_short_texts_moves_the_old_measure_of_repetition_and_not_the_one_at_equal_lengths():
    """Real texts repeat more the longer they are; these models never repeat, so they miss more in long texts."""
    real = [[*([1, 2] * 4)[: n - 1], END] for n in range(2, 10) for _ in range(20)]
    usual = Usual(_texts(real), "cpu")
    even = [[*range(min(n - 1, 5)), *[4, 3, 1][: max(0, n - 6)], END] for n in range(2, 10)]
    one, other = _texts(even).learn_NT, _texts([*even, *even[:2] * 10]).learn_NT
    first, second = written_measures(one, usual), written_measures(other, usual)
    assert second["length"] < first["length"] and second["excess"] > first["excess"] + 0.02
    assert second["at_equal_length"] == pytest.approx(first["at_equal_length"], abs=1e-12)
    assert first["at_equal_length"] < -0.1


def test_losses_of_held_out_texts_are_by_token_and_by_text(models):
    texts = _texts([[1, 2, END], [3, END], [1, 1, 2, 4, 0, 0, END]])
    found = held_out_measures(models, texts, "cpu", block=2)
    for model in range(3):
        sums, counts = [], []
        for row in texts.held_out_NT:
            tokens = row[row >= 0].long()[None, None].expand(3, -1, -1)
            logps = models(models.inputs(tokens)).log_softmax(-1).gather(3, tokens[..., None])
            sums.append(-float(logps[model].sum().detach()))
            counts.append(tokens.shape[2])
        assert found[model]["token_nll"] == pytest.approx(sum(sums) / sum(counts), rel=1e-5)
        assert found[model]["text_nll"] == pytest.approx(sum(sums) / 3, rel=1e-5)
        means = [total / count for total, count in zip(sums, counts, strict=True)]
        assert found[model]["text_mean_nll"] == pytest.approx(sum(means) / 3, rel=1e-5)
        ends = sum(tokens * seen for tokens, *_, seen in found[model]["places"])
        assert ends == pytest.approx(3, abs=1e-4)


def test_each_arm_weighs_by_its_own_denominator():
    mask_SBT = torch.arange(9) < torch.randint(1, 10, (2, 32), generator=torch.Generator().manual_seed(0))[..., None]
    found = dict(zip(train.ARMS, train.weights(mask_SBT.repeat(len(train.ARMS), 1, 1), 2).split(2), strict=True))
    lengths_B = mask_SBT[1].sum(1)
    for name, factor_B in (
        ("constant", torch.full((32,), 1 / (32 * 9))),
        ("token_mean", torch.full((32,), 1 / float(lengths_B.sum()))),
        ("micro_mean", (1 / (8 * lengths_B.view(8, 4).sum(1).float())).repeat_interleave(4)),
        ("length_power 0.5", lengths_B**-0.5 / (lengths_B**0.5).sum()),
        ("seq_mean", 1 / (32 * lengths_B.float())),
    ):
        torch.testing.assert_close(found[name][1], mask_SBT[1] * factor_B[:, None])


def test_a_small_training_learns_and_pairs_its_arms():
    texts = made_up(count=64, held_out=8, usual=600, longest=40)
    assert ((texts.learn_NT == texts.end).sum(1) == 1).all()
    plan = train.Plan(lambda: texts, width=8, depth=1, heads=2, rate=1e-2, steps=(6,))
    models = train.train(plan, texts, seeds=2, steps=6, device="cpu")
    usual = Usual(texts, "cpu")
    runs = train.measure(models, texts, usual, seeds=2, count=16)
    assert [(run["arm"], run["seed"]) for run in runs] == [(arm, seed) for arm in train.ARMS for seed in (0, 1)]
    losses = {(run["arm"], run["seed"]): run["token_nll"] for run in runs}
    uniform = float(torch.log(torch.tensor(float(texts.vocabulary))))
    assert all(loss < uniform - 0.05 for loss in losses.values())
    assert len(set(losses.values())) == len(losses)


def _report(folder: str):
    """Both folders have a report.py."""
    spec = importlib.util.spec_from_file_location(f"{folder}_report", STAGES / folder / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("folder", "maker"), [("pretraining", "tables"), ("filler", "table")])
def test_the_tables_of_the_page_are_those_that_the_data_give(folder, maker):
    docs = STAGES.parents[1] / "docs"
    data = json.loads((docs / "results" / "stages" / f"{folder}.json").read_text(encoding="utf-8"))
    page = (docs / "token_or_sequence.md").read_text(encoding="utf-8")
    lines = getattr(_report(folder), maker)(data).splitlines()
    assert len(lines) > 4 and all(line in page for line in lines)


def test_seeds_needed_are_those_of_the_paired_t_test():
    """A difference of one standard deviation takes 10 pairs, one of half of it 34 (two-sided, 5 %, power 80 %)."""
    needed = _report("pretraining").seeds_needed
    unit = [-1.0, 0.0, 1.0]  # standard deviation 1
    assert needed(unit, 1.0) == 10 and needed(unit, 0.5) == 34


# ---- filler


@pytest.fixture
def small(monkeypatch):
    for name, value in {"LETTERS": 2, "LONGEST": 3, "GROUP": 2, "GROUPS": 1, "ROWS": 4}.items():
        monkeypatch.setattr(filler, name, value)


@pytest.mark.parametrize("name", filler.ARMS)
def test_the_predicted_credit_of_a_text_is_the_mean_over_all_batches(small, name):
    """Under the token mean, where lengths do not depend on the letter, as at the start; else anywhere."""
    arm, generator = filler.ARMS[name], torch.Generator().manual_seed(0)
    first_SPL = torch.randn(1, 2, 2, generator=generator, dtype=torch.float64).log_softmax(-1)
    free = arm.strategy.weight is not weight.token_mean
    shape = (1, 2, 2, 2) if free else (1, 2, 1, 2)
    ending_SPLT = torch.randn(shape, generator=generator, dtype=torch.float64).expand(1, 2, 2, 2)
    lengths_SPLT = filler.log_lengths(ending_SPLT)
    found = filler.expected(arm, first_SPL, lengths_SPLT)[0]
    chance_PLT = (first_SPL[..., None] + lengths_SPLT).exp()[0]
    assert chance_PLT.sum((1, 2)).tolist() == pytest.approx([1, 1])
    texts, prompt_B = list(product(range(2), range(2))), torch.tensor([0, 0, 1, 1])
    total_LT, mass_LT = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    for batch in product(texts, repeat=4):
        letter_B, place_B = (torch.tensor(each) for each in zip(*batch, strict=True))
        chance = chance_PLT[prompt_B, letter_B, place_B].prod()
        mask_BT = torch.arange(3) < (place_B + 2)[:, None]
        credit = arm.strategy.score(Rollout((letter_B == prompt_B).double(), prompt_B, mask_BT, 3))
        total_LT[batch[0]] += chance * (credit.advantages_BT * credit.weights_BT)[0, 0]
        mass_LT[batch[0]] += chance
    torch.testing.assert_close(found[0], total_LT / mass_LT, rtol=1e-9, atol=1e-12)
    assert found[0].abs().min() > 1e-3


def test_only_length_normalised_credit_pushes_lengths_of_the_start(small):
    """The predicted gradient on the chance to end, right letter and wrong: apart under 1 / length, none under a constant."""
    for name, pushes in (("seq_norm", True), ("group_zscore, constant", False), ("dr_grpo", False)):
        policy = filler.Table([0])
        filler.loss_predicted(filler.ARMS[name], *policy()).backward()
        right, wrong = policy.ending.grad[0, 0, 0, 0], policy.ending.grad[0, 0, 1, 0]
        assert (right < -1e-3 and wrong > 1e-3) if pushes else max(abs(right), abs(wrong)) < 1e-12


def test_drawn_batches_move_a_policy_as_predicted(small):
    policy, arm = filler.Table([0]), filler.ARMS["seq_norm"]
    filler.loss_predicted(arm, *policy()).backward()
    predicted, policy.first.grad = policy.first.grad.clone(), None
    draws, count = [torch.Generator().manual_seed(0)], 400
    sum(filler.loss_seen(arm, *policy(), draws) for _ in range(count)).backward()
    assert predicted.abs().min() > 0.01
    torch.testing.assert_close(policy.first.grad / count, predicted, rtol=0.1, atol=0)
