"""The states of a run that neither transformers nor TRL keeps in a checkpoint (docs/credit/exactness.md lists all of them).

Each rank writes `run_state_<rank>.pt` beside its random states and reads it when it resumes. Where the rows come from a
shuffle, the state at the start of the epoch is put back first, so that the same shuffle is drawn again and the rows that
were seen are passed over; transformers then puts the random states of the checkpoint back.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, trainer_utils

from rewards.guard import stateful
from trainers.seam.checkpoints import COMPLETE_MARK, place_of
from trainers.seam.members import MemberStates

logger = logging.getLogger(__name__)
FILE, REFERENCE = "run_state_{rank}.pt", "reference.pt"
# What transformers holds between two logs: the loss summed so far, and since which step. Its sum over all steps is left
# alone: `train_loss` is the mean over the steps of this life.
_WINDOW = ("_tr_loss", "_globalstep_last_logged")
_ROTATE = getattr(trainer_utils, "rotate_checkpoints", None)  # older transformers rotate in a method of the trainer


class ResumesExactly:
    """Mixin before TRL's trainer in the order of methods: `train(resume_from_checkpoint=...)` goes on as if nothing had
    happened. Call `_note_states` at the end of `__init__`.

    Attributes:
        keeps_one_before_the_last: a run that is killed between its last step and its end goes on from the checkpoint before the
            last one (trainers/seam/checkpoints.py), so that one is kept although `save_total_limit` is 1.
        members: the states of the strategy's members, and `members.batch(training)` to put around their calls; None without one.
        carried: objects with `state_dict` and `load_state_dict` whose states join this rank's part of a checkpoint, by name.
    """

    # On the class, so that TRL's methods work on an object made without `__init__`.
    members: MemberStates | None = None
    keeps_one_before_the_last = False
    _train_sampler: Any = None
    _resumed: dict[str, Any] | None = None
    _epoch_start: dict[str, Any] | None = None

    def _note_states(self, strategy) -> None:
        self.carried: dict[str, Any] = {}
        self.members = None if strategy is None else MemberStates(strategy)
        self.add_callback(_Resume(self))

    def _get_train_sampler(self, *args, **kwargs):
        self._train_sampler = super()._get_train_sampler(*args, **kwargs)
        return self._train_sampler

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        torch.save(self._run_state(), Path(output_dir) / FILE.format(rank=self.args.process_index))
        if self.members is not None:
            self.members.save(Path(output_dir), gather_object, self.args.should_save)
        if self.moves_reference and not self._is_sharded and self.args.should_save:
            torch.save(self.accelerator.unwrap_model(self.ref_model).state_dict(), Path(output_dir) / REFERENCE)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        if self.members is not None:
            self.members.load(Path(checkpoint), self.accelerator.device)
        if self.moves_reference:
            self.put_reference(Path(checkpoint) / REFERENCE)
        path = Path(checkpoint) / FILE.format(rank=self.args.process_index)
        if path.is_file():
            self._resumed = torch.load(path, weights_only=True, map_location="cpu")
        else:
            logger.warning(
                "%s has no %s: it was written by another trainer, with save_only_model, or by fewer processes. Training goes "
                "on, but in another order of rows than a run that was not stopped.",
                *(checkpoint, path.name),
            )

    @property
    def moves_reference(self) -> bool:
        """Under TRL's sync_ref_model the reference is a state of the run; else it is the model the run began with."""
        return getattr(self.args, "sync_ref_model", False) and getattr(self, "ref_model", None) is not None

    @property
    def _is_sharded(self) -> bool:
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def put_reference(self, path: Path) -> None:
        """Raises ValueError: the file is not there, or weights are dealt out."""
        if self._is_sharded or not path.is_file():
            raise ValueError(
                f"{path.parent} does not hold the reference model that trainer.sync_ref_model=true has moved (under FSDP and "
                "DeepSpeed it is not saved), so the run cannot go on from there. Start it again with overwrite=true."
            )
        weights = torch.load(path, weights_only=True, map_location=place_of(self.accelerator.device))
        self.accelerator.unwrap_model(self.ref_model).load_state_dict(weights)

    def _save_checkpoint(self, model, trial):
        # Old checkpoints go once this one is complete: before, a kill in between would leave nothing to resume from.
        limit = self.args.save_total_limit
        self.args.save_total_limit = None if _ROTATE else limit
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        self._save_beside(folder)
        self.accelerator.wait_for_everyone()
        if self.args.should_save and folder.is_dir():
            (folder / COMPLETE_MARK).touch()
            more = self.keeps_one_before_the_last and self.state.global_step >= self.state.max_steps
            self.rotate(folder.parent, 1 if more else 0)

    def rotate(self, folder: Path, more: int = 0) -> None:
        """Deletes the oldest checkpoints beyond `save_total_limit` (plus `more`) as transformers does, never the best one."""
        limit = self.args.save_total_limit
        if _ROTATE and self.args.should_save and limit:
            _ROTATE(str(folder), limit + more, self.state.best_model_checkpoint, use_mtime=True)

    def _save_beside(self, folder: Path) -> None:
        """What a subclass adds to a checkpoint, before it counts as complete. Called on all ranks."""

    def _run_state(self) -> dict[str, Any]:
        """Of this rank; plain values and tensors, so that it loads without running code."""
        return {
            "epoch_start": self._epoch_start,
            "sampler": _generator_state(self._train_sampler),
            "window": {name: _plain(getattr(self, name)) for name in _WINDOW if hasattr(self, name)},
            "metrics": {key: [_plain(value) for value in values] for key, values in self._metrics["train"].items()},
            "tokens": _plain(getattr(self, "_total_train_tokens", 0)),
            "rewards": [_state_of(func) for func in getattr(self, "reward_funcs", ())],
            "carried": {name: thing.state_dict() for name, thing in self.carried.items()},
        }

    def _restore(self) -> None:
        """After transformers has started the run anew, before its first epoch."""
        self._epoch_start = None
        if self._resumed is None:
            return
        found = self._resumed
        for name, value in found["window"].items():
            setattr(self, name, value.to(self.args.device) if torch.is_tensor(value) else value)
        self._metrics["train"].clear()
        for key, values in found["metrics"].items():
            self._metrics["train"][key].extend(values)
        self._total_train_tokens = found["tokens"]
        if hasattr(self, "_step"):  # TRL's count of micro-batches, which says when it samples
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
        for func, state in zip(getattr(self, "reward_funcs", ()), found["rewards"], strict=False):
            if state is not None:
                stateful(func).load_state_dict(state)
        for name, thing in self.carried.items():
            if name in found["carried"]:
                thing.load_state_dict(found["carried"][name])

    def _begin_epoch(self) -> None:
        """Before the epoch's order is drawn."""
        epoch = int(self.state.epoch or 0)
        if self._resumed is not None:
            found, self._resumed = self._resumed, None
            start = found["epoch_start"]
            if start is not None and start["epoch"] == epoch and not self.args.ignore_data_skip:
                _set_random_states(start["random"])
                _set_generator(self._train_sampler, start["sampler"])
            else:
                _set_generator(self._train_sampler, found["sampler"])
        self._epoch_start = {
            "epoch": epoch,
            "random": _random_states(),
            "sampler": _generator_state(self._train_sampler),
        }


class _Resume(TrainerCallback):
    def __init__(self, trainer):
        self._trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self._trainer._restore()

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._trainer._begin_epoch()


def _random_states() -> dict[str, Any]:
    """Of Python, numpy and torch on the CPU, where every order of rows is drawn."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.random.get_rng_state(),
    }


def _set_random_states(states: dict[str, Any]) -> None:
    kind, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.random.set_rng_state(states["torch"])


def _generator_state(sampler) -> torch.Tensor | None:
    generator = getattr(sampler, "generator", None)
    return generator.get_state() if isinstance(generator, torch.Generator) else None


def _set_generator(sampler, state: torch.Tensor | None) -> None:
    generator = getattr(sampler, "generator", None)
    if state is not None and isinstance(generator, torch.Generator):
        generator.set_state(state)


def _state_of(func) -> dict | None:
    thing = stateful(func)
    return None if thing is None else thing.state_dict()


def _plain(value: Any) -> Any:
    """Numbers of numpy and others as Python's; tensors on the CPU."""
    if torch.is_tensor(value):
        return value.detach().cpu().clone()
    return value.item() if hasattr(value, "item") else value
