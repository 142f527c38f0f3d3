"""Configuration in, objects out, for the parts every command shares: composing YAML and making credit strategies.

Light on purpose (Hydra and `credit` only), so that the lab can load strategies without importing TRL.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from credit.strategy import Strategy

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"


class ConfigError(ValueError):
    """The user asked for something that does not exist or does not fit; the message names the remedy."""


def compose_config(
    name: str,
    overrides: Sequence[str] = (),
    config_dirs: Iterable[str | Path] = (),
    with_choices: bool = False,
):
    """Composes `configs/<name>.yaml` with Hydra overrides; `config_dirs` are searched for what is not found there.

    Returns the DictConfig; with `with_choices`, a pair of it and the choice made in each config group.

    Raises:
        ConfigError: unknown choice, unknown key (with the nearest right name), wrong type, or broken grammar.
    """
    # `guard: {}` stands for defaults that rewards.guard knows and checks; Hydra would refuse keys it has not seen.
    overrides = [f"++{override}" if override.startswith("reward.guard.") else override for override in overrides]
    folders = [Path(folder).expanduser().resolve() for folder in config_dirs]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder.")
    if folders:
        searched = ",".join(f"'file://{folder}'" for folder in folders)
        overrides.append(f"hydra.searchpath=[{searched}]")
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_DIR)):
        try:
            config = compose(config_name=name, overrides=overrides, return_hydra_config=with_choices)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_explain(error, name, overrides, folders)) from None
        finally:
            GlobalHydra.instance().clear()
    if not with_choices:
        return config
    choices = {key: value for key, value in config.hydra.runtime.choices.items() if not key.startswith("hydra/")}
    with open_dict(config):
        del config["hydra"]
    return config, choices


def compose_strategy(overrides: Sequence[str], config_dirs: Iterable[str | Path] = ()) -> Strategy:
    """The credit strategy of e.g. `["credit=dr_grpo", "credit/weight=seq_mean"]`."""
    return make_strategy(compose_config("strategy", overrides, config_dirs).credit)


def make_strategy(node: DictConfig) -> Strategy:
    """Instantiates the `credit` node. Functions named by `_target_` become members, their other keys bound.

    Raises:
        ConfigError: a `_target_` cannot be imported, or the pieces do not fit together.
    """
    plain = OmegaConf.create(OmegaConf.to_container(node, resolve=True))
    for key, child in plain.items():
        if isinstance(child, DictConfig) and "_target_" in child and inspect.isroutine(locate(child._target_)):
            plain[key]["_partial_"] = True
    try:
        strategy = instantiate(plain)
    except HydraException as error:
        raise ConfigError(f"credit: {error.__cause__ or error}") from error
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"credit must build a credit.Strategy (or a subclass), `{node._target_}` built {type(strategy)}."
        )
    return strategy


def locate(target: str):
    """The object behind a dotted name. The folder the command was given in is importable.

    Raises:
        ConfigError: no such module or attribute, with the nearest right name.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return get_object(target)
    except Exception as error:
        module, _, attribute = target.rpartition(".")
        hint = _nearest(attribute, dir(sys.modules[module])) if module in sys.modules else ""
        reason = "" if hint else f" {str(error).splitlines()[-1]}"
        raise ConfigError(f"`{target}` cannot be imported.{hint}{reason}") from error


def config_choices(group: str, config_dirs: Iterable[str | Path] = ()) -> dict[str, str]:
    """Names of the YAMLs of a group and the meaning their first line gives, in alphabetical order.

    Hydra wants a `# @package` line to be the very first; then the next one counts.
    """
    choices = {}
    for folder in [CONFIG_DIR, *map(Path, config_dirs)]:
        for path in sorted((folder / group).glob("*.yaml")):
            lines = path.read_text(encoding="utf-8").split("\n")
            first = next(line for line in lines if not line.startswith("# @"))
            choices[path.stem] = first.lstrip("# ").strip() if first.startswith("#") else ""
    return dict(sorted(choices.items()))


def _explain(error: Exception, name: str, overrides: Sequence[str], folders: Sequence[Path]) -> str:
    """Hydra's message, plus the nearest right name where a name was wrong."""
    text = str(error.__cause__ or error) if "Error merging override" in str(error) else str(error)
    missing = re.search(r"Could not find '([^']+)'", text) or re.search(r"Could not override '([^']+)'", text)
    if found := re.search(r"(?:Could not find|In '[^']*': Could not find) '([\w/]+)/([\w.\-]+)'", text):
        group, choice = found.groups()
        choices = config_choices(group, folders)
        if choices:
            return f"{group}={choice}: no such choice.{_nearest(choice, choices)} There is: {', '.join(choices)}."
    if key := re.search(r"Key '([^']+)' (?:is not in|not in)", text):
        bad = key.group(1)
        full = re.search(r"full_key: (\S+)", text)
        return _no_setting(full.group(1) if full else bad, name, overrides, folders)
    if "Could not load" in text and (found := re.search(r"In 'trainer/(\w+)'", text)):
        return (
            f"trainer={found.group(1)} does not belong to {name}.py; leave it out, or set its fields (trainer.key=...)."
        )
    if missing:
        return _no_setting(missing.group(1), name, overrides, folders)
    cause = str(error.__cause__ or "")
    culprit = next((o for o in overrides if str(error).count(o.split("=")[0])), "")
    text = re.sub(r"\n\s*(full_key|object_type|reference_type).*", "", cause or text)
    return f"{culprit}: {text}" if culprit and culprit not in text else text


def _no_setting(where: str, name: str, overrides: Sequence[str], folders: Sequence[Path]) -> str:
    """That `where` is no setting, and the nearest one there or the choices of its group that have it."""
    parent, _, leaf = where.replace("/", ".").rpartition(".")
    if near := _nearest(leaf, _keys_at(name, parent, overrides, folders), prefix=parent):
        return f"`{where}` is no setting.{near}"
    group, others = parent.replace(".", "/"), [o for o in overrides if not o.startswith(f"{parent}=")]
    choices = config_choices(group, folders) if parent else {}
    owners = [c for c in choices if leaf in _keys_at(name, parent, [*others, f"{group}={c}"], folders)]
    having = f" It belongs to {', '.join(f'{group}={owner}' for owner in owners)}." if owners else ""
    return f"`{where}` is no setting.{having}"


def _keys_at(name: str, parent: str, overrides: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """What may stand below `parent` once the group choices are made: settings and config groups."""
    groups = [o for o in overrides if "." not in o.split("=")[0] and (CONFIG_DIR / o.split("=")[0]).is_dir()]
    if groups == list(overrides):
        return []  # the choices alone are what failed
    try:
        config = compose_config(name, groups, folders)
    except ConfigError:
        return []
    node = OmegaConf.select(config, parent) if parent else config
    keys = [str(key) for key in node] if isinstance(node, DictConfig) else []
    groups = [folder.name for folder in (CONFIG_DIR / parent.replace(".", "/")).glob("*/")] if parent else []
    return keys + groups + ([folder.name for folder in CONFIG_DIR.glob("*/")] if not parent else [])


def _nearest(word: str, choices: Iterable[str] | Mapping, prefix: str = "") -> str:
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean `{prefix + '.' if prefix else ''}{near[0]}`?" if near else ""
