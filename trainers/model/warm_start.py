"""Warm start and its cache: a model imitates noisy demonstrations for some seconds, once per machine.

The likelihood stage in small: cross-entropy on completion tokens with one of the weights of likelihood training
(trainers/sft.py), over whole batches.
"""

from __future__ import annotations

import atexit
import difflib
import hashlib
import json
import logging
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from filelock import FileLock
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_cosine_schedule_with_warmup

from tasks.base import Row

logger = logging.getLogger(__name__)
COMPLETE = "complete.json"  # hashes of the other files; the last one written into an entry
TOKEN_MEAN = "token_mean"
IGNORED = -100  # cross_entropy's own mark for positions without a target


@dataclass(frozen=True)
class WarmStart:
    """How the warm start trains: AdamW with a cosine to zero over `steps` batches of fresh demonstrations.

    Raises:
        ValueError: out of range.
    """

    steps: int = 400
    """Batches; 0 keeps the random weights."""
    batch: int = 128
    """Demonstrations in each."""
    lr: float = 3e-3
    """Peak learning rate."""
    warmup: float = 0.05
    """Share of the steps with a rising learning rate."""
    weight_decay: float = 0.01
    """AdamW's."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    seed: int = 0
    """Of the weights and of the demonstrations; not the run's seed."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's."""
    weight: str = TOKEN_MEAN
    """What a token weighs: token_mean, seq_mean, seq_sum, constant or "length_power gamma=0.5" (configs/credit/weight/)."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1 or self.lr <= 0 or not 0 <= self.warmup <= 1:
            raise ValueError(f"model.pretrain: steps >= 0, batch >= 1, lr > 0 and 0 <= warmup <= 1, got {self}.")

    def facts(self) -> dict:
        """What the weights of the model depend on."""
        return {key: value for key, value in asdict(self).items() if (key, value) != ("weight", TOKEN_MEAN)}


def pretrain_settings(given: WarmStart | Mapping | None) -> WarmStart:
    """`model.pretrain` as a `WarmStart`; an unknown key raises ValueError with the nearest right one."""
    if isinstance(given, WarmStart):
        return given
    known = {field.name: field.default for field in fields(WarmStart)}
    settings = {}
    for key, value in (given or {}).items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else f" There is: {', '.join(known)}."
            raise ValueError(f"model.pretrain.{key} is no setting.{hint}")
        kind = type(known[key])
        try:
            settings[key] = kind(value)
            if kind is int and settings[key] != float(value):
                raise ValueError
        except (TypeError, ValueError):
            raise ValueError(f"model.pretrain.{key} must be of type {kind.__name__}, got {value!r}.") from None
    return WarmStart(**settings)


def warm_start(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: list[Row],
    settings: WarmStart,
    label: str,
) -> list[float]:
    """Trains `model` in place on `demonstrations`, in their order, each once; returns every step's loss (nats a token).

    Runs on one thread: sums in one order, so that the weights do not depend on how many cores there are (and a model
    of this size is not faster on several).
    """
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)
    rising = round(settings.warmup * settings.steps)
    schedule = get_cosine_schedule_with_warmup(optimizer, rising, settings.steps)
    encoded = encode_rows(tokenizer, demonstrations)
    longest = max((len(prompt) + len(completion) for prompt, completion in encoded), default=0)
    if longest > model.config.max_position_embeddings:
        raise ValueError(f"a demonstration has {longest} tokens: set model.max_positions={longest} or more.")
    weights_of = batch_weights(settings.weight, longest)
    losses: list[float] = []
    model.train()
    with _one_thread(), tqdm(range(settings.steps), desc=label, unit="step", leave=False) as progress:
        for step in progress:
            rows = encoded[step * settings.batch : (step + 1) * settings.batch]
            weights = weights_of([completion for _, completion in rows])
            optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for part in by_length([(*row, weight) for row, weight in zip(rows, weights, strict=True)]):
                ids_BT, targets_BT, weights_BT = collate(part, tokenizer.pad_token_id)
                logits = model(input_ids=ids_BT, use_cache=False).logits  # right padding: nothing attends to it
                flat = logits[:, :-1].flatten(0, 1)
                targets = targets_BT[:, 1:].flatten()
                if settings.weight == TOKEN_MEAN:
                    tokens = sum(len(completion) for _, completion in rows)
                    loss = cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum") / tokens
                else:
                    nll = cross_entropy(flat, targets, ignore_index=IGNORED, reduction="none")
                    loss = (nll * weights_BT[:, 1:].flatten()).sum()
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizer.step()
            schedule.step()
            losses.append(total)
            progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    model.eval()
    return losses


def encode_rows(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> list[tuple[list[int], list[int]]]:
    """Token ids of each prompt, and of its completion with the end of text. Encoded apart, as generation meets them."""
    prompts = tokenizer([row["prompt"] for row in rows], add_special_tokens=False)["input_ids"]
    completions = tokenizer([row["completion"] for row in rows], add_special_tokens=False)["input_ids"]
    return [(prompt, [*ids, tokenizer.eos_token_id]) for prompt, ids in zip(prompts, completions, strict=True)]


def batch_weights(name: str, longest: int) -> Callable[[list[list[int]]], list[list[float]]]:
    """What turns the completions (token ids) of a batch into the weights of their tokens.

    Raises:
        ValueError: no such weight, or one that needs more than texts.
    """
    if name == TOKEN_MEAN:  # without TRL, which the others' checks bring along

        def token_mean(completions: list[list[int]]) -> list[list[float]]:
            share = 1 / sum(map(len, completions))
            return [[share] * len(ids) for ids in completions]

        return token_mean
    from trainers.sft import sft_strategy, weigh

    strategy = sft_strategy(name)

    def weights_of(completions: list[list[int]]) -> list[list[float]]:
        lengths_B = torch.tensor([len(ids) for ids in completions])
        ids_BT = pad_sequence([torch.tensor(ids) for ids in completions], batch_first=True)
        weights_BT, _ = weigh(strategy, lengths_B, longest, ids_BT)
        return [row[:length].tolist() for row, length in zip(weights_BT, lengths_B.tolist(), strict=True)]

    return weights_of


Encoded = tuple[list[int], list[int], list[float]]  # prompt, completion, weight of each token of the completion


def by_length(rows: list[Encoded], parts: int = 2) -> list[list[Encoded]]:
    """`rows` in up to `parts` parts of similar lengths: the same gradient, and less padding to compute."""
    ordered = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))
    size = -(-len(ordered) // parts)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def collate(rows: list[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids; targets: ids of completion tokens, `IGNORED` on the prompt and padding; weights, 0 where
    there is no target; each (B, T)."""
    longest = max(len(prompt) + len(completion) for prompt, completion, _ in rows)
    ids_BT = torch.full((len(rows), longest), pad)
    targets_BT = torch.full((len(rows), longest), IGNORED)
    weights_BT = torch.zeros(len(rows), longest)
    for row, (prompt, completion, weights) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids_BT[row, :end] = torch.tensor(prompt + completion)
        targets_BT[row, len(prompt) : end] = ids_BT[row, len(prompt) : end]
        weights_BT[row, len(prompt) : end] = torch.tensor(weights)
    return ids_BT, targets_BT, weights_BT


@contextmanager
def constant_seed() -> Iterator[None]:
    """Gives Python's, numpy's and torch's global random states back as they were."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def cache_folder(given: str | Path | None = None) -> Path:
    """`given`, else $APPORTION_CACHE, else `apportion` in $XDG_CACHE_HOME or ~/.cache."""
    if given or os.environ.get("APPORTION_CACHE"):
        return Path(given or os.environ["APPORTION_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "apportion"


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """The folder that `build` has filled: `folder`, after a build if it was not there or is not whole.

    Concurrent processes, of one run or of several, build once: the first takes the lock, the others wait. An entry
    appears by one rename, so that a killed build leaves none, and lists the hash of each of its files. Where the cache
    cannot be written, every process builds for itself, with a warning. Nothing is loaded here: under DeepSpeed ZeRO-3
    loading takes all processes at the same time, and none may then be waiting for a lock.
    """
    state = PartialState() if PartialState._shared_state else None  # else too early to make process groups
    ordered = state.local_main_process_first() if state and state.num_processes > 1 else nullcontext()
    with ordered:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(f"{folder}.lock").acquire()
        except OSError as error:
            logger.warning("the cache %s cannot be written (%s): building for this run only.", folder.parent, error)
            temporary = Path(tempfile.mkdtemp(prefix="apportion-"))
            atexit.register(shutil.rmtree, temporary, ignore_errors=True)
            build(temporary)
            return temporary
        with held:
            if _is_whole(folder):
                return folder
            if folder.exists():
                logger.warning("the cached model %s is broken: building it again.", folder)
            for stale in (folder, *folder.parent.glob(f"{folder.name}.*/")):  # broken, or left by a killed build
                shutil.rmtree(stale, ignore_errors=True)
            fresh = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
            try:
                fresh.mkdir()
                build(fresh)
                (fresh / COMPLETE).write_text(json.dumps(_hashes(fresh)))
                _publish(fresh, folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            return folder


def _hashes(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.iterdir()) if file.name != COMPLETE)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _is_whole(folder: Path) -> bool:
    try:
        return json.loads((folder / COMPLETE).read_text()) == _hashes(folder)
    except (OSError, ValueError):
        return False


def _publish(fresh: Path, folder: Path) -> None:
    try:
        fresh.rename(folder)
    except OSError:
        if not (folder / COMPLETE).exists():  # else a file system without locks let another process be first
            raise


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
