"""The recipes of configs/experiment/ as a table, for docs/running/recipes.md: `table()` makes it, by the formula of memory.py."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

from trl import GRPOConfig

from configs.compose import CONFIG_DIR
from trainers.command.build import build_args
from trainers.command.cli import Command, compose_command
from trainers.model.pretrained import DTYPES, adapter_config
from trainers.plan.forecast import config_of_known, load_of_grpo
from trainers.plan.machines import as_if_on, planned_machines
from trainers.plan.memory import Memory, memory_of
from trainers.plan.shape import ModelSizes, shape_of

PROMPT = 256  # tokens, taken for the longest prompt
GB = 1e9


@dataclass(frozen=True)
class Recipe:
    """Args:
    card: bytes of a GPU that it is for. whole, tiles: its memory where TRL makes logits whole, as 1.8, and in tiles, as 1.16.
    """

    name: str
    command: Command
    card: float
    completions: int
    whole: Memory
    tiles: Memory


def recipe_names() -> list[str]:
    """Experiments whose name says a card."""
    return sorted(path.stem for path in (CONFIG_DIR / "experiment").glob("*gb*.yaml"))


@cache
def _counted(name: str, has_adapter: bool) -> ModelSizes:
    adapter = adapter_config("lora") if has_adapter else None
    return shape_of(config_of_known(name), DTYPES["bfloat16" if has_adapter else "float32"], adapter)


@cache
def recipe_of(name: str) -> Recipe:
    command = compose_command("train_grpo", [f"experiment={name}"], is_elsewhere=True)
    config = command.config
    machines = planned_machines(config, {})
    args = build_args(config, as_if_on(machines.ranks, GRPOConfig), output_dir="unused")
    shape = _counted(config.model.name, bool(config.model.peft))
    load = load_of_grpo(args, config, machines, PROMPT)
    whole, tiles = (memory_of(shape, replace(load, makes_tiles=makes)) for makes in (False, True))
    found = re.search(r"(\d+)gb", name)
    assert found
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * machines.ranks
    return Recipe(name, command, float(found[1]) * GB, rows, whole, tiles)


def table() -> str:
    """Markdown, a row for each recipe."""
    lines = [
        "| `experiment=` | GPUs | trained | completions a step | tokens of one | GB, logits whole | GB, in tiles | vLLM's share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for recipe in map(recipe_of, recipe_names()):
        config, memory = recipe.command.config, recipe.whole
        ranks = config.processes or 1
        cells = [
            f"`{recipe.name}`",
            f"{ranks} x {recipe.card / GB:.0f} GB",
            f"{'adapter' if config.model.peft else 'all'} of {config.model.name.split('/')[1]}",
            str(recipe.completions),
            str(config.trainer.max_completion_length),
            f"{memory.peak / GB:.1f}",
            f"{recipe.tiles.peak / GB:.1f}",
            f"{memory.vllm:.0%} = {memory.vllm * recipe.card / GB:.1f} GB" if memory.vllm else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
