"""What a sampler returns, what it must be given, and how long requests are cut into batches.

Shapes: U runs, or texts, each for a prompt of its own or a shared one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sampling.model import PAD, Model
from sampling.tempering import alpha_of


@dataclass
class Draws:
    """S texts for each of P prompts.

    Args:
        tokens_PST: int64 new tokens, the end token included, PAD after it.
        logps_PS: log p(x) under the model as it is (temperature 1).
        log_weights_PS: log of the weight that still corrects each text towards p_alpha; 0 for samplers that return
            unweighted texts.
        ess_P: effective sample size, out of `ess_out_of`: what the sampler's page says.
        acceptance_P: share of proposals accepted; NaN for samplers that do not propose.
        log_normaliser_P: estimate of log Z = log sum_x p(x)^alpha; NaN where there is none.
        tokens_per_sample: tokens drawn (discarded ones included, prompts not) per returned text.
        extras: further diagnostics of one sampler, by name; a (P,) tensor or a number each.
    """

    tokens_PST: Tensor
    logps_PS: Tensor
    log_weights_PS: Tensor
    ess_P: Tensor
    ess_out_of: int
    acceptance_P: Tensor
    log_normaliser_P: Tensor
    tokens_per_sample: float
    extras: dict[str, Tensor | float] = field(default_factory=dict)

    @property
    def lengths_PS(self) -> Tensor:
        return (self.tokens_PST != PAD).sum(-1)

    def texts(self) -> list[list[list[int]]]:
        """Token lists by prompt and sample, without padding."""
        return [[[t for t in row if t != PAD] for row in rows] for rows in self.tokens_PST.tolist()]


def checked_request(
    model: Model, prompts: Sequence[Sequence[int]], tau: float, num_samples: int, max_length: int
) -> float:
    """alpha of a request that makes sense.

    Raises:
        ValueError: the temperature, the counts or the prompts cannot work; the message names the remedy.
    """
    alpha = alpha_of(tau)
    if len(prompts) == 0:
        raise ValueError("There are no prompts to continue; give at least one.")
    check_counts(num_samples=num_samples, max_length=max_length)
    if not model.eos_ids:
        raise ValueError(
            "The model has no end-of-text token, and without one no text is ever complete. Set `eos_token` in its "
            "tokenizer (or `eos_token_id` in its generation config)."
        )
    model.check(prompts, max_length)
    return alpha


def check_counts(least: int = 1, **counts) -> None:
    """Raises ValueError for a setting that is no whole number of at least `least`."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value} must be a whole number of at least {least}.")


def batches(units: int, rows_per_unit: int, max_rows: int) -> Iterator[range]:
    """Cuts `units` independent runs of `rows_per_unit` rows each into batches of at most `max_rows` rows (one unit at
    the least)."""
    size = max(1, max_rows // rows_per_unit)
    return (range(first, min(first + size, units)) for first in range(0, units, size))


def local_prompts(prompt_of_U: Sequence[int]) -> tuple[list[int], Tensor]:
    """The distinct prompts of a batch and, per unit, where its prompt stands among them: each is read once."""
    distinct = sorted(set(prompt_of_U))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    return distinct, torch.tensor([place[prompt] for prompt in prompt_of_U])


def effective_sample_size(log_weights: Tensor, dim: int = -1) -> Tensor:
    """(sum w)^2 / sum w^2, between 1 and the number of weights."""
    return (2 * log_weights.logsumexp(dim) - (2 * log_weights).logsumexp(dim)).exp()


def log_mean(log_weights: Tensor, dim: int = -1) -> Tensor:
    """log of the mean weight."""
    return log_weights.logsumexp(dim) - torch.log(torch.tensor(float(log_weights.shape[dim])))


Sampler = Callable[..., Draws]
