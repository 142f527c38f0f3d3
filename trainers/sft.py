"""`CreditSFTTrainer`: TRL's SFTTrainer with the weights of credit/weight.py. loss = - sum w[b,t] log p(y[b,t]).

Before the micro-batches of an optimiser step run, the lengths of all its rows on all ranks are known. There the
weight is called, once, on a mask of the whole batch, exactly as at scoring time of GRPO: any weight works, a user's
own included, and the gradient does not depend on how the batch is cut. No TRL method body is copied and there is no
second forward pass: TRL's own `compute_loss` runs, and where the weights differ from TRL's token mean, the log-probs
it reads are scaled by `weight * tokens`. Where they do not (token_mean, length_power with gamma = 0, rows of one
length), TRL runs untouched.

Shapes: B texts, T their tokens; S positions of a row as collated (with padding, or several texts), R ranks.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from credit import weight as weights
from credit.baseline import none as no_baseline
from credit.batch import Rollout
from credit.strategy import Strategy
from trainers.model.prompts import continuing, is_prefilled
from trainers.seam.resume import ResumesExactly

logger = logging.getLogger(__name__)

SIGNALS = ("mask_BT", "lengths_B", "max_length", "token_ids_BT")
# Newer TRL reads per-token log-probs off a fused head; before, the loss comes out of the model or of `compute_loss_func`.
_FUSED = "fused_lm_head" in inspect.getsource(SFTTrainer.compute_loss)
_KEY = "credit_weights"


class CreditSFTTrainer(ResumesExactly, SFTTrainer):
    """SFTTrainer plus `weight`.

    A row is a sequence, its tokens those with a label (with completion-only loss: the completion, end token included).
    What the weight sees: `mask_BT` (row b is true in its first L_b positions), `lengths_B`, `token_ids_BT` (the labels) and
    `max_length` (`args.max_length`). Evaluation keeps TRL's token mean, so that arms are compared in one unit.

    Args:
        weight: a member of credit/weight.py or a function of your own with the signals above; a `credit.Strategy`, of
            which only weight and unit_mass are used; or a name in configs/credit/weight/.
        config_dirs: folders of your own YAMLs, laid out like configs/, in which a name is looked up too.
        *args, **kwargs: as `trl.SFTTrainer`.

    Raises:
        ValueError: an option of TRL with which the weights would not be exact; the message names the remedy.
    """

    def __init__(
        self,
        *args,
        weight: Callable | Strategy | str = weights.token_mean,
        config_dirs: Sequence[str | Path] = (),
        **kwargs,
    ):
        self.weight = sft_strategy(weight, config_dirs)
        config = kwargs.get("args", args[1] if len(args) > 1 else None)
        config = SFTConfig("unused", report_to="none") if config is None else config
        if self.weight.weight is not weights.token_mean:
            refuse_inexact_sft(config, self.weight, kwargs)
            if config.loss_type == "chunked_nll" and not _FUSED:
                logger.warning(
                    "loss_type='chunked_nll' of this trl cannot be weighted; using 'nll', which is the same loss."
                )
                config.loss_type = "nll"
        super().__init__(*args, **kwargs)
        self._max_length = config.max_length
        self._note_states(self.weight)

    def _prepare_dataset(self, dataset, processing_class, *args, **kwargs):
        if not isinstance(processing_class, PreTrainedTokenizerBase) or not _has_prefills(dataset):
            return super()._prepare_dataset(dataset, processing_class, *args, **kwargs)
        with continuing(processing_class):
            return super()._prepare_dataset(dataset, processing_class, *args, **kwargs)

    def get_batch_samples(self, *args, **kwargs):
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        if batches:
            if self.get_tp_size() * self.get_cp_size() * self.get_sp_size() > 1:
                raise ValueError(
                    "Tensor, context and sequence parallelism share rows between ranks, so their lengths are not known here. "
                    "Use data parallelism (DDP, FSDP, ZeRO) for weighted likelihood training."
                )
            if num_items is None:
                raise ValueError(
                    f"{type(self.model).__name__} does not take `num_items_in_batch`, so transformers averages micro-batches"
                    " and no global denominator exists. Use a model whose forward accepts loss keyword arguments."
                )
            self._attach_weights(batches)
        return batches, num_items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weights_BS = inputs.pop(_KEY, None)
        if weights_BS is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if _FUSED:
            return super().compute_loss(_Weighted(model, weights_BS), inputs, return_outputs, num_items_in_batch)
        self.compute_loss_func = partial(_weighted_nll, weights_BS)
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.compute_loss_func = None

    def _attach_weights(self, batches: list) -> None:
        """Gives every micro-batch its (B, S-1) weights times the tokens of the optimiser batch, for each predicted
        position; nothing where all of them are 1, which is TRL's own loss."""
        device = self.accelerator.device
        places = [_rows_of(batch["labels"].to(device), self._segments(batch, device)) for batch in batches]
        mine_B = torch.cat([lengths_B for lengths_B, _, _, _ in places])
        lengths_B, first = self._gather_rows(mine_B)
        ids_BT = self._gather_labels(batches, places, lengths_B) if "token_ids_BT" in self.weight.needs else None
        with self.members.batch(training=True):  # evaluation asks no weight
            weights_BT, mask_BT = weigh(self.weight, lengths_B, self._max_length, ids_BT)
        self._log_weights(weights_BT, lengths_B)
        scaled_BT = (weights_BT * lengths_B.sum()).float()
        if torch.equal(scaled_BT, mask_BT.float()):
            return
        mine_BT = scaled_BT[first : first + len(mine_B)].to(device)
        for batch, (rows_B, row_BS, order_BS, mask_BS), start in zip(batches, places, _starts(places), strict=True):
            share_BT = mine_BT[start : start + len(rows_B)]
            batch[_KEY] = torch.where(mask_BS, share_BT[row_BS, order_BS], 0.0)

    def _segments(self, batch, device) -> Tensor | None:
        """(B, S) number of the text each position belongs to where a row holds several, else None."""
        if not getattr(self, "padding_free", False):
            return None
        return (batch["position_ids"].to(device) == 0).flatten().cumsum(0).view(batch["position_ids"].shape) - 1

    def _gather_rows(self, mine_B: Tensor) -> tuple[Tensor, int]:
        """Lengths of all ranks' rows on the CPU, in rank order, and the place of this rank's first."""
        if self.accelerator.num_processes == 1:
            return mine_B.cpu(), 0
        padded_B = self.accelerator.pad_across_processes(mine_B, dim=0, pad_index=-1)
        all_RB = self.accelerator.gather(padded_B).view(self.accelerator.num_processes, -1).cpu()
        return all_RB[all_RB >= 0], int((all_RB[: self.accelerator.process_index] >= 0).sum())

    def _gather_labels(self, batches: list, places: list, lengths_B: Tensor) -> Tensor:
        """(B, T) labels of all ranks' rows, moved together to the left, on the CPU."""
        device = self.accelerator.device
        width = max(1, int(lengths_B.max()))
        ids_BT = torch.zeros(sum(len(place[0]) for place in places), width, dtype=torch.long, device=device)
        for batch, (_, row_BS, order_BS, mask_BS), start in zip(batches, places, _starts(places), strict=True):
            ids_BT[row_BS[mask_BS] + start, order_BS[mask_BS]] = batch["labels"].to(device)[:, 1:][mask_BS]
        if self.accelerator.num_processes == 1:
            return ids_BT.cpu()
        padded_BT = self.accelerator.pad_across_processes(ids_BT, dim=0, pad_index=-1)
        all_BT = self.accelerator.gather(padded_BT).cpu()
        return all_BT[all_BT[:, 0] >= 0]

    def _log_weights(self, weights_BT: Tensor, lengths_B: Tensor) -> None:
        mass_B = weights_BT.sum(1)
        logs = self._metrics["train"]
        logs["weight/mass"].append(mass_B.sum().item())
        logs["weight/mean_length"].append(lengths_B.double().mean().item())
        logs["weight/weighted_mean_length"].append(((mass_B * lengths_B).sum() / mass_B.sum().clamp(min=1e-30)).item())


def weigh(
    strategy: Strategy, lengths_B: Tensor, max_length: int | None, ids_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(B, T) double weights of an optimiser batch of texts, on the CPU, and their mask: row b true in its first L_b positions.

    Args:
        lengths_B: int64 learning tokens of each row. ids_BT: their ids, for weights that ask for token_ids_BT.
        max_length: L_max; None: the longest row.
    """
    width = max(1, int(lengths_B.max()))
    rollout = Rollout(
        rewards_B=torch.zeros(len(lengths_B), dtype=torch.float64),
        group_B=torch.arange(len(lengths_B)),
        mask_BT=torch.arange(width) < lengths_B[:, None],
        max_length=max_length or width,
        token_ids_BT=ids_BT,
    )
    return strategy.score(rollout).weights_BT, rollout.mask_BT


class _Weighted:
    """Stands in for the model in one call of TRL's `compute_loss`: same outputs, weighted log-probs."""

    def __init__(self, model, weights_BS: Tensor):
        self._model, self._weights_BS = model, weights_BS

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, *args, **kwargs):
        outputs = self._model(*args, **kwargs)
        _check_shape(outputs.log_probs, self._weights_BS)
        outputs.log_probs = outputs.log_probs * self._weights_BS
        return outputs


def _weighted_nll(weights_BS: Tensor, outputs, labels: Tensor, num_items_in_batch=None) -> Tensor:
    """What `_Weighted` does, for a TRL whose loss is made from logits."""
    logits = outputs.logits[:, :-1].float()
    _check_shape(logits[..., 0], weights_BS)
    losses = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none")
    return (losses * weights_BS.flatten()).sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)


def _has_prefills(dataset) -> bool:
    """Whether some prompt ends with the beginning of its answer; of a stream that is not known."""
    if not isinstance(dataset, Dataset):
        return True
    return "prompt" in dataset.column_names and any(map(is_prefilled, dataset["prompt"]))


def _check_shape(values_BS: Tensor, weights_BS: Tensor) -> None:
    if values_BS.shape != weights_BS.shape:
        raise ValueError(
            f"The model predicts {tuple(values_BS.shape)} tokens where the labels have {tuple(weights_BS.shape)}: prompt-"
            "learning adapters and sequence parallelism move the labels. Use weight=token_mean, or LoRA on plain ranks."
        )


def _rows_of(labels_BS: Tensor, segment_BS: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lengths of the texts of a micro-batch; and for each of the S-1 predicted positions its text, its place among that
    text's labelled tokens (0 where it has no label) and whether it has one."""
    mask_BS = labels_BS[:, 1:] != -100
    if segment_BS is None:
        row_BS = torch.arange(len(mask_BS), device=mask_BS.device)[:, None].expand_as(mask_BS)
        count = len(mask_BS)
    else:
        row_BS, count = segment_BS[:, 1:], int(segment_BS.max()) + 1
    lengths_B = torch.zeros(count, dtype=torch.long, device=mask_BS.device)
    lengths_B.index_add_(0, row_BS.flatten(), mask_BS.flatten().long())
    before_B = lengths_B.cumsum(0) - lengths_B
    order_BS = (mask_BS.flatten().cumsum(0) - 1).view(mask_BS.shape) - before_B[row_BS]
    return lengths_B, row_BS, torch.where(mask_BS, order_BS, 0), mask_BS


def _starts(places: list) -> list[int]:
    starts, total = [], 0
    for lengths_B, *_ in places:
        starts.append(total)
        total += len(lengths_B)
    return starts


def sft_strategy(weight: Callable | Strategy | str, config_dirs: Sequence[str | Path] = ()) -> Strategy:
    """The strategy whose weight the trainer asks; its other members are never used.

    Raises:
        ValueError: the weight needs what likelihood training does not have, such as rewards.
    """
    if isinstance(weight, str):
        from configs.compose import compose_strategy  # Hydra only where a name has to be looked up

        name, *bound = weight.split()
        overrides = [f"credit/weight={name}", *(f"credit.weight.{entry}" for entry in bound)]
        weight = compose_strategy(overrides, config_dirs)
    if isinstance(weight, Strategy):
        weight, unit_mass, name = weight.weight, weight.unit_mass, weight.name
    else:
        unit_mass, name = False, getattr(weight, "__name__", type(weight).__name__)
    strategy = Strategy(weight=weight, baseline=no_baseline, unit_mass=unit_mass, name=name)
    asked = [p for p in inspect.signature(strategy.weight).parameters if p not in SIGNALS]
    foreign = [p for p in asked if p in strategy.needs]
    if foreign:
        raise ValueError(
            f"The weight {name!r} asks for {', '.join(foreign)}, which likelihood training does not have. It has "
            f"{', '.join(SIGNALS)}."
        )
    return strategy


def refuse_inexact_sft(args: SFTConfig, strategy: Strategy, options: dict) -> None:
    """Raises ValueError for options of TRL with which weights other than token_mean would not be exact."""
    for broken, reason in _rules(args, strategy, options):
        if broken:
            raise ValueError(f"{reason} (weight {strategy.name!r}; weight=token_mean is TRL's own loss and takes it)")


def _rules(args: SFTConfig, strategy: Strategy, options: dict):
    yield (
        args.loss_type == "dft",
        "loss_type='dft' weighs every token by its own probability. Use loss_type='nll'",
    )
    yield (
        args.label_smoothing_factor != 0,
        "label_smoothing_factor makes transformers take its own mean over tokens. Set it to 0",
    )
    yield (
        options.get("compute_loss_func") is not None,
        "compute_loss_func replaces the loss that the weight acts on. Drop one of them",
    )
    yield (
        getattr(args, "use_liger_kernel", False) and not _FUSED,
        "use_liger_kernel=True gives this trl a mean without per-token values. Set it to False, or use a newer trl",
    )
    yield (
        not args.average_tokens_across_devices,
        "average_tokens_across_devices=False makes denominators differ between ranks. Leave it at True",
    )
    yield (
        args.packing and args.packing_strategy != "bfd",
        f"packing_strategy={args.packing_strategy!r} cuts texts into pieces, and a piece has not its text's length. Use "
        "packing_strategy='bfd', which keeps texts whole",
    )
    yield (
        args.max_length is None and "max_length" in inspect.signature(strategy.weight).parameters,
        "max_length=None leaves L_max open, which this weight divides by. Set trainer.max_length",
    )
