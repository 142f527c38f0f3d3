"""Signal and noise of the update while it trains: now and then, the gradient of one optimiser step in two halves.

    trainer.add_callback(OnlineAudit(every=50))         # train_grpo.py: audit.every=50

The halves are whole groups, those of even and those of odd number, because the rows of one group share a baseline: halves that
cut through a group (TRL shuffles rows before it deals them into micro-batches) would not be independent. With h the share of rows
in the first half, a its part of the gradient t, b = t - a the rest:

    signal  |E t|^2                      estimated by  <a, b> / (h (1 - h))
    noise   trace of the covariance of t   "       "   h (1 - h) |a / h - b / (1 - h)|^2

Both are right on average, for one step very uncertain, so that their ratio is taken of means over the last `window` of them. A
weight with a denominator of the whole batch ties the halves by one common factor, of which the estimates know nothing.

a is made by one more backward pass through the same graph, before TRL's own, and t is what the optimiser gets, before its norm
is clipped: nothing of the update changes.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from trainers.run.tell.online_refused import refuse_online
from trainers.seam.checkpoints import generation_period
from trainers.seam.visit import GROUP_B, Visit


class OnlineAudit(TrainerCallback):
    """Logs, every `every` optimiser steps (where a generation batch feeds several, at the first step of one):

        audit/signal, audit/noise    of this step's gradient, see the top of the file; signal may come out below 0
        audit/nsr                    noise over signal, from their means over the last `window` measurements; left out where
                                     the mean signal is not above 0
        audit/critical_batch         the completions at which signal would equal noise: nsr times those of a step
        audit/measured               how many measurements these means are of

    Costs a backward pass of the measured step more, and the memory of one gradient. Its state is in every checkpoint.

    Args:
        every: steps between measurements, at least 1.
        window: measurements that a mean is of, at least 1.

    Raises:
        ValueError: a number below 1, or, once it is added to a trainer, a setting under which the halves cannot be had
            (trainers/run/tell/online_refused.py).
    """

    def __init__(self, every: int = 50, window: int = 10):
        for name, value in (("every", every), ("window", window)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"OnlineAudit({name}={value!r}): must be a whole number of at least 1.")
        self._every = every
        self._recent: deque[tuple[float, float]] = deque(maxlen=window)  # (signal, noise)
        self._trainer: Any = None
        self._halves: dict[str, Tensor] = {}  # parameter -> the first half's gradient on this rank
        self._rows = [0, 0]  # of the first half, and all, on this rank

    def attached(self, trainer: Any) -> None:
        """Called by the `CreditGRPOTrainer` that it is added to."""
        refuse_online(trainer.args, trainer.credit, trainer)
        self._trainer = trainer
        trainer.loss_observers.append(self.split)
        trainer.gradient_observers.append(self.measure)
        trainer.carried["audit"] = self

    def on_train_begin(self, args, state, control, **kwargs):
        if self._trainer is None:
            raise ValueError("OnlineAudit needs a CreditGRPOTrainer with a credit strategy, whose update it measures.")
        self._forget()

    def is_due(self, args: Any, step: int) -> bool:
        """Whether the optimiser step after `step` others is measured: the first of its generation batch, every so often."""
        accumulation = args.gradient_accumulation_steps
        period = generation_period(args)
        return step * accumulation % period == 0 and step % self._every < max(1, period // accumulation)

    def split(self, trainer: Any, visit: Visit, loss: Tensor) -> None:
        """Before the backward pass of a micro-batch: the gradient of its rows that are in the first half."""
        if not trainer.model.training or not self.is_due(trainer.args, trainer.state.global_step):
            return
        first_B = self.in_first_half(visit)
        self._rows[0] += int(first_B.sum())
        self._rows[1] += len(first_B)
        live = [part for part in visit.live if part is not None and part.requires_grad]
        if not live or not first_B.any():
            return
        pulls = torch.autograd.grad(loss, live, retain_graph=True, allow_unused=True)
        parts = [(part, pull * first_B[:, None]) for part, pull in zip(live, pulls, strict=True) if pull is not None]
        policy = _trained(trainer)
        found = torch.autograd.grad(
            [part for part, _ in parts], list(policy.values()), [pull for _, pull in parts], True, allow_unused=True
        )
        gradient = {name: part for name, part in zip(policy, found, strict=True) if part is not None}
        # What the trainer multiplies the loss by, on its way to the backward pass, multiplies this too.
        loss.register_hook(lambda factor: self._add(gradient, factor))

    def in_first_half(self, visit: Visit) -> Tensor:
        """(B,) bool: rows of the groups of even number."""
        return visit.inputs[GROUP_B] % 2 == 0

    def _add(self, gradient: dict[str, Tensor], factor: Tensor) -> None:
        for name, part in gradient.items():
            scaled = part * factor
            self._halves[name] = self._halves[name].add_(scaled) if name in self._halves else scaled

    def measure(self, trainer: Any) -> None:
        """After the last backward pass of an optimiser step: on all ranks together."""
        if not self.is_due(trainer.args, trainer.state.global_step):
            return
        accelerator, sums = trainer.accelerator, torch.zeros(3, dtype=torch.float64)
        for name, parameter in _trained(trainer).items():
            half = self._halves.pop(name, None)
            if accelerator.num_processes > 1:  # DDP has averaged the whole
                half = torch.zeros_like(parameter) if half is None else half
                half = accelerator.reduce(half, reduction="mean")
            if half is not None and parameter.grad is not None:
                a, t = half.flatten().float(), parameter.grad.flatten().float()
                sums += torch.stack([a @ a, a @ t, t @ t]).double().cpu()
        rows = torch.tensor(self._rows, device=accelerator.device)
        first, count = (accelerator.reduce(rows) if accelerator.num_processes > 1 else rows).tolist()
        self._forget()
        if 0 < first < count and sums[2] > 0:
            self._log(trainer._metrics["train"], *signal_and_noise(*sums.tolist(), first / count), count)

    def _log(self, metrics: Any, signal: float, noise: float, rows: int) -> None:
        self._recent.append((signal, noise))
        mean_signal, mean_noise = (sum(values) / len(self._recent) for values in zip(*self._recent, strict=True))
        found = {"signal": signal, "noise": noise, "measured": float(len(self._recent))}
        if mean_signal > 0:
            found |= {"nsr": mean_noise / mean_signal, "critical_batch": rows * mean_noise / mean_signal}
        for name, value in found.items():
            metrics[f"audit/{name}"].append(value)

    def _forget(self) -> None:
        self._halves, self._rows = {}, [0, 0]

    def state_dict(self) -> dict[str, Any]:
        return {"recent": [list(pair) for pair in self._recent]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._recent.clear()
        self._recent.extend((float(signal), float(noise)) for signal, noise in state["recent"])


def online_audit(every: int, window: int) -> OnlineAudit | None:
    """What `audit.every` and `audit.window` of train_grpo.py mean; None where every is 0.

    Raises:
        ValueError: a number that is none of these.
    """
    if every < 0 or window < 1:
        wrong = f"audit.every={every}" if every < 0 else f"audit.window={window}"
        raise ValueError(
            f"{wrong}: audit.every counts steps (0: never), audit.window the measurements of a mean (at least 1)."
        )
    return OnlineAudit(every, window) if every else None


def signal_and_noise(aa: float, at: float, tt: float, share: float) -> tuple[float, float]:
    """From |a|^2, <a, t> and |t|^2 of a half a, with this share of the rows, of the gradient t; see the top of the file."""
    ab, bb = at - aa, tt - 2 * at + aa
    odds = share / (1 - share)
    return ab / (share * (1 - share)), max(0.0, aa / odds - 2 * ab + bb * odds)


def _trained(trainer: Any) -> dict[str, torch.nn.Parameter]:
    """What the optimiser moves, by name, in the same order on every rank."""
    return {name: parameter for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
