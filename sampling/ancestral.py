"""Token temperature: every conditional sharpened on its own. Exact for q, not for p_alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

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
class TokenTemperature:
    """Draws each text from q(x) = prod_t p(x_t|x_<t)^alpha / Z_t(x_<t).

    The weights that would correct the draws towards p_alpha come for free (`log_weights_PS`), so the effective sample
    size of the S draws of a prompt says how far apart the two temperatures are, and their mean weight estimates Z
    without bias.
    """

    max_rows: int = 256
    """Rows in one batch."""

    def __post_init__(self):
        check_counts(max_rows=self.max_rows)

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
        tokens, logps, log_w, spent = [], [], [], 0
        for batch in batches(len(units), 1, self.max_rows):
            distinct, rows = local_prompts([units[i] for i in batch])
            drawn = Particles(model, [prompts[i] for i in distinct], rows, max_length, alpha).finish(generator)
            tokens.append(drawn.tokens_NT.cpu())
            logps.append(drawn.logps_NT.sum(1).cpu())
            log_w.append(drawn.log_z_NT.sum(1).cpu())
            spent += drawn.spent
        shape = (len(prompts), num_samples)
        log_w_PS = torch.cat(log_w).view(shape)
        return Draws(
            tokens_PST=torch.cat(tokens).view(*shape, max_length),
            logps_PS=torch.cat(logps).view(shape),
            log_weights_PS=log_w_PS,
            ess_P=effective_sample_size(log_w_PS),
            ess_out_of=num_samples,
            acceptance_P=torch.full((len(prompts),), torch.nan),
            log_normaliser_P=log_mean(log_w_PS),
            tokens_per_sample=spent / len(units),
        )
