"""One evaluation: each model writes, the rewards judge, and what they found is put side by side.

<evals>/<task>/seed<k>-<digest of what is evaluated>/
    settings.json           what a completion and its scores depend on
    <model>-<digest>.jsonl  every completion of a model, with its scores; appended as they come
    evaluation.json         the numbers of the last command
    evaluation.md           the same as a page

Completions are there for good: the same command makes only those that are missing, and so does one with more of them.
"""

from __future__ import annotations

import gc
import json
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, set_seed
from tqdm import tqdm
from trl import GRPOConfig

from configs.compose import ConfigError
from trainers.command.behind.evaluation import Evaluation, prepare_evaluation
from trainers.command.build import build_args
from trainers.command.cli import Command
from trainers.command.reward_tags import check_special_tokens, opening_notes
from trainers.evaluation.completions import Completion
from trainers.evaluation.measures import Measure, counts_of, differences, measures_of
from trainers.evaluation.models import Named
from trainers.evaluation.page import letters, markdown_of, print_evaluation, show_samples
from trainers.evaluation.trainer import EvaluationTrainer, Place
from trainers.run.files import metric_rows, write_json, write_rows, write_text
from trainers.run.folder import check_place
from trainers.run.tell.facts import versions

SETTINGS, NUMBERS, PAGE = "settings.json", "evaluation.json", "evaluation.md"
_LINES = 20  # of progress, without a terminal

# transformers renames this option for v6; TRL reads the old name.
warnings.filterwarnings("ignore", message=".*gradient_checkpointing. is deprecated", category=FutureWarning)


def run_eval_model(command: Command) -> None:
    """Everything that can be wrong with the command is found before a model is loaded or a file written.

    Raises:
        ValueError: with the remedy.
    """
    job = prepare_evaluation(command)
    args = evaluation_args(job)  # starts the processes' group, on the device that it names
    state = PartialState()
    refuse_other_settings(job)
    if command.dry_run:
        state.print("\n".join(_planned(job)))
        return
    state.wait_for_everyone()  # nobody writes before all have looked
    state.print(f"folder   {job.folder}")
    if state.is_main_process:
        write_json(job.folder / SETTINGS, job.facts)
    try:
        found = [_completions(job, named, args, state) for named in job.models]
    except KeyboardInterrupt:
        if state.is_main_process:
            print("\neval_model.py: stopped. The same command goes on where this one was.", file=sys.stderr)
        raise SystemExit(130) from None
    if state.is_main_process:
        _finish(job, found)
    state.wait_for_everyone()
    state.destroy_process_group()


def _planned(job: Evaluation) -> list[str]:
    """The lines of `--dry-run`."""
    config = job.command.config
    each = len(job.rows) * config.n
    files = [(named.label, job.file(named)) for named in job.models]
    there = [0 if config.overwrite or not file.exists() else len(read_completions(file)) for _, file in files]
    return [
        f"task     {job.command.choices['task']}: {len(job.rows)} prompts of split={config.split}, n={config.n} completions each",
        f"rewards  {', '.join(job.judges.names)}",
        *(
            f"model    {label}: {max(each - found, 0)} completions to come"
            for (label, _), found in zip(files, there, strict=True)
        ),
        f"tokens   at most {job.longest} a completion: {each * job.longest:,} of a model",
        f"folder   {job.folder}",
        "dry run  no model was loaded and nothing was written",
    ]


def refuse_other_settings(job: Evaluation) -> None:
    """Raises ConfigError where the folder holds an evaluation of something else, or cannot be written."""
    check_place(job.folder, "out=...")
    try:
        before = json.loads((job.folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    now = json.loads(json.dumps(job.facts))
    other = [key for key in now if before.get(key) != now[key]]
    if other and not job.command.config.overwrite:
        raise ConfigError(
            f"{job.folder} holds completions of another evaluation ({', '.join(other)} differ). Name another folder "
            "(out=...), or replace them: overwrite=true."
        )


def _completions(job: Evaluation, named: Named, args: GRPOConfig, state: PartialState) -> list[Completion]:
    """Those that are there, and those that are missing, which are made. Complete on the main process."""
    file, n = job.file(named), job.command.config.n
    wanted = {(prompt, sample) for prompt in range(len(job.rows)) for sample in range(n)}
    there: list[Completion] = []
    if state.is_main_process:
        there = [] if job.command.config.overwrite else read_completions(file)
        write_rows(file, [one.as_dict() for one in there])
    places = [[(one.prompt, one.sample) for one in there]]
    if state.num_processes > 1:
        broadcast_object_list(places, from_process=0)
    missing = sorted(wanted - set(places[0]))
    if missing:
        state.print(f"model    {named.label}: {len(missing)} of {len(wanted)} completions to come")
        there += _made(job, named, missing, file, args, state)
    else:
        state.print(f"model    {named.label}: all {len(wanted)} completions are there")
    return [one for one in there if (one.prompt, one.sample) in wanted]


def _made(
    job: Evaluation, named: Named, missing: Sequence[Place], file: Path, args: GRPOConfig, state: PartialState
) -> list[Completion]:
    config = job.command.config
    policy = job.policy(named)
    check_special_tokens(job.judges.funcs, policy.tokenizer, f"the tokenizer of {named.label}")
    template = dict(config.trainer.chat_template_kwargs)
    for line in opening_notes(job.judges.funcs, policy.tokenizer, [row["prompt"] for row in job.rows], template):
        state.print(line)
    set_seed(config.seed)  # vLLM's and whatever a reward draws
    trainer = EvaluationTrainer(
        model=policy.model,
        tokenizer=policy.tokenizer,
        args=args,
        task=job.task,
        rows=job.rows,
        places=missing,
        judges=job.judges,
        seed=config.seed,
        greedy=config.trainer.temperature == 0,
        failed_share=config.reward.guard.max_failed_share,
    )
    if state.is_main_process:
        trainer.scoring_observers.append(_Noting(trainer, file, len(missing)))
    trainer.evaluate()
    made = trainer.collector.completions
    del trainer, policy
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return made


def evaluation_args(job: Evaluation) -> GRPOConfig:
    """TRL's config for generating. What it says of training is only there to be accepted."""
    trainer = job.command.config.trainer
    return build_args(
        job.command.config,
        GRPOConfig,
        output_dir=str(job.folder),
        seed=job.command.config.seed,
        temperature=trainer.temperature or 1.0,
        max_completion_length=job.longest,
        chat_template_kwargs=dict(trainer.chat_template_kwargs),
        num_generations=2,
        num_generations_eval=1,
        per_device_train_batch_size=2 * trainer.per_device_eval_batch_size,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        bf16=False,  # computed as the weights are: model.dtype
        vllm_importance_sampling_correction=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )


class _Noting:
    """Writes what a collector has newly found, and shows how far it is."""

    def __init__(self, trainer: EvaluationTrainer, file: Path, count: int):
        self._all, self._file, self._count, self._done, self._told = trainer.collector.completions, file, count, 0, 0
        shows = sys.stderr.isatty()
        self._bar = tqdm(total=count, unit="completion", dynamic_ncols=True, leave=False) if shows else None

    def __call__(self, *_: Any) -> None:
        new = self._all[self._done :]
        with self._file.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(one.as_dict()) + "\n" for one in new))
        self._done += len(new)
        rewards = [one.reward for one in self._all if one.reward is not None]
        shown = f"reward {sum(rewards) / len(rewards):.3f}" if rewards else "no reward yet"
        if self._bar is not None:
            self._bar.update(len(new))
            self._bar.set_postfix_str(shown)
            if self._done >= self._count:
                self._bar.close()
        elif self._done * _LINES // self._count > self._told or self._done == self._count:
            self._told = self._done * _LINES // self._count
            print(f"{self._done:>6}/{self._count} completions  {shown}", flush=True)


def read_completions(file: Path) -> list[Completion]:
    """What a file holds; a line that was cut off is left out."""
    if not file.is_file():
        return []
    rows = metric_rows(file.read_text(encoding="utf-8"))
    fields = Completion.__dataclass_fields__
    needed = {name for name, each in fields.items() if each.default is MISSING and each.default_factory is MISSING}
    return [Completion(**row) for row in rows if needed <= set(row) <= set(fields)]


def _finish(job: Evaluation, found: Sequence[list[Completion]]) -> None:
    evaluation = evaluation_of(job, found)
    command = shlex.join(["python", "eval_model.py", *job.command.overrides])
    write_json(job.folder / NUMBERS, {"command": command, **evaluation})
    write_text(job.folder / PAGE, markdown_of(evaluation, command))
    show_samples(evaluation)
    print_evaluation(evaluation)
    print(f"\n{job.folder}: {NUMBERS}, {PAGE}, and the completions")


def evaluation_of(job: Evaluation, found: Sequence[list[Completion]]) -> dict[str, Any]:
    """The numbers. found: the completions of each model."""
    config, judges = job.command.config, job.judges
    level, names = config.level, letters(len(job.models))
    measures = [measures_of(completions, judges, job.rows, job.ks) for completions in found]
    models = [
        {
            "letter": letter,
            "name": named.label,
            "file": job.file(named).name,
            "measures": _as_dicts(measured, level),
            "unscored": counts_of(completions, judges.names),
            "samples": _samples(job, completions),
        }
        for letter, named, measured, completions in zip(names, job.models, measures, found, strict=True)
    ]
    against = [
        {
            "of": letter,
            "to": names[0],
            "measures": {n: one.as_dict() for n, one in differences(measured, measures[0], level).items()},
        }
        for letter, measured in zip(names[1:], measures[1:], strict=True)
    ]
    return {
        "task": job.task.name,
        "split": config.split,
        "prompts": len(job.rows),
        "n": config.n,
        "seed": config.seed,
        "level": level,
        "passes": judges.passes,
        "threshold": judges.threshold,
        "reward_weights": dict(zip(judges.names, judges.weights, strict=True)),
        "generation": job.facts["generation"],
        "models": models,
        "differences": against,
        "versions": versions(),
    }


def _as_dicts(measures: dict[str, Measure], level: float) -> dict[str, dict[str, Any]]:
    return {name: measure.mean(level).as_dict() for name, measure in measures.items()}


def _samples(job: Evaluation, completions: Sequence[Completion]) -> list[dict[str, Any]]:
    """The first completion of some prompts, spread over all of them."""
    firsts = sorted((one for one in completions if one.sample == 0), key=lambda one: one.prompt)
    show = min(job.command.config.show, len(firsts))
    chosen = [firsts[i * len(firsts) // show] for i in range(show)]
    return [{"asked": _asked(job.rows[one.prompt]["prompt"]), **one.as_dict()} for one in chosen]


def _asked(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else str(prompt[-1].get("content", ""))
