"""Everything by enumeration, for tabular models small enough: the target, the samplers' kernels, distances.

Shapes: X complete texts of a prompt, C prefixes, N texts that were drawn.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from sampling.mh import log_acceptance
from sampling.model import PAD
from sampling.tabular import TabularModel, prefix_index
from sampling.tempering import temper


@dataclass(frozen=True)
class Enumeration:
    """All X complete texts of one prompt of a tabular model.

    tokens_XT: PAD after the end. logps_XT, log_q_XT, log_z_XT: log p, log q and log Z_t of each token, 0 after the end.
    """

    tokens_XT: Tensor
    logps_XT: Tensor
    log_q_XT: Tensor
    log_z_XT: Tensor
    alpha: float

    @property
    def log_p_X(self) -> Tensor:
        return self.logps_XT.sum(1)

    @property
    def q_X(self) -> Tensor:
        """Token temperature."""
        return self.log_q_XT.sum(1).exp()

    @property
    def log_normaliser(self) -> Tensor:
        """log Z = log sum_x p(x)^alpha."""
        return (self.alpha * self.log_p_X).logsumexp(0)

    @property
    def target_X(self) -> Tensor:
        """p_alpha, sequence temperature."""
        return (self.alpha * self.log_p_X - self.log_normaliser).exp()

    @property
    def lengths_X(self) -> Tensor:
        return (self.tokens_XT != PAD).sum(1)

    def index_of(self, tokens_NT: Tensor) -> Tensor:
        """(N,) which of the X texts each row is."""
        base = int(self.tokens_XT.max()) + 2
        powers_T = base ** torch.arange(self.tokens_XT.shape[1])
        keys_X, order = ((self.tokens_XT + 1) * powers_T).sum(1).sort()
        return order[torch.searchsorted(keys_X, ((tokens_NT + 1) * powers_T).sum(1))]

    def frequencies(self, tokens_NT: Tensor) -> Tensor:
        """(X,) how often each text was drawn."""
        return torch.bincount(self.index_of(tokens_NT), minlength=len(self.tokens_XT))


def enumerate_texts(model: TabularModel, max_length: int, alpha: float, prompt: int = 0) -> Enumeration:
    """Walks the whole tree of one prompt."""
    texts = []
    for length in range(1, max_length + 1):
        for text in itertools.product(range(model.vocab_size), repeat=length):
            ended = [token in model.eos_ids for token in text]
            if not any(ended[:-1]) and (ended[-1] or length == max_length):
                texts.append([*text, *[PAD] * (max_length - length)])
    tokens_XT = torch.tensor(texts)
    logps_XT, log_q_XT, log_z_XT = (torch.zeros(tokens_XT.shape, dtype=torch.float64) for _ in range(3))
    for t in range(max_length):
        there_X = tokens_XT[:, t] != PAD
        nodes = prefix_index(tokens_XT[there_X, :t], model.vocab_size)
        logps, log_q, log_z = temper(model.logits_PCV[prompt, nodes], alpha)
        drawn = tokens_XT[there_X, t, None]
        logps_XT[there_X, t], log_q_XT[there_X, t] = logps.gather(1, drawn)[:, 0], log_q.gather(1, drawn)[:, 0]
        log_z_XT[there_X, t] = log_z
    return Enumeration(tokens_XT, logps_XT, log_q_XT, log_z_XT, alpha)


def mh_kernel(enumeration: Enumeration) -> Tensor:
    """(X, X) transition matrix of one step of `SuffixMH` (blocks = 1): row x, column x'. Uses the sampler's own
    acceptance rule."""
    texts, limit = enumeration.tokens_XT.shape
    kernel_XX = torch.zeros(texts, texts, dtype=torch.float64)
    for k in range(limit):
        same_XX = (enumeration.tokens_XT[:, None, :k] == enumeration.tokens_XT[None, :, :k]).all(-1)
        propose_XX = torch.where(same_XX, enumeration.log_q_XT[:, k:].sum(1).exp()[None, :], 0.0)
        accept_XX = torch.stack(
            [log_acceptance(row[None], enumeration.log_z_XT, k).exp() for row in enumeration.log_z_XT]
        )
        moves_XX = propose_XX * accept_XX
        moves_XX = moves_XX + torch.diag(1 - moves_XX.sum(1))
        stays_X = enumeration.lengths_X <= k
        moves_XX[stays_X] = torch.eye(texts, dtype=torch.float64)[stays_X]
        kernel_XX += moves_XX / limit
    return kernel_XX


def horizon_conditionals(
    model: TabularModel,
    max_length: int,
    alpha: float,
    horizon: int,
    prompt: int = 0,
    baseline_T: Tensor | None = None,
) -> Tensor:
    """(C, V) q_H(v|h) proportional to p(v|h)^alpha * E_{x~p}[prod over the next H-1 tokens of (p exp(-b))^(alpha-1)]:
    the optimum of Long Horizon Temperature Scaling without clamp and KL term. H = 1 is token temperature, H >=
    max_length sequence temperature (b = 0). Rows of prefixes that cannot occur (after an end token) mean nothing.
    """
    if horizon < 1:
        raise ValueError(f"horizon={horizon} must be at least 1: the number of tokens a weight looks at.")
    vocab = model.vocab_size
    logps_CV = model.logits_PCV[prompt].log_softmax(-1)
    ends_V = torch.isin(torch.arange(vocab), torch.tensor(model.eos_ids))
    baseline_T = torch.zeros(max_length) if baseline_T is None else baseline_T

    def level(depth: int) -> slice:
        """Numbers of the prefixes of `depth` tokens."""
        first = sum(vocab**shorter for shorter in range(depth))
        return slice(first, first + vocab**depth)

    def ahead(depth: int, steps: int) -> Tensor:
        """log E[prod of the next `steps` weights] for every prefix of `depth` tokens; 0 where nothing is left."""
        if steps == 0 or depth >= max_length:
            return logps_CV.new_zeros(vocab**depth)
        return (tilted(depth, steps) - (alpha - 1) * baseline_T[depth]).logsumexp(-1)

    def tilted(depth: int, steps: int) -> Tensor:
        after_CV = ahead(depth + 1, steps - 1).view(-1, vocab).masked_fill(ends_V, 0.0)
        return alpha * logps_CV[level(depth)] + after_CV

    return torch.cat([tilted(depth, horizon).softmax(-1) for depth in range(max_length)])


def total_variation(p_X: Tensor, q_X: Tensor) -> float:
    """Half the L1 distance."""
    return 0.5 * float((p_X - q_X).abs().sum())
