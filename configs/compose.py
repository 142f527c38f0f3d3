"""Configuration in, objects out, for the parts every command shares: composing YAML and making credit strategies.

Light on purpose: Hydra, so that a sweep or a help text is there at once; and `credit`, which imports torch, where a
strategy is made, so that the lab can load one without importing TRL.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from configs.command_line.layers import Layers, layers_of, separate_members
from configs.command_line.members import inside_members, nodes_in, signed, unchosen_provider, without_needless_signs
from configs.command_line.of_model import put_model_defaults
from configs.command_line.overrides import check_overrides, searched_in, with_paths
from configs.command_line.own import by_file, located, with_located
from configs.command_line.schema import type_in_words
from configs.command_line.unread import as_choice, commands_choosing, commands_having, did_you_mean, remedy
from configs.fields.defaults import fields_of_command, fill, is_declared, names_at, script_of
from userio.namesakes import taken_by
from userio.own_files import is_in_file
from userio.words import word_of

if TYPE_CHECKING:
    from credit.strategy import Strategy

CONFIG_DIR = Path(__file__).resolve().parent


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
    config, choices, _ = compose_layers(name, overrides, config_dirs)
    return (config, choices) if with_choices else config


@lru_cache(maxsize=64)
def config_of_choices(name: str, choices: tuple[str, ...] = ()) -> DictConfig:
    """As `compose_config` of shipped choices, once a process: messages ask for it again and again. Not to be written into."""
    return compose_config(name, choices)


def compose_layers(
    name: str, overrides: Sequence[str] = (), config_dirs: Iterable[str | Path] = ()
) -> tuple[DictConfig, dict[str, str], Layers]:
    """As `compose_config`; the configuration, the choices, and who said what."""
    overrides = with_paths(overrides)
    try:
        check_overrides(overrides)
        own = by_file(overrides)
    except ValueError as error:
        raise ConfigError(f"{error}") from None
    given, overrides = own.words, _beyond_yaml(name, own.words)
    folders = [Path(folder).expanduser().resolve() for folder in config_dirs]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder.")
    overrides += searched_in(folders)
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_DIR)):
        try:
            loader = GlobalHydra.instance().config_loader()
            overrides = without_needless_signs(loader, name, overrides)
            config = compose(config_name=name, overrides=overrides, return_hydra_config=True)
            layers = layers_of(loader, name, overrides, [CONFIG_DIR, *folders])
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(_explain(error, name, given, folders)) from None
        finally:
            GlobalHydra.instance().clear()
    choices = {key: value for key, value in config.hydra.runtime.choices.items() if not key.startswith("hydra/")}
    with open_dict(config):
        del config["hydra"]
    separate_members(config, layers)
    layers = put_model_defaults(config, name, layers)
    _name_by_file(config, choices.get("credit"), layers)
    own.settle(config, choices)
    for key in [*_settings_in(name, given), *inside_members(given)]:
        if not is_declared(key, config, name, layers):
            raise ConfigError(_no_setting(key, name, given, folders))
    fill(config, name)
    return config, choices, layers


def _beyond_yaml(name: str, overrides: Sequence[str]) -> list[str]:
    """Overrides for Hydra, which refuses keys that it has not seen: a YAML says departures only, so a setting may stand in none.
    Whether somebody reads it is asked afterwards."""
    ours = {*_settings_in(name, overrides), "trainer.chat_template_kwargs"}
    keys = [word_of(override).key for override in overrides]
    is_ours = [key in ours or key.startswith("trainer.chat_template_kwargs.") for key in keys]
    return [signed(override, ours) for override, ours in zip(overrides, is_ours, strict=True)]


def _settings_in(name: str, overrides: Sequence[str]) -> list[str]:
    """The keys among the overrides that set something of our own: no choice of a group, no field of TRL's."""
    own = {field.name for field in fields_of_command(name)}
    keys = [word_of(override).key for override in overrides if "=" in override]
    return [
        key
        for key in keys
        if (key.split(".")[0] in own and not (CONFIG_DIR / key).is_dir())
        or (re.fullmatch(r"\w+(\.\w+)+", key) and key.split(".")[0] not in ("trainer", "hydra"))
    ]


def _name_by_file(config: DictConfig, choice: str | None, layers: Layers) -> None:
    """A strategy whose YAML says no `name` is called by its file, and not by the parent it started from."""
    node, source = config.get("credit"), layers.source("credit.name")
    if (
        choice
        and isinstance(node, DictConfig)
        and source != f"credit/{choice}"
        and (not source or source.startswith("credit/"))
    ):
        with open_dict(node):
            node.name = Path(choice).name


def compose_strategy(overrides: Sequence[str], config_dirs: Iterable[str | Path] = ()) -> Strategy:
    """The credit strategy of e.g. `["credit=dr_grpo", "credit/weight=seq_mean"]`."""
    return make_strategy(OmegaConf.select(compose_config("strategy", overrides, config_dirs), "credit"))


def named_strategy(words: str, config_dirs: Iterable[str | Path] = ()) -> Strategy:
    """The strategy that a string stands for: a name and overrides, as in "dr_grpo credit/weight=seq_mean", or the path of a
    YAML of one's own, as in "my_configs/credit/mine.yaml".

    Raises:
        ConfigError: no such name or file.
    """
    name, *overrides = words.split()
    folders = [Path(folder) for folder in config_dirs]
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser().resolve()
        if not path.is_file() or path.suffix != ".yaml" or "credit" not in path.parts[:-1]:
            raise ConfigError(
                f"credit={name!r}: must be a .yaml file in a folder `credit`, as my_configs/credit/mine.yaml."
            )
        above = len(path.parts) - 1 - path.parts[::-1].index("credit")
        folders.append(Path(*path.parts[:above]))
        name = "/".join(path.with_suffix("").parts[above + 1 :])
    try:
        return compose_strategy([f"credit={name}", *overrides], folders)
    except ConfigError as error:
        if folders or "no such choice" not in str(error):
            raise
        raise ConfigError(f"{error} One of your own: config_dirs=[...], or the path of its YAML.") from None


def make_strategy(node: DictConfig | None) -> Strategy:
    """Instantiates the `credit` node. Functions named by `_target_` become members, their other keys bound.

    Raises:
        ConfigError: a `_target_` cannot be imported, or the pieces do not fit together.
    """
    from credit.strategy import Strategy

    whole = None if node is None else OmegaConf.to_container(node, resolve=True)
    if not isinstance(whole, dict) or "_target_" not in whole:
        raise ConfigError(
            "credit must name a strategy: credit=seq_norm, or a YAML with `_target_: credit.strategy.Strategy`."
        )
    whose = f" (credit strategy {whole.get('name', 'without a name')!r})"
    if isinstance(made := locate(whole["_target_"]), Strategy):
        return made  # my_credit.py:mine, which its file has made already
    check_keys("credit", whole, whose)
    try:
        nodes = list(nodes_in(whole))
    except ValueError as error:
        raise ConfigError(f"{error}{whose}") from None
    for place, child in nodes:
        check_keys(place, child, whose)
        if inspect.isroutine(locate(child["_target_"])):
            child["_partial_"] = True
    strategy = _instantiated("credit", OmegaConf.create(whole), wrapped=(Exception,))
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"credit must build a credit.Strategy (or a subclass), `{whole['_target_']}` built {type(strategy)}."
        )
    return strategy


def build_node(what: str, node: DictConfig | None, **extra: Any) -> Any:
    """What the `_target_` of a node makes of its other keys, inner nodes first. extra: objects that are passed as they are.

    Raises:
        ConfigError: there is no `_target_`, or it cannot be imported, takes no such key, or refuses its values.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{what} must name what builds it: {what}=..., see --help, or a YAML with a `_target_`.")
    check_keys(what, OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]
    raised = (ValueError, ImportError, OSError)
    return _instantiated(what, node, wrapped=(*raised, TypeError), raised=raised, extra=extra, _convert_="all")


def _instantiated(
    what: str,
    node: DictConfig,
    wrapped: tuple[type[Exception], ...],
    raised: tuple[type[Exception], ...] = (),
    extra: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """The only place where Hydra makes objects. wrapped, raised: what an object may raise to refuse its settings, as the
    cause of an exception of Hydra's or by itself; all else goes on as it is."""
    node = OmegaConf.create(with_located(OmegaConf.to_container(node, resolve=True)))
    try:
        # Objects are passed by the call, not through Hydra: it would take a dataclass for a piece of configuration.
        return instantiate(node, **options, _partial_=True)(**extra) if extra else instantiate(node, **options)
    except raised as error:
        raise ConfigError(f"{what}: {error}") from error
    except HydraException as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, wrapped):
            raise ConfigError(f"{what}: {cause or error}") from error
        raise cause from None


def check_keys(place: str, node: Mapping[str, Any], whose: str = "") -> None:
    """Whether the function or class behind `_target_` takes the keys that stand beside it.

    Raises:
        ConfigError: it does not, or takes a number where a text was given; names the place, the key and the function.
    """
    target = node["_target_"]
    try:
        parameters = inspect.signature(locate(target)).parameters
    except (TypeError, ValueError):
        return  # written in C, without a signature
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key, value in node.items():
        if key.startswith("_"):
            continue  # Hydra's own
        if key not in parameters:
            takes = did_you_mean(key, parameters) or f" It takes {', '.join(parameters) or 'nothing'}."
            raise ConfigError(f"{place}.{key}: `{target}` takes no {key!r}.{takes}{whose}")
        default = parameters[key].default
        if isinstance(value, str) and isinstance(default, (int, float)) and not isinstance(default, bool):
            raise ConfigError(f"{place}.{key}={value}: `{target}` takes a number here, as {default}.{whose}")


def locate(target: str):
    """The object behind a dotted name. The folder the command was given in is importable.

    Raises:
        ConfigError: no such module or attribute, with the nearest right name.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return get_object(located(target))
    except Exception as error:
        if is_in_file(target):
            raise ConfigError(f"{error}") from error
        module, _, attribute = target.rpartition(".")
        hint = did_you_mean(attribute, dir(sys.modules[module])) if module in sys.modules else ""
        reason = "" if hint else f" {str(error).splitlines()[-1]}"
        raise ConfigError(f"`{target}` cannot be imported.{hint}{reason}{taken_by(error, Path.cwd())}") from error


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
    if "Config group override must be" in text:
        empty = next((o for o in overrides if word_of(o).value in ("null", "")), "a config group")
        return f"{empty}: must name a choice, see --help; or leave it out."
    missing = re.search(r"Could not find '([^']+)'", text) or re.search(r"Could not override '([^']+)'", text)
    if found := re.search(r"(?:Could not find|In '[^']*': Could not find) '([\w/]+)/([\w.\-]*)'", text):
        group, choice = found.groups()
        if not choice:
            return f"{group}=: must name a choice, see --help; or leave it out."
        if choices := config_choices(group, folders):
            return f"{group}={choice}: no such choice.{did_you_mean(choice, choices)} There is: {', '.join(choices)}."
    if key := re.search(r"Key '([^']+)' (?:is not in|not in)", text):
        bad = key.group(1)
        full = re.search(r"full_key: (\S+)", text)
        return _no_setting(full.group(1) if full else bad, name, overrides, folders)
    if "Could not load" in text and (found := re.search(r"In 'trainer/(\w+)'", text)):
        return f"trainer={found.group(1)} does not belong to {script_of(name)}; leave it out, or set its fields (trainer.x=...)."
    if "does not support deletion" in text:
        gone = next((o for o in overrides if o.startswith("~trainer.")), "~trainer.key")
        return f"{gone}: a field of TRL's cannot be taken away; set it to the value you want, {word_of(gone).name}=..."
    if missing:
        return _no_setting(missing.group(1), name, overrides, folders)
    if "Could not delete" in text:
        gone = next(word_of(o[1:]).key for o in overrides if o.startswith("~"))
        if gone.split(".")[0] in (field.name for field in fields_of_command(name)):
            return f"`{gone}` is read by the run and cannot be taken away; give it a value"
        return f"~{gone}: no YAML says anything of `{gone}`, so there is nothing to take away; leave it out."
    cause = str(error.__cause__ or "")
    culprit = next((o for o in overrides if str(error).count(word_of(o).key)), "")
    text = type_in_words(cause or text) or re.sub(r"\n\s*(full_key|object_type|reference_type).*", "", cause or text)
    return f"{culprit}: {text}" if culprit and culprit not in text else text


def _no_setting(where: str, name: str, overrides: Sequence[str], folders: Sequence[Path]) -> str:
    """That `where` is no setting, and the nearest one there or the choices of its group that have it."""
    parent, _, leaf = where.replace("/", ".").rpartition(".")
    if where in [field.name for field in fields_of_command(name)]:
        return f"`{where}` is no choice here; set its fields ({where}.key=...)."
    whole = _chosen(name, overrides, folders)
    first = where.replace("/", ".").split(".")[0]
    recipe = next((o for o in overrides if o.startswith("experiment=")), None)
    if recipe and not any(word_of(o).key.startswith(where) for o in overrides):
        return f"{recipe} sets `{where}`, which is no setting of {script_of(name)}: it is a recipe of another command."
    if owner := commands_choosing(first, name, CONFIG_DIR) or (
        first not in (whole or ()) and commands_having(first, whole)
    ):
        return f"`{where}` is no setting of {script_of(name)}. It belongs to {owner}."
    if not parent and whole is not None:
        return f"`{where}` is no setting. {remedy(where, whole, list(whole))}"
    if whole is not None and first not in whole:
        return _no_setting(first, name, overrides, folders)
    if said := unchosen_provider(where, whole, config_choices("credit/signals", folders)):
        return said
    if near := did_you_mean(leaf, _keys_at(whole, parent), prefix=parent):
        return f"`{where}` is no setting.{as_choice(near, CONFIG_DIR) if '/' in where else near}"
    group, others = parent.replace(".", "/"), [o for o in overrides if not o.startswith(f"{parent}=")]
    choices = config_choices(group, folders) if parent else {}
    owners = [c for c in choices if leaf in _keys_at(_chosen(name, [*others, f"{group}={c}"], folders), parent)]
    having = f" It belongs to {', '.join(f'{group}={owner}' for owner in owners)}." if owners else ""
    there = [key for key in _keys_at(whole, parent) if not key.startswith("_")]
    known = f" There is {', '.join(there)}." if there and not having else ""
    return f"`{where}` is no setting.{having}{known}"


def _chosen(name: str, overrides: Sequence[str], folders: Sequence[Path]) -> DictConfig | None:
    """The configuration with the group choices alone; None if they are what failed."""
    groups = [o for o in overrides if (key := word_of(o).key).endswith("._target_") or _is_group(key)]
    if groups == list(overrides):
        return None
    is_shipped = not folders and all(re.fullmatch(r"[\w/]+=\w+", word) for word in groups)
    try:
        return config_of_choices(name, tuple(groups)) if is_shipped else compose_config(name, groups, folders)
    except ConfigError:
        return None


def _is_group(key: str) -> bool:
    return "." not in key and (CONFIG_DIR / key).is_dir()


def _keys_at(whole: DictConfig | None, parent: str) -> list[str]:
    """What may stand below `parent`: settings and config groups."""
    if whole is None:
        return []
    node = OmegaConf.select(whole, parent) if parent else whole
    groups = [folder.name for folder in (CONFIG_DIR / parent.replace(".", "/")).glob("*/")]
    keys = [str(key) for key in node] if isinstance(node, DictConfig) else []
    return list(dict.fromkeys([*groups, *keys, *(names_at(parent, whole) if parent else ())]))
