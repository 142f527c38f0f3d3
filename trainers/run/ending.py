"""The end of a run: the model is saved first, and what follows (the last evaluation, pictures, the table, trackers) may
fail without costing it. A failure there is told, written to error.log and named in summary.json; the run is whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.trainer_callback import CallbackHandler

from trainers.model.bars import without_bars
from trainers.seam.checkpoints import last_step
from userio.tracebacks import LOG, write_log


class Ending:
    """Trains, saves and lets the rest fail.

        ending = Ending(trainer, folder.path)
        ending.train(checkpoint)
        ending.save(folder.model)
        ending.evaluate()
        with ending.part("curves.png"):
            ...
        ending.release()
        ending.close()

    Attributes:
        failed: what failed after the last step, and how, in a line each.
        status: the exit code that the run asks for.
    """

    def __init__(self, trainer: Any, folder: Path):
        self._trainer, self._folder, self._state = trainer, folder, PartialState()
        self._apart = False  # another process may be waiting for something that this one will not do
        self.failed: dict[str, str] = {}
        self.status = 0
        trainer.keeps_one_before_the_last = True
        self._handler = trainer.callback_handler = PatientHandler(trainer.callback_handler, self.part)

    def train(self, checkpoint: str | None) -> None:
        """`trainer.train()`. What fails once all steps are done is a failure of the end, not of the training."""
        with self._says_where(), logged(self._folder, "training"), without_bars():
            try:
                self._trainer.train(resume_from_checkpoint=checkpoint)
            except Exception as error:
                shared = self._trainer.is_fsdp_enabled or self._trainer.is_deepspeed_enabled
                if not self._handler.is_over(self._trainer.state) or (shared and self._state.num_processes > 1):
                    raise
                self._report("the end of training", error)
                self._trainer.is_in_train, self._apart = False, self._state.num_processes > 1

    def save(self, model: Path) -> None:
        """Saves the model, then hands it to the hub if that was asked for.

        Raises:
            ValueError: the disk does not take it; with the remedy.
        """
        with self._says_where(), logged(self._folder, "saving the model"), without_bars():
            try:
                self._trainer.save_model(str(model), _internal_call=True)
            except OSError as error:
                raise ValueError(
                    f"the model cannot be saved in {model} ({error.strerror or error}). Once that is mended, resume=true "
                    "does the steps since the last checkpoint again."
                ) from error
        if self._trainer.args.push_to_hub and not self._apart:
            self._together("push to the hub", lambda: self._trainer.push_to_hub(commit_message="Model save"))

    def evaluate(self, is_wanted: bool = True) -> None:
        """The last evaluation, with the trackers still open."""
        if is_wanted and not self._apart and self._trainer.eval_dataset is not None:
            self._together("the last evaluation", self._trainer.evaluate)

    def release(self) -> None:
        """Tells the callbacks, the trackers among them, that training has ended; once."""
        self._handler.release(self._trainer)

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Something that this process does alone and that may fail."""
        with self._says_where():
            try:
                yield
            except Exception as error:
                self._report(what, error)

    def note(self) -> dict[str, Any]:
        """What summary.json says of it: nothing if all went well."""
        return {"failed_after_training": self.failed} if self.failed else {}

    def close(self) -> None:
        """Waits for the other processes and takes leave of them. Where they may be waiting for us in vain, we end instead: gloo
        tells them, a launcher ends the others of a process that ends badly.

        Raises:
            SystemExit: with 1, in that last case.
        """
        self.release()
        with self.part("old checkpoints"):
            self._trainer.rotate(Path(self._trainer.args.output_dir))
        if not self._apart:
            with suppress(Exception):  # the others have ended: nothing is left to wait for
                self._state.wait_for_everyone()
                self._state.destroy_process_group()  # else its threads outlive the interpreter, and may abort the process
        elif self._state.backend != "gloo":
            raise SystemExit(1)

    def _together(self, what: str, work: Callable[[], Any]) -> None:
        """What all processes do together: whoever fails cannot know how far the others are."""
        with self._says_where():
            try:
                work()
            except Exception as error:
                self._report(what, error)
                self._apart = self._state.num_processes > 1

    @contextmanager
    def _says_where(self) -> Iterator[None]:
        """A Ctrl-C that leaves it knows how far the run was, and from where it can go on."""
        try:
            yield
        except KeyboardInterrupt as stop:
            if not stop.args:
                state = self._trainer.state
                start = last_step(self._trainer.args.output_dir, before=state.max_steps)
                goes = (
                    f"this goes on from step {start}" if start else "no checkpoint was written, and this starts again"
                )
                stop.args = (f"after step {state.global_step} of {state.max_steps}; {goes}",)
            raise

    def _report(self, what: str, error: Exception) -> None:
        if what in self.failed:  # a tracker that fails at every log
            return
        rank, many = self._state.process_index, self._state.num_processes > 1
        log = write_log(self._folder, error, what, rank)
        self.failed[what] = f"{type(error).__name__}: {error}".split("\n")[0]
        who = f"[rank {rank}] " if many else ""
        where = f" The whole traceback: {log}" if log else ""
        print(f"\n{who}After training, {what} failed: {self.failed[what]}.{where}", file=sys.stderr, flush=True)


class PatientHandler(CallbackHandler):
    """A trainer's callbacks, told of the end of training only when `release` is called (most trackers close then, and the
    last evaluation is still to come), and without power over a run whose steps are done.

    Args:
        handler: the trainer's own, whose callbacks it takes over.
        part: opens what may fail, by name.
    """

    def __init__(self, handler: CallbackHandler, part: Callable[[str], Any]):
        self.__dict__.update(handler.__dict__)
        self._part, self._over, self._holds = part, False, True

    def is_over(self, state: Any) -> bool:
        """Whether the last step is done."""
        return self._over or 0 < state.max_steps <= state.global_step

    def release(self, trainer: Any) -> None:
        """Tells the callbacks that training has ended."""
        if not self._holds:
            return
        self._holds = False
        self.on_train_end(trainer.args, trainer.state, trainer.control)

    def call_event(self, event, args, state, control, **kwargs):
        if event == "on_train_end":
            self._over = True
            if self._holds:
                return control
        if not self.is_over(state):
            return super().call_event(event, args, state, control, **kwargs)
        everyone = self.callbacks
        for callback in everyone:
            self.callbacks = [callback]
            try:
                with self._part(f"{type(callback).__name__}.{event}"):
                    control = super().call_event(event, args, state, control, **kwargs)
            finally:
                self.callbacks = everyone
        return control


@contextmanager
def logged(folder: Path, where: str) -> Iterator[None]:
    """An exception that leaves it has its whole traceback in the folder's error.log, and knows so (`LOG`)."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if not hasattr(error, LOG):
            setattr(error, LOG, write_log(folder, error, where, PartialState().process_index))
        raise
