"""What people type who know TRL's own scripts, in the words of these commands: `--learning_rate 1e-5` is
`trainer.learning_rate=1e-5` here, `--model_name_or_path X` is `model=hf model.name=X`.

Nothing is guessed at: a command that has such words is refused, with the right spelling.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.command_line.overrides import as_one_text
from userio.words import word_of

_TABLES = (".jsonl", ".json", ".csv", ".parquet")
_OPEN = "..."  # a value that was not given


@dataclass(frozen=True)
class Vocabulary:
    """What a command knows.

    Args:
        own: settings of the command and the groups it chooses from.
        trainer: fields of TRL's config; none: it does not train.
        model, task: settings of model=hf, and of tables of one's own.
        has_choice: (group, choice) -> whether there is a YAML of that name.
    """

    own: Collection[str]
    trainer: Collection[str]
    model: Collection[str]
    task: Collection[str]
    has_choice: Callable[[str, str], bool]


# TRL's option -> words, the value in the place of {}.
_WORDS = {
    "model_name_or_path": "model=hf model.name={}",
    "model_name": "model=hf model.name={}",
    "model_revision": "model.revision={}",
    "model_dtype": "model.dtype={}",
    "torch_dtype": "model.dtype={}",
    "chat_template_path": "model.chat_template={}",
    "peft_config": "model/peft=lora",
    "peft": "model/peft=lora",
    "lora_r": "model/peft=lora model.peft.r={}",
    "lora_alpha": "model/peft=lora model.peft.lora_alpha={}",
    "lora_dropout": "model/peft=lora model.peft.lora_dropout={}",
    "lora_target_modules": "model/peft=lora model.peft.target_modules={}",
    "lora_modules_to_save": "model/peft=lora model.peft.modules_to_save={}",
    "lora_task_type": "model/peft=lora",
    "use_rslora": "model/peft=lora model.peft.use_rslora={}",
    "use_dora": "model/peft=lora model.peft.use_dora={}",
    "dataset_config": "task.config={}",
    "dataset_config_name": "task.config={}",
    "dataset_train_split": "task.split={}",
    "dataset_test_split": "task.eval_split={}",
    "reward_weights": "reward.weights={}",
    "overwrite_output_dir": "overwrite={}",
}
_LISTS = ("reward_funcs", "reward_weights", "lora_target_modules", "lora_modules_to_save", "report_to")


def spelled(option: str, value: str | None, known: Vocabulary) -> list[str]:
    """The words of these commands for an option of TRL's, or for a setting without its place; [] where there are none.

    Args:
        value: None for a flag that has none.
    """
    name = option.lstrip("-")
    if "." in name or "/" in name:
        return [_word(name, value)] if option.startswith("-") else []
    name = name.replace("-", "_")
    if name in ("model", "task") and value and not known.has_choice(name, value):
        name = {"model": "model_name_or_path", "task": "dataset_name"}[name] if _is_place(value) else name
    if words := _special(name, value, known):
        return words
    if name in _WORDS:
        words = [word.replace("{}", _value(name, value)) for word in _WORDS[name].split()]
        return words if re.split("[./=]", words[0])[0] in known.own else []
    if name in known.own and name != "trainer":
        return [_word(name, value)] if option.startswith("-") else []
    if name in known.trainer:
        return [f"trainer.{name}={_value(name, value)}"]
    for group, names in (("model", known.model), ("task", known.task)):
        if name in names and name != "name":
            return [_word(f"{group}.{name}", value)]
    if name.startswith("no_") and name[3:] in known.trainer:
        return [f"trainer.{name[3:]}=false"]
    return []


def _special(name: str, value: str | None, known: Vocabulary) -> list[str]:
    """Options whose words depend on the value or the command."""
    if name in ("dataset", "dataset_name") and "task" in known.own:
        text = value or _OPEN
        is_table = Path(text).suffix in _TABLES or Path(text).exists()
        return ["task=jsonl", _word("task.path", text)] if is_table else ["task=hub", _word("task.dataset", text)]
    if name == "reward_funcs" and "reward" in known.own:
        funcs = [func if re.search(r"[.:]", func) else f"trl.rewards.{func}" for func in (value or _OPEN).split()]
        return [f"reward.funcs=[{','.join(funcs)}]"]
    if name in ("output_dir", "resume_from_checkpoint") and "resume" in known.own:
        return [_word("run_dir", value)] if name == "output_dir" else ["resume=true"]
    if name == "temperature" and "tau" in known.own and name not in known.trainer:
        return [_word("tau", value)]
    if name == "use_peft" and "model" in known.own:
        return ["model/peft=null" if value in ("false", "False") else "model/peft=lora"]
    if name in ("push_to_hub", "hub_model_id") and "push" in known.own:
        return [_word("push", value if name == "hub_model_id" else _OPEN)]
    if name == "hub_private_repo" and "push_private" in known.own:
        return ["push_private=true"]
    return []


def dashed(words: Sequence[str], strange: Collection[str], known: Vocabulary) -> str:
    """What to say of a command line with options that it does not have: `strange` ones, as they stand in `words`."""
    given, ours, unknown = [], [], []
    at = 0
    while at < len(words):
        word, at = words[at], at + 1
        if word not in strange or not re.match(r"--?[A-Za-z]", word):
            continue
        option, value = word_of(word)
        values = [] if value is None else [value]
        while value is None and at < len(words) and not words[at].startswith("-") and "=" not in words[at]:
            values.append(words[at])
            at += 1
            if option.lstrip("-") not in _LISTS:
                break
        found = spelled(option, " ".join(values) if values else None, known)
        shown = word if value is not None else shlex.join([word, *values])
        (given if found else unknown).append(shown)
        ours += [one for one in found if one not in ours]
    said = []
    if ours:
        said.append(f"{', '.join(f'`{one}`' for one in given)}: settings are written key=value. Write {' '.join(ours)}")
    if unknown:
        names = [word_of(one.split()[0]).key.lstrip("-") for one in unknown]
        places = {name: name for name in known.own} | {name: f"trainer.{name}" for name in known.trainer}
        near = [places[found[0]] for name in names if (found := difflib.get_close_matches(name, places, 1, 0.7))]
        hint = f" Did you mean {', '.join(f'`{one}=...`' for one in near)}?" if near else ""
        said.append(f"{', '.join(f'`{one}`' for one in unknown)}: there is no such option; see --help.{hint}")
    return "\n".join(said)


def bare(words: Sequence[str], known: Vocabulary) -> str:
    """What to say of settings without their place, as `learning_rate=1e-5`; "" where there are none."""
    given, ours = [], []
    for word in words:
        key, value = word_of(word)
        if re.fullmatch(r"[a-z]\w*", key) and value is not None and (found := spelled(key, value, known)):
            given.append(word)
            ours += [one for one in found if one not in ours]
    return f"{', '.join(f'`{one}`' for one in given)}: no such setting. Write {' '.join(ours)}" if ours else ""


def _is_place(value: str) -> bool:
    is_path = "/" in value or Path(value).suffix in _TABLES or Path(value).exists()
    return is_path and re.fullmatch(r"[\w.~/-]+", value) is not None


def _word(key: str, value: str | None) -> str:
    text = "true" if value is None else value
    return f"{key}={text}" if re.fullmatch(r"[\w.,:/+\-\[\]~]*", text) else as_one_text(f"{key}={text}")


def _value(name: str, value: str | None) -> str:
    text = "true" if value is None else value
    if name in _LISTS and (" " in text or name in ("reward_weights", "lora_modules_to_save")):
        return f"[{','.join(text.split())}]"
    return {"True": "true", "False": "false", "None": "null"}.get(text, text)
