"""On how many processes a run is planned, and what is dealt out among them: read off the launcher, or off what the command
asks for where none is above."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainers.command.world_size import accelerate_file, settings_of_launch, sharding_now, sharding_of, world_size


@dataclass(frozen=True)
class Machines:
    """Args:
    ranks: processes, a GPU each.
    sharding: what is dealt out among them: "" (nothing), "zero2", "zero3" or "fsdp".
    """

    ranks: int = 1
    sharding: str = ""


def planned_machines(config: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Machines:
    """The launch that runs now, if it has several processes; else the one that `processes` and `launched_by` ask for.

    Raises:
        ValueError: there is no such file.
    """
    environment = os.environ if environment is None else environment
    running = int(environment.get("WORLD_SIZE", 1))
    if running > 1:
        return Machines(running, sharding_now(environment))
    asked = config.get("launched_by")
    settings = settings_of_launch(accelerate_file(asked)) if asked else {}
    ranks = config.get("processes") or settings.get("num_processes") or 1
    return Machines(ranks, sharding_of(settings) if ranks > 1 else "")


def as_if_on(ranks: int, config_class: type) -> type:
    """TRL's config class, counting batches for `ranks` processes whatever number runs."""
    if ranks == world_size():
        return config_class
    namespace: dict[str, Any] = {"world_size": property(lambda _: ranks), "__doc__": config_class.__doc__}
    return type(config_class.__name__, (config_class,), namespace)
