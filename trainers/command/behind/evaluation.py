"""`eval_model.py`: from its words to an evaluation, everything checked that can be without a model."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from configs.compose import ConfigError, build_node
from sampling.draws import check_counts
from tasks.base import Row, Task
from tasks.environments.earned import EnvironmentReward
from trainers.command.behind.agreed import EVALUATED, with_runs
from trainers.command.behind.brings import HF, OF_START
from trainers.command.build import Rewards, build_policy, build_rewards, build_task
from trainers.command.cli import Command
from trainers.command.tools import build_tools, check_tools
from trainers.evaluation.completions import Judges, passes_by_default
from trainers.evaluation.measures import ks_for
from trainers.evaluation.models import Named, model_at, named_models
from trainers.model.policy import Policy
from trainers.seam.reference_reward import reads_reference
from userio.digest import digest_of_own_code, digest_of_value
from userio.read import nearest
from userio.words import word_of

_LEAST, _LONGEST = 64, 512  # the first as train_grpo.py has it
_SPLITS = {"evaluation": "held-out", "train": "training"}
# Settings of generation that change how fast it is, and not what it gives.
_NO_FACTS = ("per_device_eval_batch_size", "vllm_mode", "vllm_server_base_url", "vllm_gpu_memory_utilization",
             "vllm_tensor_parallel_size")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `eval_model.py` does.

    Args:
        command: its words, composed; judges: its reward functions.
        rows: of the prompts; ks: for pass@k.
        models: in the order in which they are shown; the first is what the others are compared with.
        folder: of the results.
        facts: all that a completion and its scores depend on, besides the model, its prompt and its number.
    """

    command: Command
    task: Task
    judges: Judges
    rows: list[Row]
    ks: list[int]
    models: list[Named]
    folder: Path
    facts: dict[str, Any]

    @property
    def longest(self) -> int:
        return self.facts["generation"]["max_completion_length"]

    def policy(self, named: Named) -> Policy:
        """Loads one of the models."""
        if named.place is None:
            return build_policy(self.command.config, self.task)
        return build_node("model", OmegaConf.create({**self._settings(named), "name": named.place}), task=self.task)

    def file(self, named: Named) -> Path:
        """Where its completions are. The name follows from the model's files and from how it is loaded."""
        said = {key: value for key, value in self._settings(named).items() if value not in (None, False, "auto", {})}
        label = re.sub(r"[^\w.-]+", "-", named.label).strip("-.")[-60:] or "model"
        return self.folder / f"{label}-{digest_of_value([named.fingerprint(), said])[:12]}.jsonl"

    def _settings(self, named: Named) -> dict[str, Any]:
        """Of the node that makes it. `model=hf` says how (its dtype, its chat template) for all that have a name."""
        node: Any = OmegaConf.to_container(self.command.config.model, resolve=True)
        if named.place is None:
            return node
        if node["_target_"] != HF:
            return {"_target_": HF}
        is_of_runs = not any(word_of(word).name == "model" for word in self.command.overrides)
        is_start = node.get("name") is not None and named == self.models[0]
        others = OF_START if is_of_runs and not is_start else ("name",)
        return {key: value for key, value in node.items() if key not in others}


def prepare_evaluation(command: Command) -> Evaluation:
    """Raises ConfigError: with the remedy."""
    command = with_runs(command, EVALUATED)
    config = command.config
    ks = _checked_numbers(config)
    models = _models(command)
    task = build_task(config)
    task.tools = [*task.tools, *build_tools(config.tools)]
    check_tools(task, config.trainer)
    rows = getattr(task, config.split)[: config.limit]
    if not rows:
        raise ConfigError(
            f"task {task.name} has no {_SPLITS[config.split]} prompts. Hold some out (task.eval_path, task.eval_share, "
            "task.n_eval or the like, see --help), or take those for training: split=train."
        )
    if not any("max_failed_share" in word for word in command.overrides):
        config.reward.guard["max_failed_share"] = 1.0  # nothing is lost by going on: failures are counted
    rewards = _with_pay(build_rewards(config, task), task)
    if asking := [name for name, func in zip(rewards.names, rewards.funcs, strict=True) if reads_reference(func)]:
        raise ConfigError(
            f"the reward {asking[0]!r} is the likelihood under a run's start, and nothing is trained here. Name other rewards: "
            "reward.funcs=[file.py:function], reward=task."
        )
    names = rewards.names
    passes = config.passes or passes_by_default(rewards.funcs, rewards.weights, names)
    if passes not in names:
        raise ConfigError(
            f"passes={passes}: no such reward function.{nearest(passes, names)} There is: {', '.join(names)}."
        )
    facts = _facts(command, task, passes)
    judges = Judges(rewards.funcs, rewards.weights, names, passes, config.threshold)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    folder = Path(config.out or Path(config.evals) / task.name / f"seed{config.seed}-{digest}").expanduser()
    return Evaluation(
        command=command, task=task, judges=judges, rows=rows, ks=ks, models=models, folder=folder, facts=facts
    )  # fmt: skip


def _with_pay(rewards: Rewards, task: Task) -> Rewards:
    """With what an environment pays by itself where no reward function asks it: TRL adds its `get_reward` in training, too."""
    if task.environment is None:
        return rewards
    kind = type(task.environment())
    if "get_reward" not in [name for name, _ in inspect.getmembers(kind, predicate=inspect.isfunction)]:
        return rewards
    return Rewards([*rewards.funcs, EnvironmentReward(name=kind.__name__)], [*rewards.weights, 1.0])


def _checked_numbers(config: Any) -> list[int]:
    """The k of pass@k."""
    settings = config.trainer
    if config.split not in _SPLITS:
        raise ConfigError(f"split={config.split}: choose one of {', '.join(_SPLITS)}.{nearest(config.split, _SPLITS)}")
    counts = {"n": config.n, "trainer.per_device_eval_batch_size": settings.per_device_eval_batch_size}
    optional = {
        "limit": config.limit,
        "trainer.max_completion_length": settings.max_completion_length,
        "trainer.max_tool_calling_iterations": settings.max_tool_calling_iterations,
    }
    check_counts(**counts, **{name: value for name, value in optional.items() if value is not None})
    check_counts(0, show=config.show, **{"trainer.top_k": settings.top_k})
    if not 0 < config.level < 1:
        raise ConfigError(f"level={config.level} must lie between 0 and 1, as 0.95.")
    if not math.isfinite(config.threshold):
        raise ConfigError(f"threshold={config.threshold} must be a finite number.")
    for name in ("top_p", "repetition_penalty"):
        if not 0 < settings[name] <= (1 if name == "top_p" else math.inf):
            raise ConfigError(
                f"trainer.{name}={settings[name]} is out of range: top_p in (0, 1], repetition_penalty above 0."
            )
    if settings.min_p is not None and not 0 <= settings.min_p <= 1:
        raise ConfigError(f"trainer.min_p={settings.min_p} must lie in [0, 1], or be null.")
    if not (settings.temperature >= 0 and math.isfinite(settings.temperature)):
        raise ConfigError(
            f"trainer.temperature={settings.temperature} must be at least 0; 0 takes the likeliest token."
        )
    if settings.temperature == 0 and config.n > 1:
        raise ConfigError(
            f"trainer.temperature=0 writes the same completion n={config.n} times. Set n=1, or a temperature."
        )
    given = [config.k] if isinstance(config.k, int) else list(config.k or ks_for(config.n))
    for k in given:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= config.n:
            raise ConfigError(
                f"k={k}: pass@k of n={config.n} completions needs a whole number from 1 to {config.n}. Raise n."
            )
    return sorted(set(given))


def _models(command: Command) -> list[Named]:
    config, choice = command.config, command.choices["model"]
    is_named = config.model.get("_target_") == HF
    first = (
        model_at(config.model.name) if is_named and config.model.get("name") else None if is_named else Named(choice)
    )
    others = config.models
    found = named_models(first, [others] if isinstance(others, str) else [str(one) for one in others or ()])
    if config.trainer.use_vllm and len(found) > 1:
        raise ConfigError(
            "trainer.use_vllm=true generates for one model a command. Give each a command of its own; one with all of them "
            "finds what they left and compares."
        )
    return found


def _facts(command: Command, task: Task, passes: str) -> dict[str, Any]:
    config = command.config
    plain: Any = OmegaConf.to_container(config, resolve=True)
    generation = {key: value for key, value in plain["trainer"].items() if key not in _NO_FACTS}
    if generation["max_completion_length"] is None:
        suggested = task.max_completion_length
        generation["max_completion_length"] = max(_LEAST, suggested) if suggested else _LONGEST
    played: dict[str, Any] = {}
    if task.environment is not None or task.tools:  # what its turns are made of does not stand in its rows
        node = {key: value for key, value in plain["task"].items() if not key.startswith("n_")}
        played = {"environment": node if task.environment is not None else None, "tools": plain["tools"]}
    else:
        del generation["max_tool_calling_iterations"]
    return {
        "task": task.name,
        **played,
        "split": config.split,
        "rows": digest_of_value(getattr(task, config.split)),
        "rewards": {key: plain["reward"][key] for key in ("funcs", "weights")},
        "code of rewards": digest_of_own_code(),
        "passes": passes,
        "generation": generation,
        "seed": config.seed,
    }
