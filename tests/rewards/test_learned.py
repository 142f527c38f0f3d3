"""A reward model: batches change nothing, and what is wrong is told."""

import pickle

import pytest

from rewards.guard import guarded
from rewards.learned import reward_model
from support.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    path = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=11, max_position_embeddings=64, pad_token_id=0, num_labels=1, **sizes)
    LlamaForSequenceClassification(config).float().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return str(path)


def test_batches_of_mixed_lengths_score_like_single_texts(folder):
    texts = ["abc", "defgh", "a", "hhhhhhhh", "b"]
    reward = guarded(reward_model(folder, batch_size=2, device="cpu", name="judge"))
    together = reward(prompts=["ab"] * 5, completions=texts)
    alone = [reward(prompts=["ab"], completions=[text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-6) and len(set(together)) == 5


def test_squashed_values_lie_between_zero_and_one_and_conversations_are_taken(folder):
    reward = pickle.loads(pickle.dumps(reward_model(folder, squash="sigmoid", device="cpu")))
    prompt, completion = [{"role": "user", "content": "ab"}], [{"role": "assistant", "content": "c"}]
    (value,) = reward(prompts=[prompt], completions=[completion])
    assert 0 < value < 1


def test_what_is_wrong_is_told_at_once(tmp_path):
    with pytest.raises(ValueError, match="no reward model folder"):
        reward_model(f"{tmp_path}/nowhere")
    with pytest.raises(ValueError, match="squash"):
        reward_model("some/model", squash="tanh")
    with pytest.raises(ValueError, match="batch_size"):
        reward_model("some/model", batch_size=0)
