"""Folder names are made of harmless signs, say what they stand for, and differ where the settings do."""

import re
from itertools import combinations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from userio.folder_names import LONGEST, folder_name, short_key

VALUES = [
    *(
        "1",
        "-1",
        "minus1",
        "1e-4",
        "1e4",
        "1e+4",
        "0.5",
        ".5",
        "",
        "none",
        "null",
        "a b",
        "a_b",
        "a,b",
        "a=b",
        "a/b",
        "a-b",
    ),
    *(
        "a--b",
        "-a",
        "a-",
        "ä",
        "ö",
        "'1'",
        "[a,b]",
        "{a: 1}",
        "../up",
        "..",
        "~",
        "$HOME",
        "`id`",
        "a\nb",
        "a;rm -rf b",
    ),
    *("/data/of mine/train.jsonl", "x" * 300, "x" * 299 + "y", "--max_steps-30", "1--max_steps-30"),
]
NAMES = {
    value: folder_name("value", [("trainer.beta", value)] if value is not None else []) for value in [*VALUES, None]
}


@pytest.mark.parametrize("name", NAMES.values())
def test_a_name_passes_bare_through_shells_slurm_and_hydra(name):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and len(name) <= LONGEST
    path = f"runs/chain/{name}/seed0"
    override = OverridesParser.create().parse_override(f"model.name={path}")
    assert override.value() == path and not override.is_sweep_override()


def test_different_settings_have_different_names():
    keys = ["trainer.beta", "credit.spread.beta", "model.beta", "task.beta"]
    settings = [[(key, value)] for key in keys for value in VALUES]
    settings += [[(a, "1"), (b, "2")] for a, b in combinations(keys, 2)]
    firsts = ["value", "value-1", "value--beta-1", "value/1", "value_1", ""]
    names = [folder_name(first, pairs) for first in firsts for pairs in settings if first or pairs]
    assert len(set(names)) == len(names)


def test_a_name_says_what_it_stands_for():
    pairs = [("trainer.max_steps", "30"), ("credit.spread.lambda_", "0.9"), ("credit/weight", "seq_mean")]
    assert folder_name("value", pairs) == "value--max_steps-30--spread.lambda_-0.9--weight-seq_mean"
    assert folder_name("value", [("trainer.max_steps", "-1")]) == "value--max_steps-minus1"
    assert re.fullmatch(
        r"uniform--model.name-Qwen_Qwen2.5-0.5B--\w{6}", folder_name("uniform", [("model.name", "Qwen/Qwen2.5-0.5B")])
    )


def test_no_setting_of_a_command_is_shortened_to_another():
    trl = pytest.importorskip("trl")
    from configs.fields.defaults import COMMANDS, fields_of_command

    for command, config in (("train_grpo", trl.GRPOConfig), ("train_sft", trl.SFTConfig)):
        assert command in COMMANDS
        top = {field.name for field in fields_of_command(command)} - {"seed"}  # trainer.seed is refused
        assert not top & {short_key(f"trainer.{name}") for name in config.__dataclass_fields__}
