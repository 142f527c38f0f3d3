"""Rewards that ask for the reference policy's likelihood (`reference_logp`): collected from TRL's pass for the KL term."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig

from rewards.compose import parts_of
from rewards.likelihood import REFERENCE
from trainers.seam.visit import Scoring


def reads_reference(reward: Any) -> bool:
    """Whether the reward, or a part of it, has a parameter `reference_logp`."""
    for part in parts_of(reward):
        try:
            if REFERENCE in inspect.signature(part).parameters:
                return True
        except (TypeError, ValueError):
            continue
    return False


def refuse_without_reference(rewards: Sequence[Callable], args: Any) -> None:
    """Raises ValueError where a reward asks for a likelihood that there is not, or that does not stand still.

    `args` is a `trl.GRPOConfig`.
    """
    asking = [getattr(reward, "__name__", str(reward)) for reward in rewards if reads_reference(reward)]
    if not asking:
        return
    rules = (
        (
            not args.beta > 0,
            f"trainer.beta={args.beta:g} means no reference policy, and without a KL penalty the best policy writes one text, the "
            "likeliest. Set trainer.beta=tau/(1-tau), e.g. trainer.beta=1 for the sequence temperature 0.5, and "
            "credit.kl_in_reward=true",
        ),
        (
            args.sync_ref_model,
            "trainer.sync_ref_model=true moves the reference, so that what is rewarded would follow the policy. Set it to false",
        ),
        (
            args.mask_truncated_completions,
            "trainer.mask_truncated_completions=true hides texts that reach the limit from the reference. Set it to false: such a "
            "text has a likelihood like any other",
        ),
    )
    for broken, reason in rules:
        if broken:
            raise ValueError(f"The reward {asking[0]!r} is the reference policy's likelihood: {reason}.")


def note_of_target(rewards: Sequence[Callable], weights: Sequence[float], args: Any, kl_in_reward: bool) -> str | None:
    """A line for the announcement: which distribution the run heads for; None where no reward asks for a likelihood."""
    shares = [weight for reward, weight in zip(rewards, weights, strict=True) if reads_reference(reward)]
    if not shares or not args.beta > 0:
        return None
    alpha = 1 + sum(shares) / args.beta
    tau = (
        f"sequence temperature {1 / alpha:.3g}"
        if alpha > 0
        else "likely texts are avoided: is the negative weight meant?"
    )
    line = f"target   p^alpha of the start, alpha = 1 + weight/beta = {alpha:.4g} ({tau})"
    if len(shares) < len(rewards):
        line += ", tilted by the other rewards"
    if args.temperature != 1.0:
        line += f", p being the start at token temperature {args.temperature:g}"
    if not kl_in_reward:
        line += "; near it only: TRL's KL term leads elsewhere, credit.kl_in_reward=true does not"
    return line


class ReferenceReward:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods."""

    _reads_reference = False

    def _note_rewards(self, rewards: Sequence[Callable], config: Any) -> None:
        """Before TRL's `__init__`, with its arguments.

        Raises:
            ValueError: see `refuse_without_reference`.
        """
        self._reads_reference = any(map(reads_reference, rewards))
        if self._reads_reference:
            refuse_without_reference(rewards, config or GRPOConfig("unused", report_to="none"))

    def _with_reference(
        self, inputs: list[dict], completion_ids: list[list[int]], scoring: Scoring
    ) -> list[dict[str, Any]]:
        """The rows with log p of each completion under the reference, if a reward asks for it. At this time the last pass that
        TRL has made is the reference's."""
        if not self._reads_reference:
            return inputs
        logps_B = row_sums(scoring.passes[-1].logps_BT, completion_ids)
        return [row | {REFERENCE: value} for row, value in zip(inputs, logps_B.tolist(), strict=True)]

    def _refuse_tools(self) -> None:
        """Raises ValueError where others write into completions: their tokens have no likelihood."""
        writers = ("tools", "environments", "environment_factories")
        if self._reads_reference and any(getattr(self, name, None) for name in writers):
            raise ValueError(
                "A reward asks for the reference policy's likelihood of whole completions, and tools or an environment write into "
                "them. Leave one of the two out."
            )


def row_sums(logps_BT: Tensor, completion_ids: list[list[int]]) -> Tensor:
    """(B,) sums over each row's own tokens, in double."""
    lengths_B = torch.tensor([len(ids) for ids in completion_ids], device=logps_BT.device)
    there_BT = torch.arange(logps_BT.shape[1], device=logps_BT.device) < lengths_B[:, None]
    return logps_BT.double().masked_fill(~there_BT, 0.0).sum(dim=1)
