"""What a provider of signals is asked with in the plain loop (trainers/loop.py): the twin of trainers/signals/rows.py.

Shapes: S tokens of prompt and completion, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from credit.batch import Rollout
from credit.signals import Rows, TokenStatistics, ask
from credit.strategy import Strategy


def plain_signals(
    strategy: Strategy, model: Any, batch: Any, rollout: Rollout, temperature: float, reference: Any = None
) -> dict[str, Tensor]:
    """What the providers make of a batch, by name. `batch`: a `trainers.loop.Batch`. `reference`: the model as it was at first."""
    rows, made = PlainRows(model, batch, rollout, temperature, reference), {}
    for provider, wanted in strategy.makers():
        rows.wanted = wanted
        made |= ask(provider, rows, wanted)
    return made


class PlainRows(Rows):
    """As `credit.signals.Rows`, of one process; the policy's forward pass is a plain one."""

    def __init__(self, model: Any, batch: Any, rollout: Rollout, temperature: float, reference: Any = None):
        self._reference, self._model, self._batch, self._rollout, self._temperature = (
            reference,
            model,
            batch,
            rollout,
            temperature,
        )
        self.max_length, self.columns = rollout.max_length, {}
        self.mask_BT, self.written_BT, self.token_ids_BT = rollout.mask_BT, batch.written_BT, batch.token_ids_BT
        self.rewards_B, self.rewards_BK, self.group_B = rollout.rewards_B, rollout.rewards_BK, rollout.group_B
        pairs = zip(batch.prompt_ids_BP, batch.prompt_mask_BP, strict=True)
        self.prompt_ids = [ids[mask.bool()].tolist() for ids, mask in pairs]

    def policy_pass(self, *statistics: str) -> TokenStatistics:
        return self._pass(self._model)

    def reference_logps(self) -> Tensor:
        return self._pass(self._reference).logps_BT  # type: ignore[return-value]

    @torch.no_grad()
    def _pass(self, model: Any) -> TokenStatistics:
        batch, width = self._batch, self.token_ids_BT.shape[1]
        tokens_BS = torch.cat([batch.prompt_ids_BP, batch.token_ids_BT], dim=1)
        read_BS = torch.cat([batch.prompt_mask_BP, batch.written_BT], dim=1).long()
        logits_BSV = model(tokens_BS, attention_mask=read_BS, use_cache=False).logits[:, -width - 1 : -1]
        logps_BTV = (logits_BSV / self._temperature).log_softmax(dim=-1)
        probs_BTV = logps_BTV.exp()
        taken_BT = logps_BTV.gather(-1, batch.token_ids_BT[..., None]).squeeze(-1)
        return TokenStatistics(taken_BT, -(probs_BTV * logps_BTV).sum(dim=-1), probs_BTV.square().sum(dim=-1))

    def state_keys(self) -> None:
        """No environment writes into these rows."""

    def finished(self) -> Tensor:
        ends = self._model.config.eos_token_id
        ends = torch.tensor(ends if isinstance(ends, list) else [ends])
        last_B1 = (self.written_BT.sum(dim=1, keepdim=True) - 1).clamp(min=0)
        return torch.isin(self.token_ids_BT.gather(1, last_B1)[:, 0], ends) & self.written_BT.any(dim=1)

    def span_rewards(self) -> Tensor:
        assert self._rollout.span_rewards_BT is not None
        return self._rollout.span_rewards_BT
