"""`LHTSTrainer`: fine-tunes a model so that plain sampling from it approximates sequence temperature.

The mathematics is in sampling/horizon.py. The frozen scorer p is the model as it was given (with a new adapter: the
model with the adapter switched off; with an adapter that is trained on: a copy of it; else a copy of the model).
Loss of an optimiser batch, with a weight of credit/weight.py over tokens:

    sum w[b,t] * (-W_t log q(x_t|x_<t) + kl * KL(q_t || p_t)),   W_t = exp(min(log W_t, clamp)), no gradient through it

Texts must come from p itself for the target to be p_alpha. `self_samples` is the share of optimiser batches whose
completions are drawn anew from p; in the others they are the data set's, whose target is p_data(x) p(x)^(alpha-1).

Shapes: S tokens of prompt and completion, N rows that p writes.
"""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl.models import prepare_deepspeed, prepare_fsdp

from sampling.causal_lm import CausalLM
from sampling.draws import check_counts
from sampling.horizon import BASELINES, PositionBaseline, horizon_log_weights, horizon_sums
from sampling.particles import Particles
from sampling.tempering import alpha_of
from trainers.model.adapters import LHTS_FILE, REFERENCE, active_adapters, add_reference, is_adapted, without_adapter
from trainers.model.tau_input import TauInput, attach_tau_input
from trainers.seam.checkpoints import place_of
from trainers.sft import CreditSFTTrainer

_STATE = "lhts_baseline.pt"


@dataclass(frozen=True)
class LHTS:
    """What is learnt.

    Args:
        tau: the sequence temperature; or [low, high]: a model that takes tau as an input, trained over that range
            (alpha = 1 / tau uniform between its ends).
        horizon: tokens ahead that a weight looks at; 1 is token temperature, None sequence temperature.
        clamp: upper limit of log W_t. It pulls q towards p; the share of clamped tokens is logged.
        kl: factor of KL(q_t || p_t), over the full vocabulary.
        self_samples: share of optimiser batches drawn from p, between 0 and 1.
        max_new_tokens: longest self-sampled text; part of the target (sampling/model.py).
        baseline: what keeps weights near 1, a running mean over all texts so far: "window" leaves the optimum where
            it is, "position" is the published one and favours longer texts; "none".

    Raises:
        ValueError: out of range.
    """

    tau: float | tuple[float, float] = 0.7
    horizon: int | None = 8
    clamp: float = 3.0
    kl: float = 0.05
    self_samples: float = 1.0
    max_new_tokens: int = 64
    baseline: str = "window"

    def __post_init__(self):
        for tau in self.taus:
            alpha_of(tau)
        if len(self.taus) not in (1, 2) or list(self.taus) != sorted(set(self.taus)):
            raise ValueError(f"tau={self.tau!r} must be one temperature, or two as [low, high].")
        if self.horizon is not None and (not isinstance(self.horizon, int) or self.horizon < 1):
            raise ValueError(
                f"horizon={self.horizon} must be a whole number of at least 1 (token temperature), or null for the whole "
                "text."
            )
        for name in ("clamp", "kl", "self_samples"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name}={getattr(self, name)} must be a number.")
        if not 0 <= self.self_samples <= 1:
            raise ValueError(f"self_samples={self.self_samples} is a share of the batches, between 0 and 1.")
        if self.kl < 0:
            raise ValueError(f"kl={self.kl} must be at least 0.")
        check_counts(max_new_tokens=self.max_new_tokens)
        if self.baseline not in BASELINES:
            raise ValueError(f"baseline={self.baseline!r}: choose one of {', '.join(BASELINES)}.")

    @property
    def taus(self) -> tuple[float, ...]:
        return tuple(self.tau) if isinstance(self.tau, list | tuple) else (self.tau,)

    @property
    def is_conditioned(self) -> bool:
        return len(self.taus) == 2


class LHTSTrainer(CreditSFTTrainer):
    """CreditSFTTrainer with the loss above.

    Metrics beside TRL's: `lhts/clamped` (share of tokens at the clamp), `lhts/weight` (mean W_t), `lhts/ess` (effective
    share of tokens after weighting), `lhts/kl`, `lhts/log_p` (mean log p of a text), `lhts/self_samples`.

    Args:
        lhts: an `LHTS`.
        *args, **kwargs: as `CreditSFTTrainer`; `weight` defaults to token_mean. With texts of one length all weights
            agree; otherwise seq_mean tilts the optimum towards short texts (docs/stages/likelihood.md).

    Raises:
        ValueError: options that would change the loss behind its back, or an adapter together with a range of tau.
    """

    def __init__(self, *args, lhts: LHTS | None = None, **kwargs):
        self.lhts = lhts or LHTS()
        config = kwargs.get("args", args[1] if len(args) > 1 else None)
        if config is not None and (config.packing or config.padding_free):
            raise ValueError(
                "LHTS weighs tokens by what follows in their own text: set packing=False and padding_free=False."
            )
        given = kwargs.get("model", args[0] if args else None)
        self._trained_on = is_adapted(given)
        if self._trained_on:
            add_reference(given)
        super().__init__(*args, **kwargs)
        self._adapter = is_adapted(self.accelerator.unwrap_model(self.model))
        if self.lhts.is_conditioned and self._adapter:
            raise ValueError(
                "A range of tau adds an input to the model, which adapter files do not hold. Train without PEFT."
            )
        self._scorer = None if self._adapter else self._frozen_copy()
        self.baseline = PositionBaseline(0)
        self._seen: list[tuple[Tensor, Tensor]] = []
        inner = self.accelerator.unwrap_model(self.model)
        inner.config.lhts = {"tau": list(self.lhts.taus), "horizon": self.lhts.horizon}
        self._tau_input: TauInput | None = attach_tau_input(inner) if self.lhts.is_conditioned else None

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        self._fold_baseline()
        batches, num_items = super().get_batch_samples(self._texts(epoch_iterator), num_batches, device)
        if batches and self.lhts.baseline != "none" and self.baseline.is_empty:
            # The very first weights need a baseline, too: score the first batch once more.
            for batch in batches:
                with torch.no_grad(), self.scoring() as scorer:
                    logps_BT, mask_BT, _ = _token_logps(scorer, batch)
                self._look(logps_BT, mask_BT)
            self._fold_baseline()
        return batches, num_items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weights_BS = inputs.pop("credit_weights", None)
        labels_BS, mask_BS = inputs["labels"], inputs["labels"][:, 1:] != -100
        alpha_B = self._alphas(labels_BS)
        with torch.no_grad(), self.scoring() as scorer:
            scorer_logps_BT, mask_BT, p_logps_BSV = _token_logps(scorer, inputs)
        if self._tau_input is not None:
            self._tau_input.alpha_B = alpha_B
        q_logps_BSV = _log_softmax(model, inputs)
        labels = labels_BS[:, 1:].clamp(min=0)
        log_q_BS = q_logps_BSV.gather(-1, labels[..., None])[..., 0]
        baseline_T = self.baseline.value(mask_BT.shape[1]).to(log_q_BS.device)
        kind, horizon = self.lhts.baseline, self.lhts.horizon
        log_w_BT = horizon_log_weights(scorer_logps_BT, mask_BT, alpha_B, horizon, kind, baseline_T)
        order_BS = (mask_BS.cumsum(1) - 1).clamp(min=0)
        weight_BS = log_w_BT.clamp(max=self.lhts.clamp).exp().gather(1, order_BS)
        kl_BS = (q_logps_BSV.exp() * (q_logps_BSV - p_logps_BSV)).sum(-1)
        per_token_BS = torch.where(mask_BS, -weight_BS * log_q_BS + self.lhts.kl * kl_BS, 0.0)
        if weights_BS is not None:
            per_token_BS = per_token_BS * weights_BS
        items = mask_BS.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = per_token_BS.sum() / items.clamp(min=1)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        if self.model.training:
            self._look(scorer_logps_BT, mask_BT)
        self._log_step(inputs, mask_BT, scorer_logps_BT, log_w_BT, kl_BS[mask_BS])
        return (loss, {}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        return super().prediction_step(model, inputs, True, ignore_keys)  # there are no outputs but the loss

    def _alphas(self, labels_BS: Tensor) -> Tensor:
        """(B,) 1 / tau of each row: the same whatever else has drawn random numbers, so that a resumed run repeats."""
        taus = self.lhts.taus
        if not self.lhts.is_conditioned:
            return labels_BS.new_full((len(labels_BS),), 1 / taus[0], dtype=torch.float32)
        use = 2 if self.model.training else 3  # an evaluation between two steps takes nothing from the second's stream
        share_B = torch.rand(len(labels_BS), generator=self._generator(use, labels_BS.device), device=labels_BS.device)
        return 1 / taus[1] + (1 / taus[0] - 1 / taus[1]) * share_B

    def _generator(self, use: int, device) -> torch.Generator:
        """A stream of its own for every rank, step and use; several micro-batches of a step draw on."""
        key = (self.state.global_step, self.accelerator.process_index, use)
        if getattr(self, "_streams", {}).get(use, (None,))[0] != key:
            seed = (((self.args.seed * 1_000_003 + key[0]) * 4_099 + key[1]) * 7 + use) % 2**63
            self._streams = {**getattr(self, "_streams", {}), use: (key, torch.Generator(device).manual_seed(seed))}
        return self._streams[use][1]

    def _texts(self, epoch_iterator):
        """Micro-batches, with self-sampled completions where it is their turn."""
        share, step = self.lhts.self_samples, self.state.global_step
        own = int((step + 1) * share + 1e-9) > int(step * share + 1e-9)
        for batch in epoch_iterator:
            self._metrics["train"]["lhts/self_samples"].append(float(own))
            yield self._redrawn(batch) if own else batch

    @torch.no_grad()
    def _redrawn(self, batch: dict) -> dict:
        """The batch with completions drawn from the frozen model at temperature 1; its prompts stay. A row without a
        prompt keeps its first token as one."""
        device = self.accelerator.device
        prompts = []
        for ids, labels, real in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            first = int((labels != -100).float().argmax()) or 1
            prompts.append(ids[:first][real[:first].bool()].tolist())
        with self.scoring() as scorer:
            lm = CausalLM(scorer, self.processing_class)
            lm.check(prompts, self.lhts.max_new_tokens)
            rows = torch.arange(len(prompts))
            drawn = Particles(lm, prompts, rows, self.lhts.max_new_tokens, alpha=1.0).finish(
                self._generator(1, lm.device)
            )
        texts = [row[:length] for row, length in zip(drawn.tokens_NT, drawn.lengths_N.tolist(), strict=True)]
        ids, labels = [], []
        for prompt, text in zip(prompts, texts, strict=True):
            prompt_ids = torch.tensor(prompt, device=text.device)
            ids.append(torch.cat([prompt_ids, text]))
            labels.append(torch.cat([torch.full_like(prompt_ids, -100), text]))
        pad = lm.pad_id
        fresh = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        }
        return {key: value.to(device) for key, value in fresh.items()}

    @contextmanager
    def scoring(self):
        """The frozen model p, in evaluation mode."""
        inner = self.accelerator.unwrap_model(self.model)
        if self._scorer is not None:
            yield self.accelerator.unwrap_model(self._scorer)
            return
        was_training = inner.training
        inner.eval()
        with active_adapters(inner, REFERENCE) if self._trained_on else inner.disable_adapter():
            yield inner
        inner.train(was_training)

    def set_tau(self, tau: float) -> None:
        """What a model trained for a range of tau writes from now on; nothing for one trained for a single tau."""
        if self._tau_input is not None:
            self._tau_input.alpha_B = torch.tensor([1 / tau])

    def _frozen_copy(self):
        scorer = copy.deepcopy(self.accelerator.unwrap_model(self.model)).eval().requires_grad_(False)
        # TRL patches `forward` on the instance with a closure over the trained model; a copy of it would run that one.
        scorer.__dict__.pop("forward", None)
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(scorer, self.accelerator)
        if self.is_fsdp_enabled:
            return prepare_fsdp(scorer, self.accelerator)
        return self.accelerator.prepare_model(scorer, evaluation_mode=True)

    def _look(self, logps_BT: Tensor, mask_BT: Tensor) -> None:
        """Remembers what the baseline is the mean of."""
        if self.lhts.baseline == "window":
            logps_BT = horizon_sums(logps_BT, mask_BT, self.lhts.horizon).float()
        self._seen.append(((logps_BT * mask_BT).sum(0), mask_BT.sum(0).float()))

    def _fold_baseline(self) -> None:
        """Adds what the last optimiser batch saw, on all ranks: within a batch the baseline stands still, so that its
        weights do not depend on how it is cut."""
        if not self._seen:
            return
        width = max(len(sum_T) for sum_T, _ in self._seen)
        total_2T = torch.zeros(2, width, dtype=torch.float32, device=self.accelerator.device)
        for sum_T, count_T in self._seen:
            total_2T[0, : len(sum_T)] += sum_T
            total_2T[1, : len(count_T)] += count_T
        if self.accelerator.num_processes > 1:
            padded_2T = self.accelerator.pad_across_processes(total_2T, dim=1)
            total_2T = self.accelerator.reduce(padded_2T, reduction="sum")
        self.baseline.add(total_2T[0], total_2T[1])
        self._seen = []

    def _log_step(self, inputs, mask_BT, logps_BT, log_w_BT, kl) -> None:
        mode = "train" if self.model.training else "eval"
        log_w = log_w_BT[mask_BT].double()
        weight, count = log_w.clamp(max=self.lhts.clamp).exp(), max(1, log_w.numel())
        logs = self._metrics[mode]
        logs["lhts/clamped"].append((log_w > self.lhts.clamp).double().mean().item() if log_w.numel() else 0.0)
        logs["lhts/weight"].append(weight.mean().item() if log_w.numel() else 0.0)
        logs["lhts/ess"].append((weight.sum() ** 2 / weight.square().sum().clamp(min=1e-300) / count).item())
        logs["lhts/kl"].append(kl.mean().item() if kl.numel() else 0.0)
        logs["lhts/log_p"].append(logps_BT.masked_fill(~mask_BT, 0).sum(1).mean().item())
        if mode == "train":
            self._total_train_tokens += int(inputs["attention_mask"].sum()) * self.accelerator.num_processes
            logs["num_tokens"] = [self._total_train_tokens]

    def save_model(self, *args, **kwargs):
        inner = self.accelerator.unwrap_model(self.model)
        with without_adapter(inner, REFERENCE) if self._trained_on else nullcontext():
            super().save_model(*args, **kwargs)
        if self._adapter and self.args.should_save:  # an adapter's folder holds no config of the model
            folder = Path((args[0] if args else kwargs.get("output_dir")) or self.args.output_dir)
            (folder / LHTS_FILE).write_text(json.dumps(inner.config.lhts), encoding="utf-8")

    def _save_beside(self, folder: Path) -> None:
        self._fold_baseline()
        if self.args.should_save:
            torch.save((self.baseline.sum_T, self.baseline.count_T), folder / _STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = Path(resume_from_checkpoint) / _STATE
        if saved.exists():
            sums = torch.load(saved, weights_only=True, map_location=place_of(self.accelerator.device))
            self.baseline.sum_T, self.baseline.count_T = sums


def _log_softmax(model, inputs) -> Tensor:
    """(B, S-1, V) next-token log-probs, float32."""
    kept = {key: inputs[key] for key in ("input_ids", "attention_mask", "position_ids") if key in inputs}
    return model(**kept, use_cache=False).logits[:, :-1].float().log_softmax(-1)


def _token_logps(model, inputs) -> tuple[Tensor, Tensor, Tensor]:
    """log p of the labelled tokens moved to the left (B, T), its mask, and the (B, S-1, V) log-probs."""
    logps_BSV = _log_softmax(model, inputs)
    labels_BS = inputs["labels"][:, 1:]
    mask_BS = labels_BS != -100
    logps_BS = logps_BSV.gather(-1, labels_BS.clamp(min=0)[..., None])[..., 0]
    lengths_B = mask_BS.sum(1)
    width = max(1, int(lengths_B.max()))
    mask_BT = torch.arange(width, device=mask_BS.device) < lengths_B[:, None]
    logps_BT = torch.zeros(mask_BT.shape, device=mask_BS.device).masked_scatter(mask_BT, logps_BS[mask_BS])
    return logps_BT, mask_BT, logps_BSV
