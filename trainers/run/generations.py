"""What a model writes when it is left to itself: lengths, repetition, diversity, and its own likelihood.

Shapes: S samples of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from sampling.ancestral import TokenTemperature
from sampling.causal_lm import CausalLM
from trainers.model.prompts import prompt_ids, spoken


@dataclass(frozen=True)
class Probe:
    """Texts written at temperature 1 and what they are like.

    Args:
        texts: (prompt, completion) pairs as text.
        lengths: tokens of each completion, end token included.
        repetition: share of token pairs that have already stood in the same completion, per completion.
        log_p: log-probability of each completion under the scoring model.
        ended: whether it ended by itself.
    """

    texts: list[tuple[str, str]]
    lengths: list[int]
    repetition: list[float]
    log_p: list[float]
    ended: list[bool]

    def rows(self) -> list[dict]:
        """One object per text."""
        columns = zip(self.texts, self.lengths, self.repetition, self.log_p, self.ended, strict=True)
        return [
            {"prompt": prompt, "text": text, "length": length, "repetition": repetition, "log_p": log_p, "ended": ended}
            for (prompt, text), length, repetition, log_p, ended in columns
        ]

    def numbers(self) -> dict[str, float]:
        count = len(self.lengths)
        return {
            "texts": count,
            "mean_length": sum(self.lengths) / count,
            "sd_length": float(torch.tensor(self.lengths, dtype=torch.float64).std()) if count > 1 else 0.0,
            "repetition": sum(self.repetition) / count,
            "mean_log_p": sum(self.log_p) / count,
            "ended": sum(self.ended) / count,
            "distinct": len(set(self.texts)) / count,
        }


def probe(
    model,
    tokenizer,
    prompts: list,
    count: int,
    max_length: int,
    seed: int,
    scoring=None,
    template: Mapping | None = None,
) -> Probe:
    """`count` texts at temperature 1, going round `prompts` (strings or chats). The model's mode is left as it was.

    template: arguments of the chat template.
    scoring: opens the model whose log-probabilities are reported (a context manager); None: the one that writes.
    """
    names = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in prompts]
    ids = [prompt_ids(prompt, tokenizer, **(template or {})) for prompt in prompts[:count]]
    share = -(-count // len(ids))
    was_training = model.training
    lm = CausalLM(model, tokenizer)
    draws = TokenTemperature()(lm, ids, 1.0, share, max_length, torch.Generator(lm.device).manual_seed(seed))
    model.train(was_training)
    pairs = [(p, s) for s in range(share) for p in range(len(ids))][:count]
    texts = draws.texts()
    rows = [texts[p][s] for p, s in pairs]
    log_p = [float(draws.logps_PS[p, s]) for p, s in pairs]
    if scoring is not None:
        with scoring() as scorer:
            log_p = [log_probability(scorer, ids[p], row) for (p, _), row in zip(pairs, rows, strict=True)]
    return Probe(
        texts=[(names[p], spoken(tokenizer, row)) for (p, _), row in zip(pairs, rows, strict=True)],
        lengths=[len(row) for row in rows],
        repetition=[repeated_pairs(row) for row in rows],
        log_p=log_p,
        ended=[row[-1] in lm.eos_ids for row in rows],
    )


@torch.no_grad()
def log_probability(model, prompt: list[int], text: list[int]) -> float:
    """log p(text | prompt), the end token included, in nats."""
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([prompt + text], device=device)).logits[0, len(prompt) - 1 : -1]
    chosen = torch.tensor(text, device=device)[:, None]
    return float(logits.float().log_softmax(-1).gather(1, chosen).sum())


def repeated_pairs(tokens: Sequence) -> float:
    """Share of neighbouring token pairs that have stood in the same text before; 0 for fewer than two pairs."""
    pairs = list(pairwise(tokens))
    return 1 - len(set(pairs)) / len(pairs) if len(pairs) > 1 else 0.0
