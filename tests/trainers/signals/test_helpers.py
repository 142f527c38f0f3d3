"""Helpers of the rows: other contexts, other models, other texts, more text. Each against a plain computation."""

from __future__ import annotations

import copy

import pytest
import torch

from credit import Strategy, provides
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.tiny import tiny_model, tiny_tokenizer
from trainers.run.progress import EXTRA_TOKENS
from trainers.signals.copies import follow, unpatched

TEMPERATURE = 0.7
ROLLOUTS = made_rollouts(1)


class Asking:
    """A provider that does one thing with the rows and keeps what came of it."""

    provides = provides(x_B="x")(lambda rows: {}).provides

    def __init__(self, act, prepare=None):
        self.act, self.made, self.seen, self._prepare = act, None, None, prepare

    def prepare(self, models):
        self.made = self._prepare(models) if self._prepare else None

    def __call__(self, rows):
        self.seen = self.act(rows, self.made)
        return {"x_B": torch.zeros(len(rows.mask_BT))}


def member(mask_BT, x_B):
    return mask_BT / len(mask_BT)


def trainer_of(tmp_path, act, prepare=None, model=None, **options):
    asking = Asking(act, prepare)
    options = dict(temperature=TEMPERATURE) | options
    strategy = Strategy(member, signals=[asking])
    trainer = replay_trainer(model or tiny_model(), tiny_tokenizer(), ROLLOUTS, strategy, str(tmp_path), **options)
    return trainer, asking


def asked(tmp_path, act, prepare=None, **options):
    trainer, asking = trainer_of(tmp_path, act, prepare, **options)
    trainer.train()
    return asking.seen


def plain_logps(model, context: list[int], completion: list[int]) -> list[float]:
    with torch.no_grad():
        logits_SV = model.eval()(torch.tensor([[*context, *completion]])).logits[0] / TEMPERATURE
    logps_SV = logits_SV.log_softmax(-1)
    return [float(logps_SV[len(context) - 1 + t, token]) for t, token in enumerate(completion)]


CONTEXTS = [[3 + b % 5, 4, 5 + b % 3][: 1 + b % 3] for b in range(16)]


@pytest.mark.parametrize("other", [False, True])
def test_completions_after_other_prompts(tmp_path, other):
    """Under the policy by TRL's pass, under another model by a plain one: the same numbers as a row at a time without padding."""
    teacher = tiny_model(seed=5)

    def act(rows, model):
        contexts = [None if b == 3 else ids for b, ids in enumerate(CONTEXTS)]
        return rows.logps_after(contexts, teacher if other else None)

    found_BT = asked(tmp_path, act)
    model = teacher if other else tiny_model()
    for b, ids in enumerate(ROLLOUTS.completion_ids):
        if b == 3:
            assert found_BT[b].isnan().all()
            continue
        assert found_BT[b, : len(ids)].tolist() == pytest.approx(plain_logps(model, CONTEXTS[b], list(ids)), abs=2e-5)


def test_after_their_own_prompts_they_are_what_the_policy_said(tmp_path):
    def act(rows, model):
        return rows.logps_after(rows.prompt_ids) - rows.policy_pass("logps").logps_BT, rows.mask_BT

    difference_BT, mask_BT = asked(tmp_path, act)
    assert difference_BT[mask_BT].abs().max() < 1e-5


def test_a_text_and_its_token_ids_are_one_context(tmp_path):
    def act(rows, model):
        return rows.logps_after(["a b"] * 16), rows.logps_after([tiny_tokenizer()("a b")["input_ids"]] * 16)

    by_text_BT, by_ids_BT = asked(tmp_path, act)
    assert torch.equal(by_text_BT, by_ids_BT)


@pytest.mark.parametrize(
    ("contexts", "said"),
    [
        ([[3] * 70] * 16, "max_position_embeddings"),
        ([[3]] * 15, "15 contexts for 16 rows"),
        ([7.5] * 16, "a context must be a text"),
        ([{"role": "user"}] * 16, "a context must be a text"),
        ([""] * 16, "no token at all"),
    ],
)
def test_contexts_that_cannot_be_are_refused_with_words(tmp_path, contexts, said):
    with pytest.raises(ValueError, match=said):
        asked(tmp_path, lambda rows, model: rows.logps_after(contexts))


def moved(trainer):
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1)


def test_a_copy_of_the_policy_stays_where_it_was_and_follows_when_told(tmp_path):
    trainer, asking = trainer_of(tmp_path, lambda rows, model: None, lambda models: models.copy_of_policy())
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        before = asking.made(ids).logits
        moved(trainer)
        after = trainer.model.eval()(ids).logits
        assert torch.equal(asking.made(ids).logits, before) and not torch.allclose(before, after)
        assert not any(parameter.requires_grad for parameter in asking.made.parameters())
        follow(asking.made, trainer.model, 0.0)
        assert torch.allclose(asking.made(ids).logits, after)


def test_a_plain_deepcopy_calls_what_it_was_copied_from():
    """The trap, of which `unpatched` is the cure: TRL and accelerate put a `forward` on the instance that holds the old one."""
    model = tiny_model().eval()
    old = model.forward
    model.forward = lambda *args, **kwargs: old(*args, **kwargs)
    naive, ours, ids = copy.deepcopy(model), unpatched(model), torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        before = model(ids).logits
        for parameter in model.parameters():
            parameter.add_(0.1)
        assert torch.equal(naive(ids).logits, model(ids).logits)
        assert torch.equal(ours(ids).logits, before)


def test_a_model_of_a_folder_reads_the_policys_tokens(tmp_path):
    tiny_model(seed=5).save_pretrained(tmp_path / "teacher")
    tiny_model(vocab_size=8).save_pretrained(tmp_path / "small")

    def act(rows, model):
        return rows.logps_after(rows.prompt_ids, model)

    found_BT = asked(tmp_path, act, lambda models: models.load(str(tmp_path / "teacher")))
    ids = list(ROLLOUTS.completion_ids[0])
    expected = plain_logps(tiny_model(seed=5), list(ROLLOUTS.prompt_ids[0]), ids)
    assert found_BT[0, : len(ids)].tolist() == pytest.approx(expected, abs=2e-5)
    with pytest.raises(ValueError, match="knows 8 tokens and the policy's tokenizer 11"):
        trainer_of(tmp_path, act, lambda models: models.load(str(tmp_path / "small")))


def test_other_texts_are_scored_by_the_runs_rewards(tmp_path):
    """The rewards of the replay depend on the row alone, whatever the text."""
    texts = [None if b == 2 else "a b" for b in range(16)]
    found_B = asked(tmp_path, lambda rows, model: rows.score(texts))
    expected = [float("nan") if b == 2 or reward is None else reward for b, reward in enumerate(ROLLOUTS.rewards)]
    assert found_B.tolist() == pytest.approx(expected, nan_ok=True)
    with pytest.raises(ValueError, match="2 texts for 16 rows"):
        asked(tmp_path, lambda rows, model: rows.score(["a", "b"]))
    with pytest.raises(ValueError, match="a str or None, got int"):
        asked(tmp_path, lambda rows, model: rows.score([3] * 16))


def test_the_policy_goes_on_from_prefixes_and_its_tokens_count(tmp_path):
    trainer, asking = trainer_of(
        tmp_path, lambda rows, model: rows.continue_from([[3, 4]] * 16), max_completion_length=5
    )
    trainer.train()
    assert len(asking.seen) == 16 and all(1 <= len(ids) <= 3 for ids in asking.seen)
    logged = [row[EXTRA_TOKENS] for row in trainer.state.log_history if EXTRA_TOKENS in row]
    assert logged == [float(sum(map(len, asking.seen)))]
