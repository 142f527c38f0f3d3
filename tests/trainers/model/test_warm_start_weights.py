"""The warm start weighs tokens as likelihood training does."""

import pytest
import torch

from support.tiny import tiny_model, tiny_tokenizer
from trainers.model.warm_start import WarmStart, batch_weights, pretrain_settings, warm_start
from trainers.sft import sft_strategy, weigh

ROWS = [{"prompt": "ab", "completion": "abcdefgh"[: 1 + i % 7]} for i in range(24)]


def trained(weight):
    model = tiny_model()
    losses = warm_start(model, tiny_tokenizer(), ROWS, WarmStart(steps=3, batch=8, weight=weight), "test")
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()])


def test_token_mean_by_name_and_by_power_are_the_same():
    (plain, after), (power, same) = trained("token_mean"), trained("length_power gamma=0")
    assert plain == pytest.approx(power, rel=1e-5) and torch.allclose(after, same, atol=1e-5)
    losses, other = trained("seq_mean")
    assert not torch.allclose(after, other, atol=1e-3) and losses != pytest.approx(plain, rel=1e-3)


def test_the_first_loss_is_the_weighted_sum_of_a_plain_loop():
    model, tokenizer, total = tiny_model(), tiny_tokenizer(), 0.0
    for row in ROWS[:8]:
        prompt, ids = tokenizer(row["prompt"])["input_ids"], tokenizer(row["completion"])["input_ids"] + [1]
        with torch.no_grad():
            logps = model(input_ids=torch.tensor([prompt + ids])).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        total -= logps.gather(1, torch.tensor(ids)[:, None]).sum().item() / (8 * len(ids))
    assert trained("seq_mean")[0][0] == pytest.approx(total, rel=1e-5)


def test_batch_weights_are_those_of_the_trainer():
    completions = [[3, 4, 5], [6], [7, 8]]
    for name in ("token_mean", "seq_mean", "seq_sum", "constant", "length_power gamma=0.5"):
        expected_BT, mask_BT = weigh(sft_strategy(name), torch.tensor([3, 1, 2]), 10)
        got = [w for row in batch_weights(name, 10)(completions) for w in row]
        assert got == pytest.approx(expected_BT[mask_BT].tolist())


def test_an_unknown_weight_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="seq_mean"):
        batch_weights("seq_means", 10)


def test_the_default_weight_leaves_the_cache_key_as_it_was():
    assert "weight" not in pretrain_settings({}).facts()
    assert pretrain_settings({"weight": "seq_mean"}).facts()["weight"] == "seq_mean"
