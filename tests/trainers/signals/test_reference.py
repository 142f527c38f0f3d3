"""The log-probs of the start: with and without a KL term, with and without an adapter; and what is copied for it."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from credit import Strategy
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.tiny import loaded, tiny_model, tiny_tokenizer
from trainers.model.adapters import REFERENCE

TEMPERATURE = 0.7
ROLLOUTS = made_rollouts(1)
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])


def member(mask_BT, ref_logps_BT, scoring_logps_BT):
    return mask_BT / len(mask_BT)


def spread(advantages_B, policy_logps_BT, ref_logps_BT):
    """Reads it in the loss."""
    return advantages_B[:, None] + ref_logps_BT


def expected(model, row: int) -> list[float]:
    context, completion = ROLLOUTS.prompt_ids[row // 4], ROLLOUTS.completion_ids[row]
    with torch.no_grad():
        logits_SV = model.eval()(torch.tensor([[*context, *completion]])).logits[0] / TEMPERATURE
    logps_SV = logits_SV.log_softmax(-1)
    return [float(logps_SV[len(context) - 1 + t, token]) for t, token in enumerate(completion)]


def adapted(kind: str):
    """(model, peft_config): a new adapter, or one that has been trained."""
    if kind == "new":
        return tiny_model(), LORA
    model = get_peft_model(tiny_model(), LORA)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
    return model, None


@pytest.mark.parametrize("kind", ["whole", "with KL", "new", "trained"])
def test_it_is_the_start_however_far_the_policy_has_come(tmp_path, kind):
    """Compared with a pass through the start by itself, a row at a time, after the policy has been moved."""
    if kind in ("new", "trained"):
        model, peft_config = adapted(kind)
    else:
        model, peft_config = (loaded(tmp_path / "tiny") if kind == "with KL" else tiny_model()), None
    start = tiny_model() if kind == "new" else model
    wanted = [expected(start, row) for row in range(16)]
    options = dict(beta=0.1) if kind == "with KL" else {}
    trainer = replay_trainer(
        model,
        tiny_tokenizer(),
        ROLLOUTS,
        Strategy(member, spread=spread),
        str(tmp_path / "run"),
        temperature=TEMPERATURE,
        peft_config=peft_config,
        **options,
    )
    trained = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2)
    seen = []
    trainer.credit_observers.append(lambda trainer, visit: seen.append((visit.inputs["completion_ids"], visit.signals)))
    trainer.train()
    assert [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad] == trained
    ids_BT, signals = seen[0]
    found_BT, mask_BT = signals["ref_logps_BT"], signals["mask_BT"]
    for ids_T, row_T, mask_T in zip(ids_BT, found_BT, mask_BT, strict=True):
        rows = [b for b, ids in enumerate(ROLLOUTS.completion_ids) if list(ids) == ids_T[mask_T].tolist()]
        own_T = row_T[mask_T]
        assert any(torch.allclose(own_T, torch.tensor(wanted[b]), atol=2e-5) for b in rows)
    assert not torch.allclose(found_BT[mask_BT], signals["policy_logps_BT"][mask_BT], atol=1e-2)
    assert (trainer.start is not None) == (kind == "whole")  # no second copy of the weights where one can do without
    if kind == "trained":
        assert REFERENCE in trainer.model.peft_config
        trainer.save_model(str(tmp_path / "saved"))
        assert not (tmp_path / "saved" / REFERENCE).exists()


def test_nothing_is_kept_where_nobody_asks(tmp_path):
    def without(mask_BT):
        return mask_BT / len(mask_BT)

    trainer = replay_trainer(tiny_model(), tiny_tokenizer(), ROLLOUTS, Strategy(without), str(tmp_path))
    assert trainer.start is None
