"""Likelihood training with weights: equal to TRL where TRL has the weight, to plain loops where it has not."""

import functools

import pytest
import torch

from credit import weight as weights
from support.exact.fixed import distance
from support.sft_runs import completions, rows, train
from support.tiny import tiny_model, tiny_tokenizer
from trainers.sft import CreditSFTTrainer, sft_strategy

NAMED = {
    "seq_mean": weights.seq_mean,
    "constant": weights.constant,
    "seq_sum": weights.seq_sum,
    "half": functools.partial(weights.length_power, gamma=0.5),
}


def early(mask_BT, token_ids_BT):
    """A user's own: halves with every token, and letter "a" counts double."""
    steps_T = torch.arange(mask_BT.shape[1])
    a = tiny_tokenizer().convert_tokens_to_ids("a")
    return mask_BT * 0.5**steps_T * (1 + (token_ids_BT == a)) / mask_BT.shape[0]


def loop_gradient(data, weigh, max_length=48):
    """d loss / d parameters over one optimiser batch, row by row and token by token in plain autograd."""
    model, tokenizer = tiny_model().train(), tiny_tokenizer()
    encoded = [(tokenizer(r["prompt"])["input_ids"], tokenizer(r["completion"])["input_ids"]) for r in data]
    lengths = [len(completion) for _, completion in encoded]
    total = 0.0
    for b, (prompt, completion) in enumerate(encoded):
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
        logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        for t, token in enumerate(completion):
            total = total - weigh(b, t, token, lengths) * logps[t, token]
    total.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def step_gradient(folder, weight, data, **config):
    """The same from a trainer: one SGD step of rate 1."""
    before = torch.cat([p.detach().flatten() for p in tiny_model().parameters()])
    after, _, _ = train(folder, weight, data, max_steps=1, learning_rate=1.0, **config)
    return before - after


def test_token_mean_is_trl_bit_for_bit(tmp_path):
    for accumulation in (1, 2):
        theirs, losses, _ = train(tmp_path / "a", None, gradient_accumulation_steps=accumulation, optim="adamw_torch")
        for weight in (weights.token_mean, functools.partial(weights.length_power, gamma=0.0)):
            ours, own, _ = train(tmp_path / "b", weight, gradient_accumulation_steps=accumulation, optim="adamw_torch")
            assert torch.equal(theirs, ours) and losses == own


LOOPS = {
    "seq_mean": lambda b, t, token, L: 1 / (len(L) * L[b]),
    "constant": lambda b, t, token, L: 1 / (len(L) * 48),
    "seq_sum": lambda b, t, token, L: 1 / len(L),
    "half": lambda b, t, token, L: L[b] ** -0.5 / sum(length**0.5 for length in L),
}


@pytest.mark.parametrize("name", NAMED)
def test_gradient_is_that_of_the_formula(name, tmp_path):
    data = rows(8)
    ours = step_gradient(tmp_path, NAMED[name], data)
    loop = loop_gradient(data, LOOPS[name])
    assert torch.allclose(ours, loop, atol=1e-6)
    token_mean = loop_gradient(data, lambda b, t, token, L: 1 / sum(L))
    if name == "seq_mean":  # another direction, not only another size
        assert torch.nn.functional.cosine_similarity(token_mean, loop, dim=0) < 0.99


def test_a_users_own_weight_sees_tokens_in_the_places_that_grpo_gives_them(tmp_path):
    data = rows(8)
    a = tiny_tokenizer().convert_tokens_to_ids("a")
    loop = loop_gradient(data, lambda b, t, token, L: 0.5**t * (1 + (token == a)) / len(L))
    assert torch.allclose(step_gradient(tmp_path, early, data), loop, atol=1e-6)


@pytest.mark.parametrize("weight", [*NAMED.values(), early], ids=[*NAMED, "own"])
def test_cutting_the_batch_differently_changes_nothing(weight, tmp_path):
    data = rows(16)
    whole = step_gradient(tmp_path / "1", weight, data, per_device_train_batch_size=16)
    for size in (8, 2):
        accumulation = 16 // size
        cut = step_gradient(
            tmp_path / str(size),
            weight,
            data,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )
        assert distance(cut, whole) < 1e-5  # float32's promise; relative, as seq_sum's gradient is 16 times seq_mean's


def test_the_last_shorter_batch_of_an_epoch_has_its_own_denominator(tmp_path):
    data = rows(10)
    _, losses, _ = train(
        tmp_path, weights.seq_sum, data, max_steps=-1, num_train_epochs=1, per_device_train_batch_size=2,
        gradient_accumulation_steps=3, learning_rate=0.0,
    )  # fmt: skip
    mean_nll = loop_loss(data, lambda b, t, token, L: 1 / len(L))
    assert len(losses) == 2 and (losses[0] * 6 + losses[1] * 4) / 10 == pytest.approx(mean_nll, rel=1e-4)


def loop_loss(data, weigh):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    lengths, total = completions(data), 0.0
    for b, row in enumerate(data):
        prompt, completion = tokenizer(row["prompt"])["input_ids"], tokenizer(row["completion"])["input_ids"]
        with torch.no_grad():
            logps = model(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        total -= sum(weigh(b, t, token, lengths) * logps[t, token].item() for t, token in enumerate(completion))
    return total


@pytest.mark.parametrize("packing", [False, True])
def test_padding_free_batches_weigh_real_sequences(packing, tmp_path):
    data = rows(16)
    plain = step_gradient(tmp_path / "a", weights.seq_mean, data, per_device_train_batch_size=16)
    free = {"packing": True, "max_length": 400} if packing else {"padding_free": True, "max_length": None}
    ours, _, trainer = train(
        tmp_path / "b", weights.seq_mean, data, max_steps=1, learning_rate=1.0, per_device_train_batch_size=16, **free
    )  # fmt: skip
    before = torch.cat([p.detach().flatten() for p in tiny_model().parameters()])
    assert trainer.padding_free
    assert ((before - ours) - plain).abs().max() < 1e-6


def test_every_row_sees_its_weight_and_the_logs_say_what_the_weight_prefers(tmp_path):
    data = rows(16)
    _, _, trainer = train(tmp_path, weights.seq_mean, data, max_steps=1, per_device_train_batch_size=16)
    logs = trainer.seen.logs[0]
    lengths = completions(data)
    assert logs["weight/mass"] == pytest.approx(1)
    assert logs["weight/mean_length"] == pytest.approx(sum(lengths) / 16)
    assert logs["weight/weighted_mean_length"] == pytest.approx(sum(lengths) / 16)


def test_evaluation_stays_trls_token_mean(tmp_path):
    from datasets import Dataset

    data = rows(12)
    _, _, trainer = train(tmp_path, weights.seq_mean, data, max_steps=1, learning_rate=0.0)
    trainer.eval_dataset = Dataset.from_list([])
    encoded = trainer._prepare_dataset(
        Dataset.from_list(data), trainer.processing_class, trainer.args, False, None, "eval"
    )
    trainer.args.per_device_eval_batch_size = 12
    loss = trainer.evaluate(encoded)["eval_loss"]
    assert loss == pytest.approx(loop_loss(data, lambda b, t, token, L: 1 / sum(L)), rel=1e-4)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"loss_type": "dft"}, "dft"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing"),
        ({"packing": True, "packing_strategy": "wrapped"}, "cuts texts"),
        ({"average_tokens_across_devices": False}, "average_tokens_across_devices"),
    ],
)
def test_options_that_would_not_be_exact_are_refused(config, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        train(tmp_path, weights.seq_mean, **config)


def test_a_constant_weight_needs_a_longest_length(tmp_path):
    with pytest.raises(ValueError, match=r"Set trainer\.max_length"):
        train(tmp_path, weights.constant, max_length=None)


def test_a_weight_that_needs_rewards_is_refused():
    with pytest.raises(ValueError, match="rewards_B"):
        sft_strategy(lambda mask_BT, rewards_B: mask_BT * rewards_B[:, None])


def test_a_weight_may_be_named():
    assert sft_strategy("seq_mean").weight is weights.seq_mean
    assert sft_strategy("length_power gamma=0.25").weight.keywords == {"gamma": 0.25}


def test_lora_trains_with_weights(tmp_path):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_model(), peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2))
    _, losses, trainer = train(tmp_path, weights.seq_mean, rows(8), model=model, max_steps=1, learning_rate=0.0)
    assert losses[0] == pytest.approx(loop_loss(rows(8), lambda b, t, token, L: 1 / (len(L) * L[b])), rel=1e-3)
    assert isinstance(trainer, CreditSFTTrainer)
