"""Sequential Monte Carlo, and self-normalised importance resampling as the case without resampling on the way.

Shapes: U runs of N particles each, K texts kept of each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.draws import (
    Draws,
    batches,
    check_counts,
    checked_request,
    effective_sample_size,
    local_prompts,
    log_mean,
)
from sampling.model import Model
from sampling.particles import Particles


@dataclass(frozen=True)
class SMC:
    """N particles per run grow by token temperature; weights are prod Z_t; when the effective sample size of a run
    falls below `threshold * N`, its particles are resampled (systematic) and their weights made equal.

    Z_t is known before x_t is drawn, so resampling comes before the draw. The product of the mean weights at the
    resampling times estimates Z without bias (adaptive times included: each resampling keeps every expectation). The
    returned texts are biased by O(1/N), as in importance resampling.

    Source: Del Moral, Doucet, Jasra, "On adaptive resampling strategies for SMC", Bernoulli 2012; weights: the identity
    in tempering.py.

    Diagnostics: `ess_P` is the mean final ESS of a prompt's runs, out of N; `log_normaliser_P` the log of the mean of
    their estimates; extras: `resamplings` per run and `distinct`, the mean share of different texts among a run's
    final particles (what degeneracy costs).
    """

    particles: int = 32
    """N, for each run."""
    threshold: float = 0.5
    """Resample when the effective sample size falls below this share of N; 0 never resamples (SNIS)."""
    keep: int = 1
    """Texts returned per run (systematic from the final weights). 1: returned texts are independent, at N texts' cost each.
    More shares a run among several, which are then dependent."""
    max_rows: int = 256
    """Rows in one batch."""

    def __post_init__(self):
        check_counts(particles=self.particles, keep=self.keep, max_rows=self.max_rows)
        if not isinstance(self.threshold, int | float) or not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold} is a share of the particles, between 0 and 1.")

    def check(self, num_samples: int) -> None:
        """Raises ValueError for a number of texts that runs cannot share out."""
        if num_samples % self.keep:
            raise ValueError(f"num_samples={num_samples} must be a multiple of keep={self.keep}, the texts per run.")

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
        self.check(num_samples)
        runs = num_samples // self.keep
        units = [p for p in range(len(prompts)) for _ in range(runs)]
        found = [
            self._run(
                model, [prompts[units[i]] for i in batch], [units[i] for i in batch], max_length, alpha, generator
            )
            for batch in batches(len(units), self.particles, self.max_rows)
        ]
        tokens, logps, log_z, ess, resamplings, distinct, spent = zip(*found, strict=True)
        shape = (len(prompts), num_samples)
        per_run = (len(prompts), runs)
        return Draws(
            tokens_PST=torch.cat(tokens).view(*shape, max_length),
            logps_PS=torch.cat(logps).view(shape),
            log_weights_PS=torch.zeros(shape),
            ess_P=torch.cat(ess).view(per_run).mean(1),
            ess_out_of=self.particles,
            acceptance_P=torch.full((len(prompts),), torch.nan),
            log_normaliser_P=log_mean(torch.cat(log_z).view(per_run)),
            tokens_per_sample=sum(spent) / (len(prompts) * num_samples),
            extras={
                "resamplings": torch.cat(resamplings).view(per_run).mean(1),
                "distinct": torch.cat(distinct).view(per_run).mean(1),
            },
        )

    def _run(self, model, prompts, prompt_of_U, max_length, alpha, generator):
        """U independent runs side by side, particle n of run u in row u * N + n."""
        runs, count = len(prompt_of_U), self.particles
        distinct, slot_U = local_prompts(prompt_of_U)
        texts = {p: prompts[i] for i, p in enumerate(prompt_of_U)}
        grown = Particles(model, [texts[p] for p in distinct], slot_U.repeat_interleave(count), max_length, alpha)
        log_w_UN = torch.zeros_like(grown.log_z_NT[:, 0]).view(runs, count)
        log_z_U = torch.zeros_like(log_w_UN[:, 0])
        resamplings_U = torch.zeros_like(log_z_U)
        while not grown.done:
            log_w_UN = log_w_UN + grown.next_log_z().view(runs, count)
            poor_U = effective_sample_size(log_w_UN) < self.threshold * count * (1 - 1e-9)
            if bool(poor_U.any()):
                ancestor_UN = systematic(log_w_UN, count, generator)
                stay_UN = torch.arange(count, device=ancestor_UN.device).expand(runs, count)
                ancestor_UN = torch.where(poor_U[:, None], ancestor_UN, stay_UN)
                first_U1 = torch.arange(runs, device=ancestor_UN.device)[:, None] * count
                grown.select((ancestor_UN + first_U1).reshape(-1))
                log_z_U = log_z_U + torch.where(poor_U, log_mean(log_w_UN), 0.0)
                log_w_UN = torch.where(poor_U[:, None], 0.0, log_w_UN)
                resamplings_U = resamplings_U + poor_U
            grown.advance(generator)
        chosen_UK = systematic(log_w_UN, self.keep, generator)
        if self.keep > 1:  # systematic picks come in particle order; nobody should read anything into it
            chosen_UK = chosen_UK[:, torch.randperm(self.keep, generator=generator, device=chosen_UK.device)]
        rows = (chosen_UK + torch.arange(runs, device=chosen_UK.device)[:, None] * count).reshape(-1)
        text_UN = torch.unique(grown.tokens_NT, dim=0, return_inverse=True)[1].view(runs, count).sort(1).values
        distinct_U = (1 + (text_UN.diff(dim=1) != 0).sum(1)).to(log_z_U.dtype) / count
        return (
            grown.tokens_NT[rows].cpu(),
            grown.logps_NT.sum(1)[rows].cpu(),
            (log_z_U + log_mean(log_w_UN)).cpu(),
            effective_sample_size(log_w_UN).cpu(),
            resamplings_U.cpu(),
            distinct_U.cpu(),
            grown.spent,
        )


@dataclass(frozen=True)
class SNIS(SMC):
    """Self-normalised importance resampling: N whole texts from q, one of them returned with probability proportional
    to its weight prod_t Z_t. Bias O(1/N), consistent. SMC that never resamples on the way."""

    threshold: float = 0.0


def systematic(log_weights_UN: Tensor, draws: int, generator: torch.Generator | None = None) -> Tensor:
    """(U, draws) ancestors by systematic resampling: one uniform offset per run, `draws` equally spaced points.
    Particle n gets floor or ceil of draws * w_n copies, draws * w_n in expectation. In particle order."""
    cumulated_UN = log_weights_UN.double().softmax(-1).cumsum(-1)
    shape, device = (len(log_weights_UN), 1), log_weights_UN.device
    offset_U1 = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
    points_UK = (torch.arange(draws, device=device) + offset_U1) / draws
    return torch.searchsorted(cumulated_UN / cumulated_UN[:, -1:], points_UK, right=True).clamp(
        max=log_weights_UN.shape[1] - 1
    )
