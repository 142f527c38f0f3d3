"""`push=you/name`: the model's folder goes to the Hugging Face hub when everything else is done.

Whatever can be wrong without uploading (the name, the token, whose namespace it is) is said before training; a push that
fails afterwards is told, with the command that does it again, and costs nothing else.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from configs.compose import ConfigError
from trainers.command.world_size import is_main_process
from trainers.run.files import write_json
from trainers.run.folder import RunFolder
from userio.tracebacks import write_log

PUSH = "push to the hub"
_LEFT_HERE = ["training_args.bin"]  # a pickle with places of this machine
_TOKEN = "`hf auth login`, or HF_TOKEN=... in the environment"


def check_push(config: Any) -> None:
    """Whether the hub would take it; asks the hub who the token belongs to.

    Raises:
        ConfigError: no name of a repository, no token or one that may not write, another's namespace, no network.
    """
    if not config.push:
        return
    name = str(config.push)
    if config.trainer.push_to_hub:
        raise ConfigError("push=... and trainer.push_to_hub=true both upload the model; leave out the second.")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ConfigError(f"push={name}: must be the name of a repository, push=you/name.") from None
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ConfigError(
            f"push={name}: HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it, or leave push out."
        )
    if not get_token():
        raise ConfigError(f"push={name}: there is no token of the hub. {_TOKEN}.")
    if is_main_process():
        _check_owner(name)


def _check_owner(name: str) -> None:
    try:
        who = HfApi().whoami()
    except HfHubHTTPError as error:
        raise ConfigError(f"push={name}: the hub does not take the token ({_first_line(error)}). {_TOKEN}.") from None
    except Exception as error:
        raise ConfigError(
            f"push={name}: the hub cannot be asked ({_first_line(error)}). Leave push out to train without it."
        ) from None
    if ((who.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise ConfigError(f"push={name}: the token may read only. Make one that may write, then {_TOKEN}.")
    owner, slash, _ = name.partition("/")
    mine = [str(who.get("name")), *(str(org.get("name")) for org in who.get("orgs") or ())]
    if slash and owner not in mine:
        raise ConfigError(f"push={name}: the token is of {mine[0]}, who writes to {', '.join(mine)}. Name one of them.")


def push(config: Any, folder: RunFolder) -> None:
    """Uploads the model's folder, on the main process, once the run is whole. Never raises: a failure goes to standard error,
    error.log and summary.json."""
    if not config.push or not folder.summary.is_file():
        return
    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    try:
        summary["pushed"] = url = upload(str(config.push), folder.model, bool(config.push_private))
        print(f"pushed   {url}")
    except Exception as error:
        log = write_log(folder.path, error, PUSH, 0)
        summary.setdefault("failed_after_training", {})[PUSH] = _first_line(error)
        where = f" The whole traceback: {log}" if log else ""
        again = shlex.join(["hf", "upload", str(config.push), str(folder.model)])
        print(
            f"\nThe model is in {folder.model}; the {PUSH} failed: {_first_line(error)}. Again: `{again}`.{where}",
            file=sys.stderr,
            flush=True,
        )
    write_json(folder.summary, summary)


def upload(name: str, model: Path, private: bool) -> str:
    """Makes the repository if there is none, uploads, and returns its address. private: of a repository that is made."""
    api = HfApi(library_name="apportion")
    repository: Any = api.create_repo(name, private=private, exist_ok=True)
    repo_id = getattr(repository, "repo_id", name)  # the hub adds the namespace where none was given
    message = "Model trained with Apportion"
    api.upload_folder(repo_id=repo_id, folder_path=model, commit_message=message, ignore_patterns=_LEFT_HERE)
    return str(repository)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().split("\n")[0]
