"""Groups without spread make room for others: what comes out is the batch that those rows would have been, and the run goes on
from its checkpoints as any other."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig

from configs.compose import named_strategy
from support.exact.refilled import lengths, made, rehearsed, rows_of, scored, written
from support.resumed import EVERY_STEP, PROMPTS, goes_on_from_everywhere, grpo, live
from support.tiny import loaded, tiny_model, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer
from trainers.refill.filling import shareable
from trainers.refill.refusals import learns_without_spread, refuse_refill

SIZE = 4


def prompts_of(trainer) -> list[str]:
    """Of each group, as TRL's table of completions has them (older ones decode them, with blanks)."""
    return [prompt.replace(" ", "") for prompt in trainer._logs["prompt"]][::SIZE]


# ---- the batch

FOUR = ["ab", "da", "bb", "ea"]  # two of them without spread
OTHERS = ["cc", "ad", "fa", "ab", "da", "gg", "hh"]


@pytest.mark.parametrize("credit, engine", [("dr_grpo", False), ("gtpo", False), (None, True)])
def test_the_batch_is_the_one_that_its_rows_would_have_been_from_the_start(credit, engine, tmp_path):
    options = dict(num_iterations=2, beta=0.1, credit=credit, model=lambda: loaded(tmp_path / "model"))
    refilled = rehearsed(made(tmp_path / "one", FOUR + OTHERS, refill=3, **options))
    refilled.use_vllm = engine
    there = scored(refilled, FOUR)
    prompts = prompts_of(refilled)
    assert prompts[1::2] == ["da", "ea"] and not {"ab", "bb"} & set(prompts) and len(set(prompts)) == 4
    plain = rehearsed(made(tmp_path / "two", FOUR + OTHERS, **options))
    plain.use_vllm = engine
    same = scored(plain, prompts)
    assert there.keys() == same.keys()
    for name, value in same.items():
        assert torch.equal(torch.as_tensor(there[name]), torch.as_tensor(value)), name
    made_of_passes = {"old_per_token_logps", "ref_per_token_logps", "sampling_per_token_logps"}
    assert made_of_passes | ({"importance_sampling_ratio"} if engine else set()) <= same.keys()
    assert same["advantages"].abs().max() > 0
    for name in ("prompt", "completion", "advantages"):
        assert list(refilled._logs[name]) == list(plain._logs[name])
    assert list(refilled._logs["rewards"]["lengths"]) == list(plain._logs["rewards"]["lengths"])
    assert list(refilled._logs["extra"]["shown"]) == list(plain._logs["extra"]["shown"])
    assert refilled._logs["extra"]["shown"][0].startswith(prompts[0] + ">")
    metrics, others = refilled._metrics["train"], plain._metrics["train"]
    for name in set(others) - {"num_tokens", "asked", "credit/signal_time", "lengths/time"}:
        if not name.startswith("completions/"):
            assert metrics[name] == pytest.approx(others[name], nan_ok=True), name


def test_every_completion_is_scored_once_and_only_what_is_missing_is_sampled(tmp_path):
    seen = Counter()

    def counting(prompts, completions, number, **columns):
        assert [PROMPTS[n] for n in number] == prompts, "a row has another row's columns"
        seen.update(prompts)
        return lengths(prompts, completions)

    trainer = rehearsed(made(tmp_path, FOUR + OTHERS, refill=3, funcs=counting))
    scored(trainer, FOUR)
    groups = len(trainer.asked)
    assert set(seen.values()) == {SIZE} and len(seen) == groups, "a prompt was sampled or scored twice"
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert metrics["sampling/flat_first"] == 0.5 and metrics["sampling/flat"] == 0 == metrics["frac_reward_zero_std"]
    assert metrics["sampling/refilled"] == 0.5 and metrics["sampling/rounds"] >= 1
    assert metrics["sampling/completions"] == groups * SIZE > 16
    assert metrics["sampling/reward_first"] < metrics["reward"]
    ids = [list(asked) for asked in trainer.asked]
    tokens = [sum(len(written(prompt, place)) for place in range(SIZE)) for prompt in ids]
    assert metrics["extra_tokens"] == sum(tokens[4:]) and metrics["completions/mean_length"] == sum(tokens[:4]) / 16
    assert metrics["num_tokens"] == sum(tokens) + sum(map(len, ids)) * SIZE
    assert all(len(values) == 1 for values in trainer._metrics["train"].values()), "a batch counts once"


def test_rounds_end_and_what_is_left_stays_as_it_was_drawn(tmp_path):
    trainer = rehearsed(made(tmp_path, PROMPTS[:24], refill=2))  # all begin with a, b or c
    output = scored(trainer, ["aa", "ab", "ba", "bb"])
    assert prompts_of(trainer) == ["aa", "ab", "ba", "bb"]
    assert len(trainer.asked) == 12 and len(set(trainer.asked)) == 12
    assert output["credit_advantages_BT"].abs().max() == 0


def test_a_row_that_nobody_can_score_is_no_spread_and_one_among_others_is(tmp_path):
    def some(prompts, completions, **columns):
        values = {"a": [None] * 4, "d": [1.0, None, None, None], "e": [1.0, None, 0.0, None], "f": [0.0, 0.0, 0.0, 1.0]}
        return [values[prompt[0]][place % SIZE] for place, prompt in enumerate(prompts)]

    trainer = rehearsed(made(tmp_path, ["ab", "da", "ea", "fa", "fb", "fc"], refill=1, funcs=some))
    scored(trainer, ["ab", "da", "ea", "fa"])
    assert prompts_of(trainer) == ["fb", "fc", "ea", "fa"]


def test_weights_decide_what_spread_is(tmp_path):
    def opposite(prompts, completions, **columns):
        return [-value for value in lengths(prompts, completions)]

    trainer = rehearsed(made(tmp_path, FOUR + OTHERS, refill=2, funcs=[lengths, opposite]))
    scored(trainer, FOUR)
    assert trainer._metrics["train"]["sampling/flat_first"] == [1.0] == trainer._metrics["train"]["sampling/flat"]


def test_evaluation_is_left_alone(tmp_path):
    trainer = rehearsed(made(tmp_path, FOUR + OTHERS, refill=3))
    trainer.model.eval()
    rows = [row for row in rows_of(FOUR) for _ in range(SIZE)]
    trainer._generate_and_score_completions(rows)
    assert len(trainer.asked) == 4 and not any(name.startswith("sampling/") for name in trainer._metrics["eval"])


# ---- the run


def test_where_every_group_has_spread_the_run_has_the_bits_of_one_without(tmp_path):
    def uneven(completions, **columns):
        return [float(sum(map(ord, text)) % 101) + place / 7 for place, text in enumerate(completions)]

    lives = [live(grpo(funcs=uneven, rows=8, max_steps=3, refill=n)(tmp_path / str(n))) for n in (0, 3)]
    ours = {"extra_tokens"}
    for row in lives[1].logs:
        assert row.pop("sampling/flat_first") == 0
        for name in [name for name in row if name.startswith("sampling/") or name in ours]:
            row.pop(name)
    assert lives[0].logs == lives[1].logs
    start = dict(tiny_model().named_parameters())
    for name, value in lives[0].weights.items():
        assert torch.equal(value, lives[1].weights[name])
    assert any(not torch.equal(value, start[name]) for name, value in lives[0].weights.items())


@pytest.mark.parametrize(
    "options",
    [
        dict(logging_steps=3, steps_per_generation=2),
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param(dict(credit=None, num_iterations=2, gradient_accumulation_steps=2), marks=pytest.mark.slow),
    ],
    ids=["rarely logged", "plain", "used twice"],
)
def test_a_run_goes_on_from_its_checkpoints_with_the_prompts_it_would_have_drawn(options, tmp_path):
    make = grpo(funcs=lengths, rows=len(PROMPTS), refill=2, max_steps=6, **options)
    whole = goes_on_from_everywhere(make, tmp_path, 6, cuts=[2, 4])
    refilled = [row["sampling/refilled"] for row in whole.logs if "sampling/refilled" in row]
    assert sum(refilled) > 0, "nothing was refilled, so nothing was tested"


# ---- what is refused


@pytest.mark.parametrize("rounds", [-1, 1.5, True, "3", None], ids=repr)
def test_a_number_of_rounds_is_a_whole_number(rounds, tmp_path):
    with pytest.raises(ValueError, match="whole number of rounds"):
        made(tmp_path, FOUR, refill=rounds)


def test_a_stream_cannot_be_drawn_from(tmp_path):
    data = Dataset.from_dict({"prompt": FOUR}).to_iterable_dataset()
    # older TRL takes no stream at all
    with pytest.raises((ValueError, NotImplementedError), match=r"stream.*sampling\.refill=0|Iterable"):
        CreditGRPOTrainer(
            model=tiny_model(),
            reward_funcs=lengths,
            args=GRPOConfig(str(tmp_path), **(EVERY_STEP | {"per_device_train_batch_size": 8})),
            train_dataset=data,
            processing_class=tiny_tokenizer(),
            credit="dr_grpo",
            refill=1,
        )


@pytest.mark.parametrize(
    "given, remedy",
    [
        (dict(has_environment=True, reads_reference=False), "environment.*sampling.refill=0"),
        (dict(has_environment=False, reads_reference=True), "likelihood.*sampling.refill=0"),
        (dict(has_environment=False, reads_reference=False, columns=["prompt", "image"]), "image.*sampling.refill=0"),
    ],
    ids=["environment", "reference", "images"],
)
def test_rows_that_cannot_be_exchanged_are_refused_with_a_remedy(given, remedy):
    refuse_refill(0, **given)
    with pytest.raises(ValueError, match=remedy):
        refuse_refill(1, **given)


@pytest.mark.parametrize(
    "name, learns",
    {
        **dict.fromkeys(["dr_grpo", "rloo", "uniform", "top_entropy", "opo"], False),
        **dict.fromkeys(
            ["value", "gtpo", "prompt_ema", "spo", "spans", "opd", "dr_grpo credit/baseline=batch_zscore"], True
        ),
    }.items(),
)
def test_what_learns_from_groups_without_spread_is_known(name, learns):
    assert learns_without_spread(named_strategy(name, ())) is learns


@pytest.mark.parametrize(
    "count, size, ranks, groups", [(1, 8, 1, 1), (1, 8, 8, 1), (1, 3, 2, 2), (5, 6, 4, 6), (3, 2, 8, 4)]
)
def test_ranks_share_rows_evenly_and_no_smaller_number_would_do(count, size, ranks, groups):
    assert shareable(count, size, ranks) == groups
    assert groups * size % ranks == 0 and all(fewer * size % ranks for fewer in range(count, groups))


def test_a_rollout_function_is_asked_for_groups_and_what_it_tells_goes_with_its_rows(tmp_path):
    told, seen = [], []

    def rollout(prompts, trainer):
        told.append(len(prompts))
        ids = [[3 + letter for letter in map("abcdefgh".index, prompt)] for prompt in prompts]
        completions = [written(prompt, place % SIZE) for place, prompt in enumerate(ids)]
        masks = [[1] * (len(row) - 1) + [0] for row in completions]
        names = [f"{prompt}{place % SIZE}" for place, prompt in enumerate(prompts)]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None, "env_mask": masks, "named": names}

    def reward(prompts, completions, named, **columns):
        seen.append(named)
        assert [name[:2] for name in named] == prompts
        return lengths(prompts, completions)

    trainer = made(tmp_path, FOUR + OTHERS, refill=3, funcs=reward, rollout_func=rollout)
    trainer.scoring_observers.append(lambda trainer, scoring: seen.append([row["named"] for row in scoring.columns]))
    output = scored(trainer, FOUR)
    prompts = prompts_of(trainer)
    assert told[0] == 16 and set(told[1:]) <= {4, 8} and prompts[1::2] == ["da", "ea"] and prompts[0][0] not in "abc"
    assert seen[-1] == [f"{prompt}{place}" for prompt in prompts for place in range(SIZE)]
    last = output["completion_mask"].sum(dim=1) - 1
    assert output["tool_mask"].gather(1, last[:, None]).eq(0).all(), "a mask has not gone with its row"
    assert output["tool_mask"][:, 0].eq(1).all()
