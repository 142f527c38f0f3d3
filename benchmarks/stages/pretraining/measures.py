"""What benchmarks/stages/pretraining/train.py measures of texts that a model wrote and of texts that it reads.

Shapes: N texts, S models, L lengths from 0.
"""

from __future__ import annotations

import torch
from many import Many
from texts import Texts
from torch import Tensor

# Upper ends of the groups of positions that calibration is given for (the first token is position 1).
PLACES = (4, 8, 12, 16, 24, 32, 48, 64, 1_000)
FEWEST = 10  # texts of a length, below which the usual repetition of that length is not known


class Usual:
    """How much real texts of each length repeat, and tenths of their lengths.

    Args:
        window: lengths up to this far away are taken together; 0 where there are many texts of every length.
    """

    def __init__(self, texts: Texts, device: str):
        self.end, self.vocabulary = texts.end, texts.vocabulary
        table = texts.usual_NT.to(device)
        lengths_N, repeated_N = (table >= 0).sum(1), repeated_pairs(table, self.vocabulary)
        self.window = 0 if len(table) > 100_000 else 2
        count_L = torch.zeros(texts.longest + 1, device=device, dtype=torch.float64).index_add_(
            0, lengths_N, torch.ones_like(repeated_N)
        )
        total_L = torch.zeros_like(count_L).index_add_(0, lengths_N, repeated_N)
        around = torch.ones(1, 1, 2 * self.window + 1, device=device, dtype=torch.float64)
        count_L, total_L = (
            torch.nn.functional.conv1d(each[None, None], around, padding=self.window)[0, 0]
            for each in (count_L, total_L)
        )
        self.repetition_L = torch.where(count_L >= FEWEST, total_L / count_L, torch.nan)
        tenths = torch.linspace(0.1, 0.9, 9, device=device, dtype=torch.float64)
        self.edges = lengths_N.double().quantile(tenths)
        lengths = lengths_N.double()
        self.length = float(lengths.mean())
        self.lengths = lengths_N.bincount(minlength=texts.longest + 1).tolist()
        self.repetition = float(repeated_N.mean())

    def about(self) -> dict:
        return {
            "length": self.length,
            "repetition": self.repetition,
            "edges": self.edges.tolist(),
            "lengths": self.lengths,
        }


def repeated_pairs(table_NT: Tensor, vocabulary: int) -> Tensor:
    """(N,) share of neighbouring pairs that have stood in the same text before; 0 for fewer than two pairs. As
    `trainers.run.generations.repeated_pairs`, for a table with -1 behind each text."""
    there_NT = table_NT[:, 1:] >= 0
    pairs_NT = table_NT[:, :-1].long() * vocabulary + table_NT[:, 1:].long()
    behind_NT = -1 - torch.arange(pairs_NT.shape[1], device=table_NT.device)  # all different: none repeats
    sorted_NT = torch.where(there_NT, pairs_NT, behind_NT).sort(1).values
    again_N = (sorted_NT[:, 1:] == sorted_NT[:, :-1]).sum(1)
    count_N = there_NT.sum(1)
    return torch.where(count_N > 1, again_N / count_N.clamp(min=1), 0).double()


def written_measures(table_NT: Tensor, usual: Usual) -> dict:
    """Length and repetition of the texts that one model wrote.

    `excess` is repetition beyond that of real texts of the same length, averaged over the model's own texts, short ones
    more often where it writes more of them. `at_equal_length` gives each tenth of the real texts' lengths the same
    weight, so that two models are compared at equal lengths; `tenths` are its parts.
    """
    table_NT = table_NT.to(usual.repetition_L.device)
    lengths_N, repeated_N = (table_NT >= 0).sum(1), repeated_pairs(table_NT, usual.vocabulary)
    excess_N = repeated_N - usual.repetition_L[lengths_N]
    known_N = ~excess_N.isnan()
    tenth_N = torch.bucketize(lengths_N.double(), usual.edges)
    tenths = [excess_N[known_N & (tenth_N == tenth)] for tenth in range(10)]
    means = [float(each.mean()) if len(each) else None for each in tenths]
    known = [mean for mean in means if mean is not None]
    ended_N = (table_NT == usual.end).any(1)
    return {
        "length": float(lengths_N.double().mean()),
        "repetition": float(repeated_N.mean()),
        "excess": float(excess_N[known_N].mean()),
        "at_equal_length": sum(known) / len(known),
        "tenths": [None if mean is None else round(mean, 6) for mean in means],
        "counts": [len(each) for each in tenths],
        "cut": float(1 - ended_N.double().mean()),
    }


@torch.no_grad()
def held_out_measures(models: Many, texts: Texts, device: str, block: int = 64) -> list[dict]:
    """Loss and calibration of each model on the held-out texts.

    `token_nll`: nats a token, all tokens alike; `text_nll`: nats a text; `text_mean_nll`: the mean over texts of a text's
    mean, all texts alike. `overconfidence`: mean loss minus mean entropy, nats a token; 0 for a calibrated model. `places`:
    by PLACES, the count of tokens, loss, entropy, and the share of end tokens predicted and seen.
    """
    table_NT = texts.held_out_NT.to(device)
    count = len(models.head)
    sums = {
        key: torch.zeros(count, texts.longest, device=device, dtype=torch.float64) for key in ("nll", "entropy", "end")
    }
    text_mean_S = torch.zeros(count, device=device, dtype=torch.float64)
    for part_BT in table_NT.split(block):
        tokens_BT = part_BT.long()
        there_BT = tokens_BT >= 0
        logp_SBTV = models(models.inputs(tokens_BT).expand(count, -1, -1)).log_softmax(-1)
        nll_SBT = -logp_SBTV.gather(3, tokens_BT.clamp(min=0).expand(count, -1, -1)[..., None])[..., 0] * there_BT
        entropy_SBT = -(logp_SBTV.exp() * logp_SBTV).sum(-1) * there_BT
        sums["nll"] += nll_SBT.sum(1).double()
        sums["entropy"] += entropy_SBT.sum(1).double()
        sums["end"] += (logp_SBTV[..., texts.end].exp() * there_BT).sum(1).double()
        text_mean_S += (nll_SBT.sum(2) / there_BT.sum(1)).sum(1).double()
    there_T, ended_T = (table_NT >= 0).sum(0).double(), (table_NT == texts.end).sum(0).double()
    place_T = torch.bucketize(torch.arange(1, texts.longest + 1, device=device), torch.tensor(PLACES, device=device))
    records = []
    for model in range(count):
        nll_T, entropy_T, end_T = (sums[key][model] for key in ("nll", "entropy", "end"))
        places = []
        for place in range(len(PLACES)):
            here_T = place_T == place
            tokens = float(there_T[here_T].sum())
            if tokens:
                shares = [each[here_T].sum() / tokens for each in (nll_T, entropy_T, end_T, ended_T)]
                places.append([int(tokens), *(round(float(share), 6) for share in shares)])
        records.append(
            {
                "token_nll": float(nll_T.sum() / there_T.sum()),
                "text_nll": float(nll_T.sum() / len(table_NT)),
                "text_mean_nll": float(text_mean_S[model] / len(table_NT)),
                "overconfidence": float((nll_T - entropy_T).sum() / there_T.sum()),
                "places": places,
            }
        )
    return records
