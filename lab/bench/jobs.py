"""What the lab's commands share: strategies from the command line, a measurement as a job for a worker."""

from __future__ import annotations

import argparse
import difflib
import multiprocessing
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from configs.command_line.combinations import combinations_of, is_about_credit
from configs.compose import compose_strategy, config_choices
from configs.fields.help import help_of_choices, list_of_choices
from credit.strategy import Strategy
from lab.exact.quantities import climb
from lab.measure.critics import CRITICS
from lab.measure.declarations import enumerated
from lab.measure.estimate import FULL, Budget, measure
from userio.words import word_of

SETTINGS = ("out", "worlds", "group", "critic", "jobs", "lag", "step", "surrogate", "seed")


@dataclass(frozen=True)
class Spec:
    """A strategy by name: the overrides that make it, and which critic it is given."""

    label: str
    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...] = ()
    critic: str = "perfect"

    def strategy(self) -> Strategy:
        """Composes it.

        Raises:
            ValueError: unknown choice or key, with the nearest right name.
        """
        return compose_strategy(self.overrides, self.config_dirs)


@dataclass(frozen=True)
class BenchJob:
    """One strategy in one world. lag: updates the sampler is behind, each of length `step`."""

    spec: Spec
    world: str
    group_size: int = 4
    full: bool = False
    lag: int = 0
    step: float = 0.1
    surrogate: str = "clip"
    seed: int = 0


def split_arguments(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """`key=value` arguments -> (the lab's own settings, overrides of the strategy).

    Raises:
        ValueError: not `key=value`, or neither a setting nor part of `credit`; names the nearest one.
    """
    settings, overrides = {}, []
    for argument in arguments:
        key, value = word_of(argument)
        if value is None:
            raise ValueError(f"{argument!r} is not of the form key=value, e.g. credit=seq_norm.")
        if is_about_credit(argument):
            overrides.append(argument)
        elif key in SETTINGS:
            settings[key] = value
        else:
            near = difflib.get_close_matches(key, [*SETTINGS, "credit"], n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"`{key}` is no setting.{hint} There is: credit, {', '.join(SETTINGS)}.")
    return settings, overrides


def help_with_choices(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> str:
    """The help of a lab command: all of it with the strategies there are, or, of `--help credit=value`, that one alone."""
    folders = parser.parse_known_args([word for word in arguments if word not in ("-h", "--help")])[0].config_dir
    words = [word for word in arguments if word_of(word).value is not None]
    return (
        help_of_choices("strategy", words, folders) or f"{parser.format_help()}\n{list_of_choices('strategy', folders)}"
    )


def specs_of(overrides: Sequence[str], config_dirs: Iterable[str | Path] = (), critics: str = "") -> list[Spec]:
    """All combinations of comma-separated choices; every YAML in configs/credit/ when no `credit=` is given.

    A strategy that asks for a critic is listed once for each of `critics` (default: the perfect one, and a random one).

    Raises:
        ValueError: a choice that does not compose, or a critic that the lab does not have.
    """
    folders = tuple(str(folder) for folder in config_dirs)
    overrides = list(overrides)
    if not any(override.startswith("credit=") for override in overrides):
        overrides.insert(0, "credit=" + ",".join(config_choices("credit", folders)))
    found = []
    for label, combination in combinations_of(overrides):
        spec = Spec(label, combination, folders)
        if not spec.strategy().needs_values:
            found.append(spec)
            continue
        for critic in (critics or "perfect,random").split(","):
            if critic not in CRITICS:
                hint = difflib.get_close_matches(critic, CRITICS, n=1)
                near = f" Did you mean `{hint[0]}`?" if hint else ""
                raise ValueError(f"critic={critic}: the lab has no such critic.{near} There is: {', '.join(CRITICS)}.")
            found.append(Spec(f"{label} [{critic}]", combination, folders, critic))
    return found


def run_job(job: BenchJob) -> dict:
    """Measures; the record of `Measurement.record` plus label and declaration, or the reason why it cannot be done."""
    torch.set_num_threads(1)
    strategy = _composed(job.spec)
    learner, sampler = enumerated(job.world), None
    if job.lag:
        sampler, learner = learner, _lagged(job.world, job.lag, job.step)
    about = {
        "label": job.spec.label,
        "overrides": list(job.spec.overrides),
        "critic": job.spec.critic if strategy.needs_values else None,
        "lag": job.lag,
        "surrogate": job.surrogate if job.lag else None,
        "declared_unbiased": strategy.declaration.unbiased,
        "declared_weight_class": strategy.declaration.weight_class,
    }
    try:
        found = measure(
            learner,
            strategy,
            job.group_size,
            critic=job.spec.critic,
            sampler=sampler,
            surrogate=job.surrogate,
            budget=FULL if job.full else Budget(),
            seed=job.seed,
        )
    except ValueError as error:
        return about | {"world": job.world, "skipped": str(error)}
    except Exception as error:  # a member's own; the other strategies of the call go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__} in {place.name} ({Path(place.filename).name}, line {place.lineno}): {error}"
        return about | {"world": job.world, "skipped": f"A member of credit strategy {strategy.name!r} failed: {words}"}
    return about | found.record() | {"world": job.world}


def run_jobs(jobs: Sequence[BenchJob], workers: int) -> Iterator[dict]:
    """Records in the order they are finished. Workers are fresh processes, one thread each."""
    if workers <= 1:
        yield from map(run_job, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_in_folder, initargs=(sys.path,)) as pool:
        # World by world, so that each worker enumerates few of them; long jobs first.
        futures = [pool.submit(run_job, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()


def _in_folder(path: list[str]) -> None:
    sys.path[:] = path


@lru_cache(maxsize=256)
def _composed(spec: Spec) -> Strategy:
    return spec.strategy()


@lru_cache(maxsize=64)
def _lagged(world_name: str, lag: int, step: float):
    return climb(enumerated(world_name), lag, step)
