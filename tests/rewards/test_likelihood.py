"""The reference's likelihood as a reward: what the trainer hands over is what the reference says of each text."""

from __future__ import annotations

import functools

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig

from credit import Strategy, baseline, weight
from rewards.compose import scale
from rewards.guard import guarded
from rewards.likelihood import own_likelihood
from rewards.score import main as score
from support.tiny import loaded, tiny_tokenizer
from trainers.grpo import CreditGRPOTrainer
from trainers.seam.reference_reward import note_of_target, reads_reference, refuse_without_reference

PROMPTS = ["ab", "cdefg"]


def options(folder, **given) -> GRPOConfig:
    given = {"per_device_train_batch_size": 4, "num_generations": 4, "beta": 0.5, "max_steps": 3} | given
    fixed = {"report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True}
    return GRPOConfig(str(folder), max_completion_length=6, learning_rate=0.05, optim="sgd", seed=1, **fixed, **given)


def trained(folder, reward, peft=None, **given) -> CreditGRPOTrainer:
    trainer = CreditGRPOTrainer(
        model=loaded(folder / "start"),
        reward_funcs=reward,
        args=options(folder, **given),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS * 8}),
        processing_class=tiny_tokenizer(),
        peft_config=peft,
        credit=Strategy(weight.seq_sum, baseline.leave_one_out, kl_in_reward=True),
    )
    trainer.train()
    return trainer


def by_hand(model, prompt: str, completion: list[int]) -> float:
    """log p of one completion, alone, without padding."""
    ids = torch.tensor([tiny_tokenizer()(prompt)["input_ids"] + completion])
    with torch.no_grad():
        logps_TV = model(ids).logits[0].double().log_softmax(-1)
    first = ids.shape[1] - len(completion)
    return sum(float(logps_TV[first + i - 1, token]) for i, token in enumerate(completion))


@pytest.mark.parametrize("cut", ["one batch", "micro-batches", "adapter"])
def test_a_text_is_worth_its_log_probability_under_the_start(cut, tmp_path):
    seen = []

    def watched(prompts, completions, completion_ids, reference_logp, **columns):
        seen.extend(zip(prompts, completion_ids, reference_logp, strict=True))
        return own_likelihood(prompts, completions, reference_logp)

    given = {"gradient_accumulation_steps": 2, "num_iterations": 2} if cut == "micro-batches" else {}
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"]) if cut == "adapter" else None
    trainer = trained(tmp_path, guarded(watched), adapter, **given)
    start = loaded(tmp_path / "again")
    wanted = [by_hand(start, prompt, ids) for prompt, ids, _ in seen]
    assert [value for *_, value in seen] == pytest.approx(wanted, abs=1e-4)
    assert len({len(ids) for _, ids, _ in seen}) > 2 and {ids[-1] == 1 for _, ids, _ in seen} == {True, False}
    if cut == "one batch":  # by then the policy is another
        now = [by_hand(trainer.model, prompt, ids) for prompt, ids, _ in seen]
        assert max(abs(a - b) for a, b in zip(now, wanted, strict=True)) > 0.05


def test_who_asks_is_seen_through_guards_parts_and_bindings():
    def other(prompts, completions, **columns):
        return [0.0 for _ in completions]

    asking = [
        own_likelihood,
        guarded(own_likelihood),
        scale(reward=own_likelihood, factor=2.0),
        functools.partial(own_likelihood),
    ]
    assert all(map(reads_reference, asking)) and not reads_reference(other) and not reads_reference(guarded(other))


@pytest.mark.parametrize(
    "given, remedy",
    [
        ({"beta": 0.0}, "trainer.beta=1"),
        ({"sync_ref_model": True}, "false"),
        ({"mask_truncated_completions": True}, "false"),
    ],
)
def test_a_reference_that_is_not_there_or_moves_is_refused_before_a_model_is_loaded(given, remedy, tmp_path):
    with pytest.raises(ValueError, match=f"own_likelihood.*{remedy}"):
        refuse_without_reference([guarded(own_likelihood)], options(tmp_path, **given))
    with pytest.raises(ValueError, match=f"own_likelihood.*{remedy}"):
        CreditGRPOTrainer(model="no/such/model", reward_funcs=own_likelihood, args=options(tmp_path, **given))
    refuse_without_reference([lambda prompts, completions, **columns: []], options(tmp_path, **given))


def test_the_target_is_said_with_the_weight_of_the_reward(tmp_path):
    line = note_of_target([own_likelihood], [1.0], options(tmp_path, beta=1.0), kl_in_reward=True)
    assert "= 2 (sequence temperature 0.5)" in line and "elsewhere" not in line
    assert "= 0 (likely texts are avoided" in note_of_target(
        [own_likelihood], [-1.0], options(tmp_path, beta=1.0), True
    )
    line = note_of_target([own_likelihood, len], [2.0, 1.0], options(tmp_path, beta=0.5), kl_in_reward=False)
    assert "= 5 (" in line and "tilted" in line and "elsewhere" in line


def test_without_the_log_probabilities_it_says_where_they_come_from(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"reference_logp.*CreditGRPOTrainer"):
        own_likelihood(completions=["a"])
    (tmp_path / "texts.jsonl").write_text('{"completion": "a", "reference_logp": -2.5}\n')
    score(["reward=own_likelihood", "--file", str(tmp_path / "texts.jsonl"), "--json"])
    assert "-2.5" in capsys.readouterr().out
