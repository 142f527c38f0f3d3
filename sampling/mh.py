"""Metropolis-Hastings over suffixes, in the form that leaves p_alpha invariant, and power sampling on top of it.

Shapes: M steps of a chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.draws import Draws, batches, check_counts, checked_request, local_prompts, log_mean
from sampling.model import Model
from sampling.particles import Particles


@dataclass(frozen=True)
class SuffixMH:
    """Chains over complete texts. One step: draw a cut k, throw away the tokens from k on, draw a new suffix from q,
    accept with min(1, prod_{t>=k} Z_t(x') / Z_t(x)).

    k is uniform over 0..limit-1 whatever the length of the text; a text that has ended before k stays as it is. The
    proposal runs to the full limit. Capping it at the current length, as in the code published with power sampling, is
    not invariant once end tokens shorten texts; this form is, to rounding.

    With `blocks` > 1 it is power sampling: the limit grows block by block up to `max_length`, and each block starts
    from the last one's texts, extended by q, and runs its `steps` for texts that stop at its own limit. The last
    block's target is p_alpha.

    Chains of one batch share their cuts (each chain on its own is the chain above), so their cache is cut at one position:
    the kept part is never encoded again, but for its last token.

    Source: Karan and Du, "Reasoning with sampling", arXiv 2510.14901, algorithm 1, with the correction above.

    Diagnostics: `acceptance_P` over proposals that changed something; `ess_P`: steps of the last block's chains over
    their integrated autocorrelation time in log p, out of `steps`; `log_normaliser_P`: importance estimate from the
    texts drawn afresh (blocks = 1; NaN otherwise). Mixing from a token-tempered start can be slow: extras
    `first_quarter_log_p` and `last_quarter_log_p` are the mean log p early and late in the last block; when they
    differ by more than their noise, run longer.
    """

    steps: int = 32
    """Proposals in each block."""
    blocks: int = 1
    """1 is plain Metropolis-Hastings."""
    max_rows: int = 256
    """Chains in one batch."""

    def __post_init__(self):
        check_counts(0, steps=self.steps)
        check_counts(blocks=self.blocks, max_rows=self.max_rows)

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
        units = [p for p in range(len(prompts)) for _ in range(num_samples)]
        tokens, logps, log_w, proposed, accepted, traces, spent = [], [], [], [], [], [], 0
        for batch in batches(len(units), 1, self.max_rows):
            distinct, rows = local_prompts([units[i] for i in batch])
            chain = _Chains(Particles(model, [prompts[i] for i in distinct], rows, max_length, alpha, keep_ended=True))
            for limit in _limits(max_length, self.blocks):
                chain.extend(limit, generator)
                log_w.append(chain.at.log_z_NT.sum(1).cpu())
                trace = [chain.at.logps_NT.sum(1).cpu()]
                for _ in range(self.steps):
                    chain.step(limit, generator)
                    trace.append(chain.at.logps_NT.sum(1).cpu())
            tokens.append(chain.at.tokens_NT.cpu())
            logps.append(trace[-1])
            traces.append(torch.stack(trace, 1))
            proposed.append(chain.proposed_N.cpu())
            accepted.append(chain.accepted_N.cpu())
            spent += chain.spent
        shape = (len(prompts), num_samples)
        trace_PSM = torch.cat(traces).view(*shape, -1)
        quarter = max(1, trace_PSM.shape[-1] // 4)
        unknown_P = torch.full((len(prompts),), torch.nan)
        return Draws(
            tokens_PST=torch.cat(tokens).view(*shape, max_length),
            logps_PS=torch.cat(logps).view(shape),
            log_weights_PS=torch.zeros(shape),
            ess_P=self.steps / autocorrelation_time(trace_PSM[..., 1:]) if self.steps else unknown_P,
            ess_out_of=self.steps,
            acceptance_P=torch.cat(accepted).view(shape).sum(1) / torch.cat(proposed).view(shape).sum(1).clamp(min=1),
            log_normaliser_P=log_mean(torch.cat(log_w).view(shape)) if self.blocks == 1 else unknown_P,
            tokens_per_sample=spent / len(units),
            extras={
                "first_quarter_log_p": trace_PSM[..., :quarter].mean((1, 2)),
                "last_quarter_log_p": trace_PSM[..., -quarter:].mean((1, 2)),
            },
        )


@dataclass(frozen=True)
class PowerSampling(SuffixMH):
    """Blockwise Metropolis-Hastings: 16 blocks of 10 steps, as published."""

    steps: int = 10
    blocks: int = 16


class _Chains:
    """The current texts of a batch of chains, and what moving them has cost."""

    def __init__(self, start: Particles):
        self.at = start
        self.spent = 0
        self.proposed_N = torch.zeros_like(start.alive_N, dtype=torch.float64)
        self.accepted_N = torch.zeros_like(self.proposed_N)

    def extend(self, limit: int, generator) -> None:
        before = self.at.spent
        _grow(self.at, limit, generator)
        self.spent += self.at.spent - before

    def step(self, limit: int, generator) -> None:
        device = self.at.tokens_NT.device
        k = int(torch.randint(limit, (1,), generator=generator, device=device))
        moving_N = self.at.lengths_N > k
        if not bool(moving_N.any()):
            return
        proposal = _grow(self.at.cut(k), limit, generator)
        log_accept_N = log_acceptance(self.at.log_z_NT, proposal.log_z_NT, k)
        log_u_N = torch.rand(len(moving_N), generator=generator, dtype=torch.float64, device=device).log()
        accept_N = moving_N & (log_u_N < log_accept_N)
        self.at.take(proposal, accept_N)
        self.spent += proposal.spent
        self.proposed_N += moving_N
        self.accepted_N += accept_N


def log_acceptance(log_z_NT: Tensor, proposed_log_z_NT: Tensor, k: int) -> Tensor:
    """(N,) log of min(1, prod_{t>=k} Z_t(x') / Z_t(x)); log Z_t = 0 after the end."""
    return (proposed_log_z_NT[:, k:].sum(1) - log_z_NT[:, k:].sum(1)).clamp(max=0.0)


def autocorrelation_time(trace_PSM: Tensor) -> Tensor:
    """(P,) integrated autocorrelation time of S chains of M steps: 1 + 2 sum_l rho_l, summed up to the first l where it
    is below l / 5 (Sokal's window); between 1 and M. A trace that never moves gets M: it has seen one text."""
    steps = trace_PSM.shape[-1]
    centred_PSM = trace_PSM - trace_PSM.mean((1, 2), keepdim=True)
    variance_P = centred_PSM.square().mean((1, 2))
    time_P, open_P = torch.ones_like(variance_P), torch.ones_like(variance_P, dtype=torch.bool)
    for lag in range(1, steps):
        covariance_P = (centred_PSM[..., lag:] * centred_PSM[..., :-lag]).sum((1, 2)) / (
            trace_PSM.shape[1] * (steps - lag)
        )
        time_P = torch.where(open_P, time_P + 2 * covariance_P / variance_P.clamp(min=1e-300), time_P)
        open_P = open_P & (lag < 5 * time_P)
    return torch.where(variance_P > 0, time_P, torch.full_like(time_P, steps)).clamp(1, max(1, steps))


def _grow(texts: Particles, limit: int, generator) -> Particles:
    while texts.t < limit and not texts.done:
        texts.advance(generator)
    return texts


def _limits(max_length: int, blocks: int) -> list[int]:
    """Where the blocks end: as equal as they can be, none empty."""
    blocks = min(blocks, max_length)
    return [max_length * (b + 1) // blocks for b in range(blocks)]
