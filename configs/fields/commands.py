"""The settings of the commands themselves, each written here and nowhere else: default, type and meaning.

The first are a command's own; what it has in common with others comes after them. `configs/<command>.yaml` says which groups
it chooses from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from configs.fields.generation import GenerationSettings


@dataclass
class Record:
    """Per-token records for `python -m compare.view`."""

    every: int = 10
    """Every how many steps; 0: never."""
    completions: int = 32
    """At most this many completions each time."""


@dataclass
class AuditWhileTraining:
    """Signal and noise of the running strategy's update (docs/audit.md)."""

    every: int = 0
    """Every how many steps they are measured, at the cost of one backward pass; 0: never."""
    window: int = 10
    """Measurements that noise over signal and the critical batch are means of."""


@dataclass
class Sampling:
    """What becomes of the completions of a batch before it is used."""

    refill: int = 0
    """Dynamic sampling: rounds at most in which groups whose rewards have no spread are replaced by groups of other prompts;
    0: they stay (docs/running/refill.md)."""


@dataclass
class Training:
    """What every training command takes."""

    seed: int = 0
    """Of everything that is drawn; it names the run's folder too."""
    runs: str = "runs"
    """Where runs go; a run's own folder below it follows from its choices: <task>/<what is trained>/seed<seed>."""
    run_dir: str | None = None
    """Or name the folder yourself."""
    resume: bool = False
    """Continue an unfinished run where its last checkpoint ends."""
    overwrite: bool = False
    """Replace a run that is already there."""
    processes: int | None = None
    """Stop unless exactly this many processes run; null: do not ask."""
    launched_by: str | None = None
    """The file of configs/accelerate/ (fsdp2), or a path, that the run is meant for: --dry-run counts with it, and a launch that
    deals the weights out otherwise is stopped; null: do not ask."""
    build_only: bool = False
    """Build and cache the model, then stop."""
    show: int = 3
    """Texts shown at the end."""
    push: str | None = None
    """Hub id (you/name) that model/ is uploaded to at the end, with its card; null: it stays here."""
    push_private: bool = True
    """Whether a repository that push makes is private; one that is there stays as it is."""


@dataclass
class TrainGrpo(Training):
    """train_grpo.py"""

    tools: list[str] = field(default_factory=list)
    """Functions that the policy may call, [my_tools.py:search], each with type hints and a docstring, as TRL's `tools`."""
    sampling: Sampling = field(default_factory=Sampling)
    """What becomes of the completions of a batch before it is used."""
    record: Record = field(default_factory=Record)
    """Per-token records for `python -m compare.view`."""
    audit: AuditWhileTraining = field(default_factory=AuditWhileTraining)
    """Signal and noise of the running strategy's update (docs/audit.md)."""


@dataclass
class Likelihood(Training):
    """What train_sft.py and train_lhts.py share."""

    examples: int | None = None
    """Texts to learn from, and prompts to write texts for; null: as many as the task has training rows."""
    probe: int = 256
    """Texts written to measure their length and repetition: at the end, under train_lhts.py before as well."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template (chat_template_kwargs.enable_thinking=false), as trainer.chat_template_kwargs of
    train_grpo.py."""


@dataclass
class TrainSft(Likelihood):
    """train_sft.py"""

    eval_examples: int = 256
    """Texts that are held out; drawn from the task's demonstrations where it holds out none itself."""


@dataclass
class TrainLhts(Likelihood):
    """train_lhts.py"""

    tau: float | list[float] = 0.7
    """The sequence temperature; [0.5,1.0]: one model that takes tau as an input, trained over that range."""
    horizon: int | None = 8
    """Tokens ahead that a weight looks at: 1 is token temperature, null sequence temperature."""
    clamp: float = 3.0
    """Upper limit of the log weights; pulls q towards p. The share of tokens that meet it is logged."""
    kl: float = 0.05
    """Factor of KL(q_t || p_t), per token."""
    self_samples: float = 1.0
    """Share of optimiser batches whose texts the frozen model writes. Only these have the target p_alpha; in the others the texts
    are the task's, and the target is p_data(x) p(x)^(alpha-1)."""
    max_new_tokens: int | None = None
    """Longest such text in tokens; null: what the task suggests, else 64."""
    baseline: str = "window"
    """What keeps weights near 1: window (leaves the optimum in place), position (as published; favours longer texts when
    alpha > 1) or none."""


@dataclass
class Sample:
    """sample.py"""

    run: str | None = None
    """A run's folder: the model that it has made, on its task unless another is given; null: what model= says."""
    tau: float = 0.7
    """Below 1 sharpens, above 1 flattens."""
    prompts: str | None = None
    """A .txt file with a prompt a line, or a table with a column "prompt"; null: the task's held-out prompts."""
    limit: int | None = 4
    """At most so many of them; null: all."""
    num_samples: int = 4
    """Texts per prompt."""
    max_length: int | None = None
    """Longest text in new tokens, part of the target; null: what the task suggests, else 128."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template (chat_template_kwargs.enable_thinking=false), as trainer.chat_template_kwargs of
    train_grpo.py."""
    tools: list[str] = field(default_factory=list)
    """Functions that the policy may call, as in train_grpo.py."""
    max_tool_calling_iterations: int | None = None
    """At most so many turns that call tools; null: as many as the length has room for."""
    seed: int = 0
    """Of the texts."""
    out: str | None = None
    """A .jsonl file for the texts with their log-probabilities; null: only print."""
    device: str | None = None
    """cpu, cuda, ...; null: a GPU if there is one."""


@dataclass
class EvalModel:
    """eval_model.py"""

    models: str | list[str] | None = None
    """More models beside that of model=, each compared with it on the same prompts: run folders, checkpoints, folders with an
    adapter, hub ids, patterns such as 'runs/chain/*/seed0'."""
    n: int = 1
    """Completions of each prompt."""
    k: int | list[int] | None = None
    """For pass@k; null: 1, 2, 4, ... and n."""
    passes: str | None = None
    """The reward function that says whether a completion passes; null: the one that compares answers, else the one that
    weighs most."""
    threshold: float = 1.0
    """A completion passes if it gives at least this."""
    split: str = "evaluation"
    """Which prompts of the task: evaluation (held out) or train."""
    limit: int | None = None
    """At most so many prompts; null: all."""
    tools: list[str] = field(default_factory=list)
    """Functions that the policy may call, as in train_grpo.py."""
    level: float = 0.95
    """Of the intervals."""
    seed: int = 0
    """Of the completions."""
    trainer: GenerationSettings = field(default_factory=GenerationSettings)
    """How completions are generated, by TRL's names."""
    evals: str = "evals"
    """Where evaluations go; the folder below it follows from what is evaluated."""
    out: str | None = None
    """Or name the folder yourself."""
    overwrite: bool = False
    """Generate again what is there already."""
    processes: int | None = None
    """Stop unless exactly this many processes run; null: do not ask."""
    show: int = 3
    """Completions shown of each model."""


@dataclass
class ScoreSettings:
    """python -m rewards.score"""

    completion_column: str | None = None
    """Of the file, or of the task's rows, where its completions are, or lists of them; dots lead inside; null: completion, or
    text."""
    limit: int | None = None
    """At most so many rows; null: all."""
    rows: int | None = None
    """So many rows are shown one by one; null: those that were typed (--completion)."""
    threshold: float = 1.0
    """A score passes if it is at least this."""


@dataclass
class LoopTrainerSettings:
    """What trainers/loop.py reads, by the names of TRL's `GRPOConfig`."""

    max_steps: int = 60
    """Optimiser steps."""
    per_device_train_batch_size: int = 128
    """Completions of a batch."""
    num_generations: int = 8
    """How many of them are for one prompt."""
    num_iterations: int = 1
    """Optimiser steps on each batch."""
    learning_rate: float = 3e-4
    """Of AdamW."""
    adam_beta2: float = 0.99
    """Of AdamW."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to it."""
    epsilon: float = 0.2
    """How far from 1 the ratio may go."""
    beta: float = 0.0
    """Of the KL to the policy at the start: a term of the loss, or under credit.kl_in_reward=true part of the reward."""
    temperature: float = 1.0
    """Of the policy, where it samples and where it learns."""
    max_completion_length: int | None = None
    """In tokens; null: what the task suggests, else 64."""
    mask_truncated_completions: bool = False
    """Whether texts that are cut off teach nothing."""
    logging_steps: int = 5
    """A line every so many steps."""


@dataclass
class LoopSettings:
    """python -m trainers.loop"""

    seed: int = 0
    """Of everything that is drawn."""
    trainer: LoopTrainerSettings = field(default_factory=LoopTrainerSettings)
    """Settings of TRL's that the loop has too."""


@dataclass
class LaunchSettings:
    """How a sweep starts its cells."""

    config: str | None = None
    """A file of configs/accelerate/ or your own; null: accelerate's default."""
    args: list[str] = field(default_factory=list)
    """More arguments for the launcher, e.g. [--num_processes,4]."""
    program: list[str] = field(default_factory=lambda: ["accelerate", "launch"])
    """What starts a cell; [python] leaves accelerate out."""
    devices: list[Any] | None = None
    """GPUs to deal out to the jobs, e.g. [0,1,2,3]; null: every cell sees all of them."""
    script: str | None = None
    """What a cell runs: train_sft.py, train_lhts.py or a file of your own; null: our train_grpo.py."""


@dataclass
class Report:
    """Options of `python -m compare.report`; null: as it decides itself."""

    reference: str | None = None
    """The arm that all others are compared with; null: uniform, else the first."""
    metric: str | None = None
    """What is compared; null: the reward."""
    primary: str | None = None
    """What decides: final, auc, tokens, final_steps; null: final."""
    threshold: float | None = None
    """For tokens-to-threshold; null: nine tenths of the reference's way."""
    window: int | None = None
    """Steps averaged for a score; null: a tenth of the run."""
    level: float | None = None
    """Of confidence; null: 0.95."""
    compare: str | None = None
    """The factor that is compared, at the best of the others; null: the strategy."""
    tuning_seeds: list[int] | None = None
    """Seeds that choose that best; the others compare. null: the lowest, half of them, or fewer so that five are left."""
    bounds: list[float] | None = None
    """Between which the metric must lie; null: [0,1] for a reward never logged outside."""


@dataclass
class SweepSettings:
    """sweep.py"""

    jobs: int = 1
    """Cells at once; each gets its own share of the cores."""
    sweep_dir: str | None = None
    """Everything of one sweep stands below this folder; null: sweeps/<name>."""
    name: str | None = None
    """null: made of what is swept and what is fixed, so that the same command finds its sweep again."""
    arms: str | None = None
    """A YAML of arms, one a line: `name: credit=... trainer.learning_rate=...`; null: what the command lists."""
    launch: LaunchSettings = field(default_factory=LaunchSettings)
    """How a cell is started."""
    check: bool = True
    """Compose every arm and build the shared start before the first cell."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of finished cells."""
    keep_models: bool = True
    """Keep the models of finished cells."""
    overwrite: bool = False
    """Throw away what this sweep has already and start again."""
    report: Report | bool = field(default_factory=Report)
    """Options of `python -m compare.report`, made at the end; false: no report."""


@dataclass
class RewardSettings:
    """What a YAML of configs/reward/ says."""

    funcs: str | list[Any] = "task"
    """The reward functions: file.py:function, a dotted name, or a `_target_` with its settings; task: the task's own."""
    weights: list[float] | None = None
    """One for each function; null: all 1, or the task's own."""


@dataclass
class GuardSettings:
    """Beside the settings of `rewards.guard.guarded`."""

    enabled: bool = True
    """false: the functions are called as they are."""
