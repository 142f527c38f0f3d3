"""What a provider of signals is asked with in the plain loop (trainers/loop.py): the twin of trainers/signals/rows.py.

Shapes: S tokens of prompt and completion, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from credit.batch import Rollout
from credit.signals import Models, Rows, TokenStatistics, ask
from credit.strategy import Strategy
from trainers.signals.answers import reads_of, refuse_too_long_answers, tail_of, texts_of_tokens
from trainers.signals.contexts import after, context_ids, plain_logps, refuse_too_long
from trainers.signals.copies import follow, frozen
from trainers.signals.learners import Learner


def plain_signals(strategy: Strategy, rows: PlainRows) -> dict[str, Tensor]:
    """What the providers make of a batch, by name."""
    made = {}
    for provider, wanted in strategy.makers():
        rows.wanted = wanted
        made |= ask(provider, rows, wanted)
    return made


def prepare_providers(strategy: Strategy, model: Any) -> None:
    """Once, before the first batch: those that keep models beside the policy make them."""
    for provider, _ in strategy.makers():
        if callable(prepare := getattr(provider, "prepare", None)):
            prepare(PlainModels(model))


class PlainModels(Models):
    """As `credit.signals.Models`, beside a policy that nobody has patched."""

    def __init__(self, policy: Any):
        self._policy = policy

    def copy_of_policy(self) -> Any:
        return frozen(copy.deepcopy(self._policy))

    def load(self, name: str, **options: Any) -> Any:
        return frozen(AutoModelForCausalLM.from_pretrained(name, **{"dtype": self._policy.dtype} | options))

    def learner(self, learning_rate: float, max_grad_norm: float) -> Learner:
        names = [name for name, _ in self._policy.named_parameters()]
        return Learner(self.copy_of_policy(), names, learning_rate, max_grad_norm)

    def follow(self, model: Any, decay: float) -> None:
        follow(model, self._policy, decay)

    def hold_start(self) -> None:
        """`trainers.loop.train` copies the policy itself."""


class PlainRows(Rows):
    """As `credit.signals.Rows`, of one process; the policy's forward pass is a plain one.

    Args:
        reference: the policy as it was at first, or None. batch: a `trainers.loop.Batch`. asked: its rows of the data set.
    """

    def __init__(
        self,
        model: Any,
        reference: Any,
        batch: Any,
        rollout: Rollout,
        asked: list[dict],
        tokenizer: Any,
        temperature: float,
    ):
        self._model, self._reference, self._temperature = model, reference, temperature
        self._batch, self._rollout, self._tokenizer = batch, rollout, tokenizer
        self.max_length = rollout.max_length
        self.mask_BT, self.written_BT, self.token_ids_BT = rollout.mask_BT, batch.written_BT, batch.token_ids_BT
        self.rewards_B, self.rewards_BK, self.group_B = rollout.rewards_B, rollout.rewards_BK, rollout.group_B
        self.columns = batch.columns
        pairs = zip(batch.prompt_ids_BP, batch.prompt_mask_BP, strict=True)
        self.prompt_ids = [ids[mask.bool()].tolist() for ids, mask in pairs]
        self.prompts = [row["prompt"] for row in asked]
        self.columns = {name: [row.get(name) for row in asked] for name in asked[0] if name != "prompt"}

    @property
    def completions(self) -> list[str]:  # type: ignore[override]
        """Texts, as reward functions get them."""
        ids = [row[there].tolist() for row, there in zip(self.token_ids_BT, self.written_BT, strict=True)]
        return self._tokenizer.batch_decode(ids, skip_special_tokens=True)

    @torch.no_grad()
    def logps_after(self, contexts: Sequence[Any], model: Any = None) -> Tensor:
        told = SimpleNamespace(processing_class=self._tokenizer)
        pairs = zip(contexts, self.prompt_ids, strict=True)
        ids = [own if context is None else context_ids(context, told) for context, own in pairs]
        refuse_too_long(ids, self.written_BT, model or self._model)
        width, pad = self.token_ids_BT.shape[1], self._tokenizer.pad_token_id or 0
        tokens_BS, read_BS = after(ids, self.token_ids_BT, self.written_BT, pad)
        if model is None:
            logps_BT = self._statistics(self._model, tokens_BS, read_BS).logps_BT
        else:
            logps_BT = plain_logps(model, tokens_BS, read_BS, width, self._temperature)
        known_B = torch.tensor([context is not None for context in contexts])
        return logps_BT.masked_fill(~known_B[:, None], torch.nan)  # type: ignore[union-attr]

    @torch.no_grad()
    def answer_logps(
        self, cuts: Sequence[Sequence[int]], answers: Sequence[str | None], opening: str = "", model: Any = None
    ) -> tuple[Tensor, Tensor]:
        """One sequence after the other, none padded."""
        tails = [None if answer is None else tail_of(opening, answer, self._tokenizer) for answer in answers]
        reads = reads_of(self.prompt_ids, self.token_ids_BT.tolist(), cuts, tails)
        refuse_too_long_answers(reads, model or self._model)
        sums_BC = torch.full((len(cuts), max(1, *map(len, cuts))), torch.nan, dtype=self.rewards_B.dtype)
        for row, cut, before, answer in reads:
            logits_SV = (model or self._model)(torch.tensor([[*before, *answer]]), use_cache=False).logits[0]
            logps_SV = (logits_SV[len(before) - 1 : -1] / self._temperature).log_softmax(dim=-1)
            sums_BC[row, cut] = logps_SV.gather(1, torch.tensor(answer)[:, None]).sum()
        return sums_BC, torch.tensor([0 if tail is None else len(tail.answer) for tail in tails])

    def token_texts(self) -> list[list[str]]:
        return texts_of_tokens(self._tokenizer, self.token_ids_BT, self.written_BT)

    def gather(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def policy_pass(self, *statistics: str) -> TokenStatistics:
        return self._pass(self._model)

    def reference_logps(self) -> Tensor:
        return self._pass(self._reference).logps_BT  # type: ignore[return-value]

    def fit(self, learner: Any, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, float]:
        batch = self._batch
        tokens_BS = torch.cat([batch.prompt_ids_BP, batch.token_ids_BT], dim=1)
        read_BS = torch.cat([batch.prompt_mask_BP, batch.written_BT], dim=1).long()
        return learner.fit(loss, tokens_BS, read_BS, batch.token_ids_BT.shape[1], self._temperature, len(tokens_BS))

    @torch.no_grad()
    def _pass(self, model: Any) -> TokenStatistics:
        batch = self._batch
        tokens_BS = torch.cat([batch.prompt_ids_BP, batch.token_ids_BT], dim=1)
        read_BS = torch.cat([batch.prompt_mask_BP, batch.written_BT], dim=1).long()
        return self._statistics(model, tokens_BS, read_BS)

    def _statistics(self, model: Any, tokens_BS: Tensor, read_BS: Tensor) -> TokenStatistics:
        width = self.token_ids_BT.shape[1]
        logits_BSV = model(tokens_BS, attention_mask=read_BS, use_cache=False).logits[:, -width - 1 : -1]
        logps_BTV = (logits_BSV / self._temperature).log_softmax(dim=-1)
        probs_BTV = logps_BTV.exp()
        taken_BT = logps_BTV.gather(-1, self.token_ids_BT[..., None]).squeeze(-1)
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
