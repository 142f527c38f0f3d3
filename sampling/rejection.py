"""Exact rejection: independent draws from p_alpha, at a cost exponential in the length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.draws import Draws, check_counts, checked_request
from sampling.model import PAD, Model
from sampling.particles import Particles


@dataclass(frozen=True)
class Rejection:
    """Draws from q and accepts with probability prod_t Z_t / M. For alpha >= 1 every Z_t <= 1, so M = 1; for alpha < 1
    Z_t <= V^(1 - alpha), so M is that to the power of the longest length: for tiny limits only.

    The product only falls on the way, so the uniform number is drawn first and a text is given up at the very token
    where it becomes hopeless; the accepted texts are the same.

    Diagnostics: `acceptance_P` is the share of tried texts that were accepted, `log_normaliser_P` = log(acceptance) +
    log M; texts are independent, so `ess_P` = S.
    """

    max_tokens: int = 10_000_000
    """Give up (ValueError) once this many tokens were drawn (and texts begun) for one prompt."""
    max_rows: int = 256
    """Texts tried side by side. Accepted ones beyond what was asked are thrown away, in order of trial."""

    def __post_init__(self):
        check_counts(max_tokens=self.max_tokens, max_rows=self.max_rows)

    def __call__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        tau: float,
        num_samples: int,
        max_length: int,
        generator: torch.Generator | None = None,
    ) -> Draws:
        alpha = checked_request(model, prompts, tau, num_samples, max_length)
        found = [self._one(model, p, alpha, tau, num_samples, max_length, generator) for p in prompts]
        tokens, logps, accepted, tried, spent = zip(*found, strict=True)
        acceptance_P = torch.tensor(accepted, dtype=torch.float64) / torch.tensor(tried)
        log_bound = max_length * max(0.0, 1 - alpha) * math.log(model.vocab_size)
        return Draws(
            tokens_PST=torch.stack(tokens),
            logps_PS=torch.stack(logps),
            log_weights_PS=torch.zeros(len(prompts), num_samples),
            ess_P=torch.full((len(prompts),), float(num_samples)),
            ess_out_of=num_samples,
            acceptance_P=acceptance_P,
            log_normaliser_P=acceptance_P.log() + log_bound,
            tokens_per_sample=sum(spent) / (len(prompts) * num_samples),
        )

    def _one(self, model, prompt, alpha, tau, num_samples, max_length, generator):
        log_step_bound = max(0.0, 1 - alpha) * math.log(model.vocab_size)
        tokens, logps, kept, accepted, tried, spent = [], [], 0, 0, 0, 0
        while kept < num_samples:
            if spent + tried > self.max_tokens:
                raise ValueError(
                    f"Rejection accepted {kept} of {tried} texts after {spent} tokens (max_tokens={self.max_tokens}). "
                    f"Its cost grows exponentially with the length: lower max_length={max_length}, move tau={tau} "
                    "towards 1, or use sampler=smc or sampler=mh."
                )
            # As many as should do, by the acceptance so far: set before they are drawn, so the texts stay independent.
            wanted = (num_samples - kept) * 1.1 * (tried + 8) / (accepted + 1) + 8
            rows = torch.zeros(min(self.max_rows, math.ceil(wanted)), dtype=torch.long)
            grown = Particles(model, [prompt], rows, max_length, alpha)
            device = grown.log_z_NT.device
            log_u_N = torch.rand(len(rows), generator=generator, dtype=torch.float64, device=device).log()
            log_ratio_N = torch.zeros_like(log_u_N)
            lost_N = torch.zeros_like(log_u_N, dtype=torch.bool)
            for _ in range(max_length):
                # Ended texts pay the bound, too: M is the same for every length.
                log_ratio_N = log_ratio_N - log_step_bound
                if not grown.done:
                    log_ratio_N = log_ratio_N + grown.next_log_z()
                lost_N = log_ratio_N < log_u_N
                grown.drop(lost_N)
                if not grown.done:
                    grown.advance(generator)
            good: Tensor = (~lost_N).nonzero()[:, 0]
            accepted, tried, spent = accepted + len(good), tried + len(rows), spent + grown.spent
            good = good[: num_samples - kept]
            kept += len(good)
            tokens.append(grown.tokens_NT[good].cpu())
            logps.append(grown.logps_NT[good].sum(1).cpu())
        assert PAD not in torch.cat(tokens)[:, 0]
        return torch.cat(tokens), torch.cat(logps), accepted, tried, spent
