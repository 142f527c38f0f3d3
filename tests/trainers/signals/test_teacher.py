"""A teacher in the trainer: what it reads, that an average follows and is resumed, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig

from configs.compose import compose_strategy
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.resumed import goes_on_from_everywhere, grpo
from support.tiny import tiny_model, tiny_tokenizer
from trainers.model.embedded import closed_tokenizer
from trainers.signals.contexts import context_ids

ROLLOUTS = made_rollouts(1)
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])


def trainer_of(tmp_path, words, model=None, **options):
    strategy = compose_strategy(words.split())
    return replay_trainer(model or tiny_model(), tiny_tokenizer(), ROLLOUTS, strategy, str(tmp_path), **options)


def long(prompt, completion, reward, siblings, columns):
    return "a" * 70


def told(prompt, completion, reward, siblings, columns):
    return "abc"


@pytest.mark.parametrize("peft_config", [None, LORA], ids=["whole", "adapter"])
def test_the_policy_told_more_is_the_policy_after_another_prompt(tmp_path, peft_config):
    """Compared with a pass a row at a time; an adapter that is new changes nothing yet."""
    trainer = trainer_of(tmp_path, "credit=rlsd", peft_config=peft_config)
    trainer.credit.teacher.context = told
    seen, score = {}, trainer.credit.score
    trainer.credit.score = lambda rollout, *rest: (seen.update(rollout.provided), score(rollout, *rest))[1]
    trainer.train()
    context, model = tiny_tokenizer()("abc")["input_ids"], tiny_model().eval()
    for ids, found_T in zip(ROLLOUTS.completion_ids, seen["teacher_logps_BT"], strict=True):
        with torch.no_grad():
            logps_SV = model(torch.tensor([[*context, *ids]])).logits[0].log_softmax(-1)
        expected = [float(logps_SV[len(context) - 1 + t, token]) for t, token in enumerate(ids)]
        assert found_T[: len(ids)].tolist() == pytest.approx(expected, abs=2e-5)
    assert not seen["teacher_logps_BT"].requires_grad


def test_an_average_follows_the_policy_batch_by_batch(tmp_path):
    """Moved before each batch of training: new = decay old + (1 - decay) policy."""
    trainer = trainer_of(
        tmp_path, "credit=sdpo credit/teacher=ema credit.teacher.decay=0.6", max_steps=3, learning_rate=0.05
    )
    teacher, name = trainer.credit.teacher, "model.layers.0.self_attn.q_proj.weight"
    expected, follow = [dict(trainer.model.named_parameters())[name].detach().clone()], teacher._models.follow

    def watch(model, decay):
        policy = dict(trainer.model.named_parameters())[name].detach()
        expected.append(decay * expected[-1] + (1 - decay) * policy)
        follow(model, decay)

    teacher._models.follow = watch
    trainer.train()
    assert len(expected) == 4 and not torch.allclose(expected[0], expected[-1], atol=1e-3)
    assert torch.allclose(teacher.state_dict()[name], expected[-1], atol=1e-6)
    assert not torch.allclose(teacher.state_dict()[name], dict(trainer.model.named_parameters())[name], atol=1e-3)


def test_an_average_of_an_adapter_keeps_the_adapter_only(tmp_path):
    trainer = trainer_of(tmp_path, "credit=sdpo credit/teacher=ema", peft_config=LORA)
    names = trainer.credit.teacher.state_dict()
    assert names and all("lora_" in name for name in names)


def test_a_run_with_an_average_goes_on_from_a_checkpoint(tmp_path):
    words = "sdpo_mix credit/teacher=ema credit.teacher.decay=0.5 credit.teacher.context.success=0.1"
    goes_on_from_everywhere(grpo(credit=words, max_steps=4), tmp_path, 4, cuts=[2])


@pytest.mark.parametrize(
    ("words", "context", "said"),
    [
        ("credit=sdpo", long, "max_position_embeddings"),
        ("credit=sdpo", lambda *five: 7, "returned int for row 0"),
    ],
)
def test_what_a_teacher_cannot_read_is_told_at_the_first_batch(tmp_path, words, context, said):
    trainer = trainer_of(tmp_path, words)
    trainer.credit.teacher.context = context
    with pytest.raises(ValueError, match=said):
        trainer.train()


def test_another_model_without_a_name_is_refused_before_it_would_be_loaded(tmp_path):
    with pytest.raises(ValueError, match=r"credit\.teacher\.name=<folder or hub id>"):
        trainer_of(tmp_path, "credit=opd")


def test_a_closed_vocabulary_reads_what_it_can_write_of_a_context():
    """As the embedded default's, which has no unknown token; a text of which nothing is left is refused."""
    told = SimpleNamespace(processing_class=closed_tokenizer(["4", "+", "=", "<think>", "</think>"]))
    expected = told.processing_class("4+4=<think>4</think>")["input_ids"]
    assert context_ids("4+4=\nAnswer:\n<think>4</think>\n", told) == expected and len(expected) == 7
    with pytest.raises(ValueError, match="no token at all"):
        context_ids("Answer", told)
