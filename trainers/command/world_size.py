"""How many processes run, and whether that is what was asked for.

`accelerate launch --cpu --num_processes 2` starts one process and says nothing, which halves the batch. So the number
asked for is read off the launcher's own command line and compared with the number that came.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from configs.compose import CONFIG_DIR
from userio.words import word_of

REMEDY = (
    "On CPU: `accelerate launch --config_file configs/accelerate/cpu_2.yaml train_grpo.py ...` "
    "or `ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 train_grpo.py ...` "
    "or `torchrun --nproc_per_node 2 train_grpo.py ...`."
)


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main_process() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


def check_launch(wanted: int | None = None, command: list[str] | None = None) -> None:
    """Raises ValueError, with the remedy, when another number of processes runs than was asked for.

    Args:
        wanted: the config's `processes`; None: not asked there.
        command: the launcher's command line; None: looked up among the ancestors of this process.
    """
    running = world_size()
    if wanted is not None and wanted != running:
        raise ValueError(f"processes={wanted} was asked for, {running} run. {REMEDY}")
    asked = processes_asked(launcher_command() if command is None else command)
    if asked is not None and asked > running:
        raise ValueError(
            f"The launcher was asked for {asked} processes, but {running} run(s): the batch would silently be "
            f"{running}/{asked} of what you meant. {REMEDY}"
        )


def sharding_of(settings: Mapping[str, Any]) -> str:
    """What a file for `accelerate launch` deals out over processes: "" (nothing), "zero2", "zero3" or "fsdp"."""
    kind = str(settings.get("distributed_type", "")).upper()
    if kind == "DEEPSPEED":
        return _zero((settings.get("deepspeed_config") or {}).get("zero_stage", 2))
    return "fsdp" if kind == "FSDP" else ""


def sharding_now(environment: Mapping[str, str] = os.environ) -> str:
    """The same of the launcher of this process, as it says by the environment."""
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        return _zero(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", 2))
    return "fsdp" if environment.get("ACCELERATE_USE_FSDP", "").lower() == "true" else ""


def _zero(stage: Any) -> str:
    return f"zero{stage}" if str(stage) in ("2", "3") else ""


def accelerate_file(name: str) -> Path:
    """The file that a setting `launched_by=` names: one of configs/accelerate/, or a path.

    Raises:
        ValueError: there is none.
    """
    shipped = CONFIG_DIR / "accelerate"
    for path in (shipped / f"{name}.yaml", shipped / name, Path(name).expanduser()):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    raise ValueError(f"launched_by={name}: neither a file nor one of configs/accelerate/, which has {there}.")


def check_sharding(wanted: str | None) -> None:
    """Raises ValueError, with the remedy, when the launcher deals the weights out otherwise than the file `wanted` says."""
    if wanted is None:
        return
    path = accelerate_file(wanted)
    asked, running = sharding_of(settings_of_launch(path)), sharding_now()
    if asked != running:
        raise ValueError(
            f"launched_by={wanted} was asked for, which {_DEALS[asked]}, and this launch {_DEALS[running]}. Start it by "
            f"`accelerate launch --config_file {path} ...`, or say launched_by=null."
        )


_DEALS = {
    "": "deals no weights out",
    "zero2": "deals gradients out by ZeRO-2",
    "zero3": "deals the weights out by ZeRO-3",
    "fsdp": "deals the weights out by FSDP",
}


def settings_of_launch(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def launcher_command() -> list[str]:
    """Command line of the nearest `accelerate launch` or `torchrun` above this process; empty if there is none."""
    try:
        for ancestor in psutil.Process().parents():
            words = ancestor.cmdline()
            if any(_program(word) in ("accelerate", "torchrun", "accelerate-launch") for word in words[:3]):
                return words
    except psutil.Error:
        pass
    return []


def processes_asked(command: list[str]) -> int | None:
    """`--num_processes` of an `accelerate launch` command line, or the one in its `--config_file`; None if neither."""
    if not any(_program(word) in ("accelerate", "accelerate-launch") for word in command[:3]):
        return None
    before_script = []
    for word in command:
        if word.startswith("apportion.") or (word.endswith(".py") and _program(word) != "accelerate"):
            break
        before_script.append(word)
    number = _option(before_script, "--num_processes", "--num-processes")
    if number is not None:
        return int(number)
    config = _option(before_script, "--config_file", "--config-file")
    if config and Path(config).is_file():
        return settings_of_launch(Path(config)).get("num_processes")
    return None


def _option(words: list[str], *names: str) -> str | None:
    for i, word in enumerate(words):
        for name in names:
            key, value = word_of(word)
            if word == name and i + 1 < len(words):
                return words[i + 1]
            if key == name and value is not None:
                return value
    return None


def _program(word: str) -> str:
    return Path(word).name
