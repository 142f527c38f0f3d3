"""What a run was told, sorted by what it means for a comparison.

    measured    the task and its settings, the reward functions and their weights, the evaluation: runs that differ here
                report different quantities and are never compared (`allow=key` says that one was meant to differ)
    factors     everything else that can change what is learnt: arms are made of these
    logging     what is written, shown, saved or timed, and where: no difference at all

Settings are compared as text: `trainer.learning_rate` -> "0.0003".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compare.read import Run

Settings = Mapping[str, str]
ABSENT = "(not set)"
OTHER_COMMAND = "another command"
MOST_SETTINGS = 5000

_LOGGING = re.compile(
    r"""(?x) (seed|runs|run_dir|resume|overwrite|processes|build_only|show|probe|hydra|record)(\..*)?
    | .*\.cache_dir
    | reward\.guard\.(workers|processes)
    | trainer\.( (log|logging|save|hub|trackio|ddp|dataloader|include|do)_\w+ | (report_to|run_name|project|output_dir|seed)
        | disable_tqdm | push_to_hub | skip_memory_metrics | debug | num_completions_to_print
        | eval_(strategy|steps|delay|on_start|accumulation_steps|do_concat_batches|use_gather_object)
        | per_device_eval_batch_size | batch_eval_metrics | prediction_loss_only | enable_jit_checkpoint
        | resume_from_checkpoint | restore_callback_states_from_checkpoint | local_rank | torch_empty_cache_steps
        | vllm_(server_\w+|group_port|gpu_memory_utilization|enable_sleep_mode) )"""
)
_NOT_LOGGING = {"trainer.dataloader_drop_last"}
_MEASURED = re.compile(r"(task|reward)(\..*)?|trainer\.reward_weights|eval_examples|examples|command")
_EVALUATION = {"trainer.num_generations_eval"}
_SAMPLING = re.compile(
    r"trainer\.(temperature|top_p|top_k|min_p|repetition_penalty|max_completion_length|generation_kwargs|chat_template_kwargs)"
    r"|sampling\.refill"
)


def settings_of(run: Run) -> dict[str, str]:
    """All settings of config.yaml, dotted names to text, with what the launch added; {} without a config.yaml."""
    if not run.config:
        return {}
    found = {key: _text(value) for key, value in _leaves(run.config)}
    found["command"] = command_of(run.config)
    if isinstance(run.summary.get("world_size"), int):
        found["processes run"] = str(run.summary["world_size"])
    return found


def command_of(config: Mapping[str, Any]) -> str:
    """Which command wrote a configuration."""
    kinds = (("credit", "train_grpo.py"), ("tau", "train_lhts.py"), ("weight", "train_sft.py"))
    return next((name for key, name in kinds if key in config), OTHER_COMMAND)


def comparable(runs: Sequence[Run]) -> dict[int, dict[str, str]]:
    """id(run) -> its settings that can make a difference: without logging, without seeds that follow the run's, and
    without trainer fields that not every run's version of TRL knew. Runs without a config.yaml are left out."""
    each = {id(run): settings_of(run) for run in runs}
    known = [settings for settings in each.values() if settings]
    trainer = {key for settings in known for key in settings if key.startswith("trainer.")}
    shared = {key for key in trainer if all(key in settings for settings in known)}
    following = _following([(run, each[id(run)]) for run in runs])
    return {
        i: {
            key: value
            for key, value in settings.items()
            if not is_logging(key) and key not in following and (key not in trainer or key in shared)
        }
        for i, settings in each.items()
        if settings
    }


def is_logging(key: str) -> bool:
    return bool(_LOGGING.fullmatch(key)) and key not in _NOT_LOGGING


def is_measured(key: str, allowed: Iterable[str] = (), evaluation: bool = False) -> bool:
    """Whether runs that differ in `key` report different quantities. `allowed`: keys, or the start of some, that are
    taken as factors all the same; `evaluation`: the held-out numbers are what is compared."""
    if key.startswith("reward.guard") or any(key == one or key.startswith(f"{one}.") for one in allowed):
        return False
    return bool(_MEASURED.fullmatch(key)) or (evaluation and key in _EVALUATION)


def is_sampling(key: str) -> bool:
    """Settings under which the reward of training batches is that of differently sampled completions."""
    return bool(_SAMPLING.match(key))


def differing(each: Iterable[Settings]) -> list[str]:
    """The keys in which the settings are not all alike, credit's first."""
    each = list(each)
    keys = {key for settings in each for key in settings}
    odd = [key for key in keys if len({settings.get(key, ABSENT) for settings in each}) > 1]
    return sorted(odd, key=lambda key: (not key.startswith("credit"), key))


def short_name(key: str) -> str:
    """`trainer.learning_rate` -> `learning_rate`."""
    return re.sub(r"^(credit|trainer|model|task)\.", "", key).removesuffix("._target_")


def _following(runs: Sequence[tuple[Run, Settings]]) -> set[str]:
    """Keys like task.seed that are the run's own seed in every run."""
    keys = {key for _, settings in runs for key in settings if key.rsplit(".", 1)[-1].endswith("seed")}
    if len({run.seed for run, _ in runs}) < 2:
        return set()
    return {key for key in keys if all(settings.get(key, str(run.seed)) == str(run.seed) for run, settings in runs)}


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
