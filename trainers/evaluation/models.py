"""Which models a command names: those of `model=`, run folders, checkpoints, folders with an adapter, names of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from configs.compose import ConfigError
from trainers.run.files import CHECKPOINTS, MODEL
from userio.read import nearest

_A_MODEL = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Named:
    """A model to evaluate.

    Args:
        label: as it was named.
        place: what is loaded: a folder, or a name of the hub; None: what `model=` makes.
    """

    label: str
    place: str | None = None

    def fingerprint(self) -> str:
        """Twelve hex digits that change where the files of a local folder do."""
        folder = Path(self.place or "")
        files = sorted(folder.iterdir()) if self.place and folder.is_dir() else []
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
        return hashlib.sha256(repr((self.place or self.label, facts)).encode()).hexdigest()[:12]


def named_models(first: Named | None, others: Sequence[str]) -> list[Named]:
    """All of them in order, each once; patterns (`runs/chain/*/seed0`) stand for the folders that they match.

    Raises:
        ConfigError: a folder that is none, or without a model, or a pattern that matches nothing.
    """
    found = [first] if first else []
    for text in others:
        if has_magic(text) and not Path(text).exists():
            matches = sorted(place for place in glob(str(Path(text).expanduser())) if _inside(Path(place)))
            if not matches:
                raise ConfigError(f"models={text}: no folder with a model matches (looked in {Path.cwd()}).")
            found += [model_at(place) for place in matches]
        else:
            found.append(model_at(text))
    return list(dict.fromkeys(found))


def model_at(name: str) -> Named:
    """The model that a path or a name of the hub stands for. Of a run it is the finished one, else its last checkpoint.

    Raises:
        ConfigError: a folder without a model.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
            there = [str(child) for child in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise ConfigError(f"{name}: no such folder (looked in {Path.cwd()}).{nearest(str(folder), there)}")
        return Named(name, name)
    inside = _inside(folder)
    if inside is None:
        raise ConfigError(
            f"{name} holds no model: neither config.json nor adapter_config.json is in it, in its {MODEL}/ or in a "
            f"checkpoint of its {CHECKPOINTS}/."
        )
    label = name.rstrip("/")
    return Named(
        label if inside.parent != folder / CHECKPOINTS else f"{label}/{CHECKPOINTS}/{inside.name}", str(inside)
    )


def _inside(folder: Path) -> Path | None:
    checkpoints = sorted((folder / CHECKPOINTS).glob("checkpoint-*"), key=_step, reverse=True)
    places: Iterable[Path] = (folder, folder / MODEL, *checkpoints)
    return next((place for place in places if any((place / file).is_file() for file in _A_MODEL)), None)


def _step(checkpoint: Path) -> int:
    step = checkpoint.name.rpartition("-")[2]
    return int(step) if step.isdigit() else -1
