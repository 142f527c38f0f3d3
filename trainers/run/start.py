"""What a run does with its model before the first step, so that every folder it writes is the model that was trained.

An adapter's folder is the difference to a model that it names, and the reference policy of a KL term is loaded by name, too.
Where the model that a run starts from stands nowhere under a name (an adapter was merged in), or under one that may go away
(another run's base/, our cache), the run keeps it: <run>/base/.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from trainers.model.adapters import BASE, is_adapted
from trainers.model.bars import without_bars
from trainers.model.policy import Policy
from trainers.model.warm_start import cache_folder
from trainers.run.files import whole
from trainers.run.folder import RunFolder

logger = logging.getLogger(__name__)

MOVES_THE_BASE = ("pissa", "olora")


def check_start(policy: Policy, folder: RunFolder, overwrite: bool, *, with_reference: bool = False) -> None:
    """Raises ValueError where overwrite=true would delete the model that the run starts from, or where the reference (of a
    KL term, of train_lhts.py) would not be that model."""
    for name in {_name_of(policy.model), *policy.loaded_from} if overwrite and folder.path.exists() else ():
        if name and Path(name).is_dir() and folder.path.resolve() in Path(name).resolve().parents:
            raise ValueError(
                f"overwrite=true would delete {name}, from which this run starts. Name another folder (run_dir=...)."
            )
    adapter = policy.model.peft_config["default"] if is_adapted(policy.model) else policy.peft_config
    init = getattr(adapter, "init_lora_weights", None)
    if with_reference and init in MOVES_THE_BASE:
        fix = "model.merge_adapter=true" if is_adapted(policy.model) else "model.peft.init_lora_weights=true"
        raise ValueError(
            f"init_lora_weights={init} moves a part of the model into the adapter, so that the model without the adapter is "
            f"not the one the run starts from, and no reference can be had from it. Set {fix}."
        )


def keep_start(policy: Policy, folder: RunFolder, state: PartialState, *, with_reference: bool = False) -> str | None:
    """Forgets what is no longer true of the model once it is trained on, and keeps it in base/ where it must be kept. All
    ranks call it. Returns a line for the announcement, None if there is nothing to say.

    Args:
        with_reference: the reference of a KL term is loaded by the model's name, unless the policy has an adapter.

    Raises:
        ValueError: the weights are dealt out over the ranks (DeepSpeed ZeRO-3), so that no rank has them whole.
    """
    _forget_temperature(policy.model)
    adapted = is_adapted(policy.model)
    if not (adapted or policy.peft_config is not None or with_reference):
        return None
    name = _name_of(policy.model)
    kept = folder.path / BASE
    if not adapted and (policy.unsaved or not name):
        if any(hasattr(parameter, "ds_id") for parameter in policy.model.parameters()):
            raise ValueError(
                "under DeepSpeed ZeRO-3 an adapter cannot be merged and kept. Merge it in one process first "
                "(peft: PeftModel.merge_and_unload, save_pretrained), and name that folder."
            )
        if state.is_main_process and not kept.exists():
            _publish(kept, lambda half: _save(policy, half))
    elif _may_go(name) and (adapted or policy.peft_config is not None):
        if state.is_main_process and not kept.exists():
            _publish(kept, lambda half: shutil.copytree(name, half, copy_function=_link, dirs_exist_ok=True))
    else:
        return _line(adapted, policy, name)
    state.wait_for_everyone()
    name_start(policy, str(kept.absolute()))
    return _line(adapted, policy, str(kept))


def reference_options(policy: Policy) -> dict[str, Any] | None:
    """For TRL's `model_init_kwargs`: what it must know to load the reference of a KL term as the policy was loaded; None
    where it needs to know nothing."""
    if is_adapted(policy.model) or policy.peft_config is not None:
        return None
    config, options = policy.model.config, {}
    if policy.model.dtype != torch.float32:
        options["dtype"] = str(policy.model.dtype).removeprefix("torch.")
    if policy.revision is not None and not Path(_name_of(policy.model)).is_dir():
        options["revision"] = policy.revision
    if getattr(config, "auto_map", None):
        options["trust_remote_code"] = True  # it was, or the policy itself had not been loaded
    return options or None


def _forget_temperature(model: Any) -> None:
    """Training moves a model away from the temperature that train_lhts.py made it for."""
    lhts = getattr(model.config, "lhts", None)
    if not lhts:
        return
    if len(lhts["tau"]) > 1:
        logger.warning("the model's input for tau (train_lhts.py) is left out: training starts from it at tau=1.")
    del model.config.lhts


def _name_of(model: Any) -> str:
    base = model.get_base_model() if is_adapted(model) else model
    return getattr(base, "name_or_path", "") or ""


def _may_go(name: str) -> bool:
    """Folders that a user may delete or replace without thinking of this run."""
    path = Path(name)
    return path.is_dir() and (path.name == BASE or cache_folder().resolve() in path.resolve().parents)


def name_start(policy: Policy, name: str) -> None:
    """From now on the model that the run starts from is found under this name."""
    base = policy.model.get_base_model() if is_adapted(policy.model) else policy.model
    base.name_or_path = base.config._name_or_path = name
    if is_adapted(policy.model):
        config = policy.model.peft_config["default"]
        config.base_model_name_or_path, config.revision = name, None
    if policy.peft_config is not None:
        policy.peft_config.revision = None


def _publish(folder: Path, write: Callable[[Path], Any]) -> None:
    with whole(folder) as half:
        half.mkdir(parents=True)
        write(half)


def _save(policy: Policy, folder: Path) -> None:
    with without_bars():
        policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)


def _link(source: str, target: str) -> str:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another disk
        shutil.copy2(source, target)
    return target


def _line(adapted: bool, policy: Policy, name: str) -> str | None:
    if adapted:
        return f"start    the adapter of {policy.loaded_from[0] if policy.loaded_from else 'the model'} is trained on; base {name}"
    if policy.peft_config is not None:
        return f"start    a new adapter on {name}"
    return None
