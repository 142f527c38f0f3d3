"""The settings of the run that an audit names: its task, rewards, trainer and strategy, the model it made, and what that began
with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from configs.compose import ConfigError
from trainers.command.audit.stages import Stage, check_is_run, run_of, stage_of_run
from trainers.command.audit.words import OF_RUN
from trainers.command.behind.brings import HF, called, config_of, loading, put_words
from trainers.command.cli import Command
from trainers.run.files import CONFIG
from userio.words import Word, word_of

_OF_FOLDER = ("output_dir", "run_name")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the policy of an audited run comes from.

    Args:
        run: its folder. seed: of the run.
        model: the node of the model that it began with; None where that is audited itself, or a model that is not the run's.
        place: folder of the policy's weights; None: it is what the run began with.
        credit: the node of its strategy.
    """

    run: Path
    seed: int
    model: DictConfig | None
    place: Path | None
    credit: dict[str, Any] = field(default_factory=dict)


def with_run(command: Command, stage: Stage | None = None) -> tuple[Command, Origin | None]:
    """The command with what `run=` brings, where it names one, and where the run's policy comes from. stage: whose model; None: what
    `run=` itself stands for.

    Raises:
        ConfigError: no run there, or no model in it, or a setting that the run's task, rewards or model have not.
    """
    config = command.config
    if config.run is None:
        return command, None
    said = _config_of(Path(run_of(config.run)))
    words = [word_of(word) for word in (*command.overrides, *command.apart)]
    names = [word.name for word in words]
    config, choices = config.copy(), dict(command.choices)
    with open_dict(config):
        for group in ("task", "reward", "credit"):
            if group not in names and isinstance(said.get(group), DictConfig):
                config[group], choices[group] = said[group], called(said[group], group)
        if "model" not in names:
            place = (stage or stage_of_run(config.run)).place
            config.model, choices["model"] = (
                said.model if place is None else {**loading(said), "name": place},
                config.run,
            )
        if "tools" not in names and said.get("tools"):
            config.tools = said.tools
    for key, value in said.get("trainer", {}).items():
        if key in config.trainer and key not in _OF_FOLDER and f"trainer.{key}" not in names:
            config.trainer[key] = value
    put_words(config, command.apart, OF_RUN)
    return replace(command, config=config, choices=choices), _origin(config, said, words)


def _origin(config: DictConfig, said: DictConfig, words: Sequence[Word]) -> Origin:
    run, own = Path(run_of(config.run)), [word.name for word in words if word.name.startswith("model")]
    place = Path(str(config.model.name)).expanduser() if config.model.get("_target_") == HF else None
    is_its_own = "model" not in own and place is not None and run.resolve() in place.resolve().parents
    begun = said.model.copy() if is_its_own else None
    for name in own if begun is not None else ():
        if name != "model.name" and OmegaConf.select(begun, name.partition(".")[2]) is not None:
            OmegaConf.update(begun, name.partition(".")[2], OmegaConf.select(config, name), merge=False)
    credit: Any = OmegaConf.to_container(said.credit, resolve=True)
    return Origin(run=run, seed=int(said.get("seed", 0)), model=begun, place=place, credit=credit)


def _config_of(folder: Path) -> DictConfig:
    check_is_run(folder)
    said = config_of(folder, f"run={folder}")
    if not {"task", "reward", "trainer", "credit"} <= set(said):
        raise ConfigError(
            f"run={folder}: {CONFIG} is not that of a run of train_grpo.py, which alone has rewards and credit."
        )
    return said
