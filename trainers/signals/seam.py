"""Where providers of signals meet `CreditGRPOTrainer`: asked before scoring, their signals gathered from all ranks, and dealt out
again with the rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from credit.signals import ask, statistics_of
from rewards.guard import check_failures
from trainers.run.progress import EXTRA_TOKENS
from trainers.seam.by_turn import knows_turns, rewards_by_turn
from trainers.seam.visit import SIGNAL, Pass, Scoring
from trainers.signals.models import TrainerModels
from trainers.signals.rescoring import completions_of, weighted
from trainers.signals.rows import TrainerRows
from trainers.signals.statistics import catching_sum_sq


class SignalSeam:
    """Mixin of `CreditGRPOTrainer`, before TRL's trainer in the order of methods."""

    # ---- forward passes while a batch is scored

    @property
    def _statistics(self) -> frozenset[str]:
        """What the policy's pass is to yield for the providers that are asked."""
        return frozenset() if self.credit is None else statistics_of(self.credit.makers())

    @contextmanager
    def _catching_statistics(
        self, model: Any, scoring: Scoring | None, width: int, kwargs: dict
    ) -> Iterator[list[Tensor]]:
        """Around a forward pass at scoring time (`scoring` is None at other times): sums of squares, chunk by chunk, and entropies
        by way of `kwargs`. Of the first pass of the policy only: what comes after it is the reference's, or asked for by itself."""
        asked: frozenset[str] = frozenset()
        if scoring is not None and model is self.model and not scoring.looked_at:
            asked, scoring.looked_at = self._statistics | scoring.asked, True
        if "entropies" in asked:
            kwargs["compute_entropy"] = True
        if "sum_sq" not in asked:
            yield []
            return
        in_float32 = getattr(self.args, "cast_lm_head_to_fp32", False)
        policy = self.accelerator.unwrap_model(self.model)
        with catching_sum_sq(policy, width, self.temperature, in_float32) as sums:
            yield sums

    def sampler_statistics(self, output: dict, scoring: Scoring, asked: frozenset[str]) -> Pass:
        """A pass of the policy that sampled with all that is asked; a pass more where the shared one has not got it."""
        if scoring.sampler is None or not scoring.sampler.has(asked):
            scoring.looked_at, scoring.asked = False, scoring.asked | asked
            scoring.sampler = self._one_more_pass(output, scoring)
        return scoring.sampler

    # ---- from the providers to the strategy

    def _provided(self, output: dict, scoring: Scoring, rewards_B: Tensor, num_generations: int) -> dict[str, Tensor]:
        """(B, ...) what the providers make of the rows of all ranks, by name."""
        started, found = time.perf_counter(), {}
        rows = TrainerRows(self, output, scoring, rewards_B, num_generations)
        makers = self.credit.makers(self._wanted_of_critic)
        with self._together():
            for provider, wanted in makers:
                rows.wanted = wanted
                found |= ask(provider, rows, wanted)
        found = {name: self._gather_tokens(found[name], self.credit.meaning_of(name).padding) for name in sorted(found)}
        mode = "train" if self.model.training else "eval"
        read = torch.tensor(scoring.read_tokens, device=rewards_B.device)
        read = self.accelerator.reduce(read).item() if makers else 0
        if read:
            self._metrics[mode]["credit/answer_tokens"].append(float(read))
        if self._statistics or self.credit.providers or read:
            self._metrics[mode]["credit/signal_time"].append(time.perf_counter() - started + scoring.seconds)
        return found

    def _known_by_turn(self, scoring: Scoring, provided: dict[str, Tensor]) -> Tensor | None:
        """(B, T) what turns earned, of all ranks, where no strategy reads it and it is known all the same; for metrics."""
        if "turn_rewards_BT" in provided or scoring.settled or not knows_turns(self):
            return None
        return self._gather_tokens(rewards_by_turn(self, scoring)[1])

    def _count_extra(self, scoring: Scoring) -> None:
        """Appends to the metrics what the ranks have written beyond the batch, once for each batch: zeros are part of the mean."""
        refills = self.refill and self.model.training
        if not refills and (self.credit is None or not self.credit.makers(self._wanted_of_critic)):
            return
        written = self.accelerator.reduce(torch.tensor(scoring.extra_tokens, device=self.accelerator.device)).item()
        if written or refills:
            self._metrics["train" if self.model.training else "eval"][EXTRA_TOKENS].append(float(written))

    def scores_of(self, texts: Sequence[str | None], scoring: Scoring) -> Tensor:
        """(B,) rewards of texts in the place of this rank's completions. Called on all ranks."""
        prompts, tokenizer = scoring.prompts, getattr(self.processing_class, "tokenizer", self.processing_class)
        completions = completions_of(texts, prompts)
        ids = [tokenizer(text or "", add_special_tokens=False)["input_ids"] for text in texts]
        inputs = self._with_openings(scoring.rows, prompts)
        rewards_BK = super()._calculate_rewards(inputs, prompts, completions, ids)
        check_failures(self.reward_funcs, gather_object)
        first = self.accelerator.process_index * len(texts)
        return weighted(rewards_BK[first : first + len(texts)], self.reward_weights)

    def _prepare_providers(self) -> None:
        """Once, when the policy is built and placed."""
        for provider, _ in [] if self.credit is None else self.credit.makers():
            if callable(prepare := getattr(provider, "prepare", None)):
                prepare(TrainerModels(self))

    @property
    def _wanted_of_critic(self) -> frozenset[str]:
        """A critic that looks at whole groups reads the tokens."""
        reads = self.critic is not None and self.critic.at_scoring
        return frozenset(["token_ids_BT"]) if reads else frozenset()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """What is raised inside on one rank ends all of them, before they wait for each other."""
        problem: Exception | None = None
        try:
            yield
        except Exception as error:
            problem = error
        if self.accelerator.num_processes > 1:
            words = gather_object([None if problem is None else f"{type(problem).__name__}: {problem}"])
            if problem is None and (first := next((each for each in words if each), None)):
                raise ValueError(f"On another process: {first}")
        if problem is not None:
            raise problem

    def _riding(self, provided: dict[str, Tensor]) -> dict[str, Tensor]:
        """What members in the loss ask for, keyed for TRL's batch dict."""
        return {SIGNAL + name: provided[name] for name in sorted(self.credit.live_needs & set(provided))}

    def _ridden(self, inputs: dict) -> dict[str, Tensor]:
        """And back, for one micro-batch."""
        return {key.removeprefix(SIGNAL): value for key, value in inputs.items() if key.startswith(SIGNAL)}
