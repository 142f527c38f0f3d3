"""What a run says of itself in its config.yaml, for a command that goes on with what it made: its task, rewards, tools, model, and how it
wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.command_line.unread import did_you_mean
from configs.compose import ConfigError
from trainers.run.files import CHECKPOINTS, CONFIG, MODEL, STARTED
from userio.words import word_of

HF = "trainers.model.pretrained.hf"
OF_START = ("name", "revision", "peft", "merge_adapter")  # of the model that the run began with


def run_behind(place: str | Path | None) -> Path | None:
    """The folder of the run that a model belongs to: its finished one, a checkpoint, or the run itself; None: no run's."""
    if place is None:
        return None
    folder = Path(place).expanduser()
    above = {MODEL: folder.parent, CHECKPOINTS: folder.parent.parent}
    found = [folder, *(run for name, run in above.items() if name in (folder.name, folder.parent.name))]
    return next((run for run in found if (run / CONFIG).is_file() and not (run / "config.json").is_file()), None)


def config_of(folder: Path, asked: str) -> DictConfig:
    """The configuration of a run. asked: the word that named it.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        said = OmegaConf.load(folder / CONFIG)
        OmegaConf.resolve(said)
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise ConfigError(f"{asked}: {CONFIG} cannot be read ({str(error).splitlines()[0]}).") from None
    return said if isinstance(said, DictConfig) else OmegaConf.create({})


def chosen(folder: Path, said: DictConfig, group: str) -> str:
    """What the run called its choice of a group, `task` or `model`."""
    try:
        last = (folder / STARTED).read_text(encoding="utf-8").splitlines()[-1]
        if isinstance(name := json.loads(last).get(group), str):
            return name
    except (OSError, ValueError, IndexError, AttributeError):
        pass  # an older run, or another program's folder
    return called(said[group], group)


def called(node: DictConfig, group: str) -> str:
    """The same, as its configuration alone tells it."""
    return str(node.get("name") if group == "credit" else node.get("_target_", "its own")).rpartition(".")[2]


def loading(said: DictConfig) -> dict[str, Any]:
    """How what the run has made is loaded: as its own model was (dtype, chat template)."""
    node: Any = OmegaConf.to_container(said.model, resolve=True) if "model" in said else {}
    kept = {key: value for key, value in node.items() if key not in OF_START} if node.get("_target_") == HF else {}
    return {"dtype": None, **kept, "_target_": HF}


def put_words(config: DictConfig, words: Sequence[str], groups: Sequence[str]) -> None:
    """Changes what the run brings by the words that speak of it, `task.limit=10`.

    Raises:
        ConfigError: the run's task, rewards or model have no such setting.
    """
    for word in words:
        if word_of(word).name.partition(".")[0] in groups:
            _put(config, word)


def _put(config: DictConfig, word: str) -> None:
    key = word_of(word).name
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    known = [str(one) for one in node] if isinstance(node, DictConfig) else []
    if name not in known:
        raise ConfigError(f"`{key}` is no setting of the run's {parent}.{did_you_mean(name, known, parent)}")
    (value,) = [OmegaConf.select(OmegaConf.from_dotlist([f"x={word_of(word).text}"]), "x")]
    OmegaConf.update(config, key, value, merge=False)
