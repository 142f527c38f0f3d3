"""`CreditGRPOTrainer` with several strategies on the same completions: sampled once, rewarded once, credited by each in turn.

Nothing is trained. What a strategy makes of a batch is what it would make of it in a run: the trainer's own steps 3 and 4
(trainers/grpo.py), and TRL's own loss.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor
from trl.trainer.grpo_trainer import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from credit.signals import statistics_of
from trainers.audit.candidates import Candidate, turn_of
from trainers.audit.given.tokens import Deals, GivenRow, TakenTokens
from trainers.audit.leaf import LeafPass
from trainers.audit.still import still
from trainers.grpo import CreditGRPOTrainer
from trainers.seam.members import MemberStates
from trainers.seam.visit import Pass, Scoring, learning_mask

_OLD = "old_per_token_logps"


@dataclass
class Scored:
    """A generation batch and what each candidate made of it.

    Attributes:
        inputs: of each candidate TRL's batch dict of this rank, with its credit.
        mask_BT: of this rank, which tokens learn.
        rewards_B: of all ranks.
        lengths_B: of all ranks, tokens that learn.
        scoring_seconds: what all turns took.
    """

    inputs: list[dict[str, Any]]
    mask_BT: Tensor
    rewards_B: Tensor
    lengths_B: Tensor
    scoring_seconds: float = 0.0


class AuditTrainer(CreditGRPOTrainer, LeafPass):
    """Args:
        candidates: who credits; the first is sampled under, which no completion depends on.
        *args, **kwargs: as `CreditGRPOTrainer` without `credit`.

    Attributes:
        candidates: as given, their critics and members made.
        recorded: completions in the place of those that would be sampled; None: they are sampled.
    """

    recorded: Deals | None = None
    _drawn: list[TakenTokens] | None = None

    def __init__(self, *args, candidates: Sequence[Candidate], **kwargs):
        self.candidates = list(candidates)
        self._scored: list[dict[str, Any]] | None = None
        self._seed, self._learning = 0, False
        super().__init__(*args, credit=self.candidates[0].strategy, **kwargs)
        first, *others = self.candidates
        first.critic, first.members = self.critic, self.members
        for candidate in others:
            candidate.members = MemberStates(candidate.strategy)
            with turn_of(self, candidate):
                self._build_critic()
                candidate.critic = self.critic
                self._prepare_providers()
        self.current_gradient_accumulation_steps = self.args.gradient_accumulation_steps
        self.model.train()

    def add_callback(self, callback):
        """Nothing is trained, so a second of one kind (each candidate's critic brings one) would never be called."""
        if type(callback) not in map(type, self.callback_handler.callbacks):
            super().add_callback(callback)

    def put_policy(self, folder: Path) -> None:
        """The policy's weights, from where a run has saved them; what was made of the policy before stays as it is."""
        self._load_from_checkpoint(str(folder), self.accelerator.unwrap_model(self.model))

    # ---- one generation batch

    def scored(
        self, rows: list[dict[str, Any]], seed: int, extra: Sequence[Candidate] = (), learning: bool = False
    ) -> Scored:
        """Completions of these rows, and what all candidates and `extra` make of them. Call it on all ranks.

        seed: of everything that is drawn. learning: members and critics keep what they learn of this batch; else they are as they were
        before it.
        """
        self._seed, self._learning = seed, learning
        self._turns = [*self.candidates, *extra]
        self._scored, self._facts = [], {}
        self._drawn = [row.drawn for row in rows if isinstance(row, GivenRow)] or None
        self._draw()
        output = self._generate_and_score_completions(rows)
        inputs, self._scored = self._scored, None
        self._metrics["train"].clear()
        return Scored(inputs, learning_mask(output), **self._facts)

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        """What TRL samples once a batch. A provider that lets the policy write asks later."""
        drawn, self._drawn = self._drawn, None
        if drawn is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        return [list(one.ids) for one in drawn], None

    def _draw(self) -> None:
        """Everything random from here on follows from the seed of the batch, whoever had his turn before."""
        set_seed(self._seed + self.accelerator.process_index)

    def _score(self, output: dict, scoring: Scoring) -> dict:
        """In the place of one strategy's step 4: step 3 and 4 of each."""
        if self._scored is None:
            return super()._score(output, scoring)
        lengths_B = self._gather_tokens(scoring.mask_BT).sum(dim=1)
        weights_K = self.reward_weights.to(scoring.rewards_BK)
        rewards_B = (scoring.rewards_BK * weights_K).nansum(dim=1)
        rewards_B[scoring.rewards_BK.isnan().all(dim=1)] = torch.nan
        started = time.perf_counter()
        for candidate in self._turns:
            self._draw()
            own, seen = dict(output), self._seen_by(candidate, scoring, lengths_B)
            self._scoring = seen
            with turn_of(self, candidate), self._counting(candidate), self._keeping(candidate):
                old = (
                    own.pop(_OLD, None) if self._catches else None
                )  # TRL's pass for them was not watched for this critic
                self._note_sampler(own, seen)
                own |= {} if old is None else {_OLD: old}
                own.update(super()._score(own, seen))
            self._scored.append(own)
        self._scoring = scoring
        seconds = time.perf_counter() - started
        self._facts = {"rewards_B": rewards_B, "lengths_B": lengths_B, "scoring_seconds": seconds}
        return {}

    def _seen_by(self, candidate: Candidate, scoring: Scoring, lengths_B: Tensor) -> Scoring:
        """The same facts; another reward, where the candidate has one. Where rewards were earned is asked once for all rewards."""
        if candidate.of_length:
            return replace(scoring, rewards_BK=lengths_B[:, None].to(scoring.rewards_BK))
        return scoring if candidate.only is None else replace(scoring, span_rewards_BT=None)

    @contextmanager
    def _counting(self, candidate: Candidate) -> Iterator[None]:
        """What each reward function counts for this candidate."""
        before = self.reward_weights
        if candidate.of_length:
            self.reward_weights = torch.ones(1)
        elif candidate.only is not None:
            self.reward_weights = torch.zeros_like(before)
            self.reward_weights[candidate.only] = before[candidate.only]
        try:
            yield
        finally:
            self.reward_weights = before

    def _keeping(self, candidate: Candidate):
        """Around a turn of a candidate: whether it remembers it afterwards."""
        return nullcontext() if self._learning and candidate.learns else still(candidate)

    # ---- passes of the policy while a batch is scored: one for all who ask for the same

    @property
    def _statistics(self) -> frozenset[str]:
        return frozenset().union(*(statistics_of(candidate.strategy.makers()) for candidate in self.candidates))

    @property
    def _scores_values(self) -> bool:
        """A critic's values are made while the batch is scored, as no live pass is made for it afterwards."""
        return self.critic is not None and not self.critic.at_scoring

    def _one_more_pass(self, output: dict, scoring: Scoring) -> Pass:
        before = scoring.sampler
        if before is not None and not self._catches and before.has(self._statistics | scoring.asked):
            return before
        return super()._one_more_pass(output, scoring)

    @property
    def _catches(self) -> bool:
        """Whether a critic reads the hidden states of the policy's pass, which is then its own."""
        return self._scores_values_of_policy

    # ---- losses of some rows

    @property
    def blocks(self) -> int:
        """How many parts a generation batch is put through the policy in."""
        return self.args.steps_per_generation

    def blocks_of(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of a batch dict in their order, in as many parts as there are, as TRL splits them."""
        parts = split_tensor_dict(split_pixel_values_by_grid(inputs), self.blocks)
        return [unsplit_pixel_values_by_grid(part) for part in parts]

    def losses_of(self, candidate: Candidate, inputs: dict[str, Any]) -> Tensor:
        """(B, T) `coefficients_BT` of these rows under a candidate."""
        with turn_of(self, candidate), self._keeping(candidate):
            return self.coefficients_BT(inputs)

    def fit_on(self, inputs: dict[str, Any]) -> None:
        """The critic whose turn it is learns from these rows; the policy does not."""
        for part in self.blocks_of(inputs):
            with self.compute_loss_context_manager():
                self._compute_loss(self.model, part)
        self._metrics["train"].clear()

    def logps_BT(self, inputs: dict[str, Any]) -> Tensor:
        """(B, T) of the tokens of a batch dict under the policy as it is now, without gradient and without dropout."""
        self.model.eval()
        try:
            scoring = self._scoring = Scoring(looked_at=True)
            return super()._one_more_pass(inputs, scoring).logps_BT
        finally:
            self._scoring = None
            self.model.train()

    def _critic_states(self, visit, caught):
        """A critic has given its values already, and learns from whole batches (trainers/audit/warmup.py)."""
        return super()._critic_states(visit, caught) if self._learning else None

    @property
    def _policy_stands_still(self) -> bool:
        return False  # a critic's warm-up is over

    # ---- rows of the data set

    def batches_of_rows(self) -> Iterator[list[dict[str, Any]]]:
        """This rank's rows of one generation batch after the other, in the order of a run; the data set over and over. Of recorded
        completions: as they were dealt out, once."""
        if self.recorded is not None:
            yield from self.recorded.of_rank(self.accelerator.process_index, self.accelerator.num_processes)
            return
        every = self.args.steps_per_generation * self.num_iterations
        loader = self.get_train_dataloader()
        while True:
            found = False
            for number, rows in enumerate(loader):
                found = True
                if number % every == 0:
                    yield rows
            if not found:
                raise ValueError(
                    f"the training rows do not fill one generation batch of {self.args.generation_batch_size // self.num_generations} "
                    "prompts. Lower trainer.per_device_train_batch_size or trainer.gradient_accumulation_steps."
                )
