"""Trackers (`trainer.report_to`) are asked before a model is loaded: else a run dies of them at its first step."""

from __future__ import annotations

import os
import sys
from typing import Any

from transformers.integrations import get_reporting_integration_callbacks
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from configs.command_line.unread import did_you_mean
from configs.compose import ConfigError
from trainers.command.world_size import is_main_process

# Where a tracker's package has another name.
_PACKAGES = {"azure_ml": "azureml-mlflow", "comet_ml": "comet_ml", "flyte": "flytekit"}


def check_trackers(args: Any) -> None:
    """Whether every tracker of `report_to` is known, installed, and ready to begin where that can be asked.

    Raises:
        ConfigError: with the nearest name, with what to install, or with the reason.
    """
    for name in args.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            near = did_you_mean(name, INTEGRATION_TO_CALLBACK)
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            raise ConfigError(f"trainer.report_to={name}: no such tracker.{near} There is: {known}, all, none.")
        try:
            for tracker in get_reporting_integration_callbacks([name]):
                tracker()
        except Exception as error:  # each integration has its own
            reason = str(error) or type(error).__name__
            if isinstance(error, (RuntimeError, ImportError)) and "install" in reason:
                package = _PACKAGES.get(name, name)
                raise ConfigError(f"trainer.report_to={name} needs a package: pip install {package}") from error
            raise ConfigError(f"trainer.report_to={name}: {reason}") from error
        if name in _READY and is_main_process() and (reason := _READY[name]()):
            raise ConfigError(f"trainer.report_to={name}: {reason}")


def _wandb_is_not_ready() -> str | None:
    """It asks for a key at a terminal, and elsewhere ends the run."""
    import wandb

    if os.environ.get("WANDB_MODE", "online") not in ("online", "run", "shared") or (
        sys.stdin is not None and sys.stdin.isatty()
    ):
        return None
    try:
        is_known = wandb.login(prompt=False)
    except TypeError:  # of a version that cannot be asked
        return None
    except Exception as error:
        return f"{error}".split("\n")[0]
    return None if is_known else "no API key. `wandb login` once, or WANDB_MODE=offline and `wandb sync` later"


def _mlflow_is_not_ready() -> str | None:
    import mlflow

    try:
        mlflow.MlflowClient()
    except Exception as error:
        return f"{error}".split("\n")[0]
    return None


_READY = {"wandb": _wandb_is_not_ready, "mlflow": _mlflow_is_not_ready}
