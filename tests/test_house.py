"""The rules of the house: who may import whom, every YAML works, every path and name in the docs is real."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

from configs.compose import CONFIG_DIR, compose_config, compose_strategy, config_choices

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("userio", "credit", "rewards", "tasks", "sampling", "configs", "trainers", "lab", "compare", "apportion")
HEAVY = {"trl", "transformers"}
# Who may see whom inside the house; what is not listed is out of sight.
SEES = {
    "userio": {"userio"},
    "credit": {"credit"},
    "rewards": {"rewards", "userio"},
    "tasks": {"tasks", "rewards", "userio"},
    "sampling": {"sampling", "credit"},
    "configs": {"configs", "credit", "userio"},
    "trainers": {"trainers", "configs", "credit", "rewards", "tasks", "sampling", "userio"},
    "lab": {"lab", "compare", "configs", "credit", "rewards", "tasks", "sampling", "trainers", "userio"},
    "compare": {"compare", "configs", "credit", "trainers", "userio"},
    "apportion": set(PACKAGES),  # the roof: nobody below sees it
}


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).exists()]


def imports(path: Path, lazily: bool) -> set[str]:
    """Top-level modules a file imports; only at module level unless `lazily`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if lazily else _module_level(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def _module_level(body):
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.ExceptHandler, ast.With)):
                yield from _module_level(getattr(node, part, []))


@pytest.mark.parametrize("package", SEES)
def test_layers_see_only_what_lies_below_them(package):
    for path in tracked(f"{package}/*.py"):
        seen = imports(path, lazily=True) & set(PACKAGES)
        assert seen <= SEES[package], f"{path.relative_to(ROOT)} imports {seen - SEES[package]}"


def test_the_maths_imports_torch_and_itself_only():
    for path in tracked("credit/*.py"):
        outside = imports(path, lazily=True) - {"credit", "torch", "numpy"}
        assert not outside & {"trl", "transformers", "hydra", "omegaconf", "accelerate", "datasets"}, path


def test_trl_and_transformers_stay_with_trainers_sampling_and_learned_rewards():
    for package in ("credit", "rewards", "tasks", "lab", "compare"):
        for path in tracked(f"{package}/*.py"):
            if path.name == "learned.py":
                continue
            assert not imports(path, lazily=True) & HEAVY, path
    assert not imports(ROOT / "rewards" / "learned.py", lazily=False) & (HEAVY | {"torch"})


def test_sweep_reaches_training_by_process_and_files():
    for path in tracked("compare/sweep/*.py"):
        assert "trl" not in imports(path, lazily=True)
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"trainers\.run\.(grpo:|files\b)", "", text)
        assert not re.search(r"trainers\.(run|grpo|command|seam)\b", text), path


def test_files_stay_short():
    long = {
        str(path.relative_to(ROOT)): n for path in tracked("*.py") if (n := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_no_path_of_a_machine_stands_in_the_repository():
    for path in [
        *tracked("*.py"),
        *tracked("*.md"),
        *tracked("*.yaml"),
        *tracked("*.toml"),
        *tracked("*.sh"),
        *tracked(".ci/run"),
    ]:
        if path.name == "test_house.py":
            continue
        assert not re.search(r"/opt/|/root/|/work/|/home/\w", path.read_text(encoding="utf-8")), path


# ---- configuration


@pytest.mark.parametrize("path", [str(p.relative_to(CONFIG_DIR)) for p in sorted(CONFIG_DIR.rglob("*.yaml"))])
def test_every_yaml_says_in_its_first_line_what_it_means(path):
    lines = (CONFIG_DIR / path).read_text(encoding="utf-8").splitlines()
    assert any(re.match(r"# \S.{8,}", line) for line in lines[:2]), path


ASK_A_TEACHER = ("spread=distilled", "spread=rescaled")


@pytest.mark.parametrize("name", config_choices("credit"))
def test_every_credit_yaml_builds_a_strategy_of_its_name(name):
    assert compose_strategy([f"credit={name}"]).name == name


@pytest.mark.parametrize("axis", ["baseline", "spread", "weight", "ratio", "live_weight"])
def test_every_member_yaml_builds_and_its_target_declares_itself(axis):
    from credit.declare import declaration_of

    for choice in config_choices(f"credit/{axis}"):
        teacher = ["credit/teacher=self"] if f"{axis}={choice}" in ASK_A_TEACHER else []
        strategy = compose_strategy(["credit=dr_grpo", f"credit/{axis}={choice}", *teacher])
        assert declaration_of(getattr(strategy, axis)).source, f"{axis}/{choice} names no source"


@pytest.mark.parametrize("group", ["task", "model", "reward", "experiment"])
def test_every_choice_of_the_main_command_composes(group):
    from trainers.run.grpo import register_schema

    register_schema()
    for choice in config_choices(group):
        compose_config("train_grpo", [f"{group}={choice}"])


def test_every_accelerate_file_is_valid():
    from accelerate.commands.config.config_args import load_config_from_file

    for path in sorted((CONFIG_DIR / "accelerate").glob("*.yaml")):
        assert load_config_from_file(str(path)).num_processes >= 1


# ---- documents


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_in_a_document_exists(document):
    text = document.read_text(encoding="utf-8")
    plain = re.sub(r"\]\([^)]*\)", "]", text)  # links are relative to their page, paths to the root
    named = set(re.findall(rf"(?<![\w/.-])((?:{'|'.join(PACKAGES)}|configs|docs|tests|benchmarks)/[\w./-]*\w)", plain))
    for name in named:
        if (
            "my_" in name
            or "polite" in name
            or re.match(r"sampling/(flat|refilled|rounds|completions|reward_first)", name)
            or re.match(
                r"credit/(mass|effective|length_corr|zero|signal_time|answer_tokens|turns|turn_0|earned_|idle|live_|auxiliary|reward_model_loss)",
                name,
            )
        ):
            continue  # a user's own file, or a metric
        if (ROOT / "configs" / name).is_dir():
            continue  # a group of choices
        assert (ROOT / name).exists() or list(ROOT.glob(name + ".*")), f"{document.name} names {name}"
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / link).exists(), f"{document.name} links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_dotted_name_in_a_document_resolves(document):
    text = document.read_text(encoding="utf-8")
    for name in set(re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`", text)):
        if name.endswith((".py", ".md", ".yaml", ".html", ".json", ".csv")) or _is_setting(name):
            continue
        module, attributes = name.split("."), []
        while module:
            try:
                found = importlib.import_module(".".join(module))
                break
            except ModuleNotFoundError:
                attributes.insert(0, module.pop())
        for attribute in attributes:
            assert hasattr(found, attribute), f"{document.name} names {name}"
            found = getattr(found, attribute)


def _is_setting(name: str) -> bool:
    """`credit.unit_mass` and the like are settings of the command line, not names of the code."""
    from configs.fields.declared import fields_of

    settings = {f"credit.{field.name}" for field in fields_of("credit.strategy.Strategy") or ()} | {"sampling.refill"}
    return ".".join(name.split(".")[:2]) in settings


def test_the_readme_tree_is_true():
    """Every line names something that exists, and nothing of the first level, of credit/ or of trainers/ is left out."""
    tree = re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S).group(1)
    named, folder = set(), ""
    for indent, name, said in re.findall(r"^( *)([\w.-]+/?) +(\S.*)$", tree, re.M):
        folder = "" if not indent else folder
        assert (ROOT / folder / name).exists() and name.endswith("/") == (ROOT / folder / name).is_dir(), name
        assert len(said) > 10
        named.add(folder + name)
        folder = name if not indent and name.endswith("/") else folder
    assert len(named) == len([line for line in tree.splitlines() if line.strip()])
    assert {f"{package}/" for package in PACKAGES} <= named
    for inside in ("credit", "trainers"):
        there = {path.relative_to(ROOT / inside).parts for path in tracked(f"{inside}/*.py")}
        first = {parts[0] + "/" * (len(parts) > 1) for parts in there} - {"__init__.py"}
        assert first == {name.partition("/")[2] for name in named if name.startswith(f"{inside}/")} - {""}


def test_no_helper_of_the_tests_is_loaded_under_two_names():
    """Helpers at the top of tests/ are imported bare; `tests.tiny` would be a second module of the same file."""
    helpers = {path.stem for path in (ROOT / "tests").glob("*.py")}
    for path in tracked("tests/*.py"):
        twice = set(re.findall(r"^\s*from tests\.(\w+) import", path.read_text(encoding="utf-8"), re.M)) & helpers
        assert not twice, f"{path.relative_to(ROOT)} imports tests.{twice}"


def test_the_short_matrix_names_test_files_that_exist():
    script = (ROOT / ".ci" / "trl_matrix.sh").read_text(encoding="utf-8")
    names = re.search(r"for name in (.*?); do", script, re.S).group(1).replace("\\", "").split()
    assert len(names) > 10 and all((ROOT / "tests" / "trainers" / f"{name}.py").exists() for name in names)


MADE = {"docs/api.md"}  # from docstrings, which have a width of their own


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_has_one_width(document):
    """120 columns, but for tables, code, headings, pictures, and what cannot be broken (code spans, links)."""
    if str(document.relative_to(ROOT)) in MADE or document.parent.name == "strategies":
        return
    is_code = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        is_code ^= line.lstrip().startswith("```")
        if is_code or len(line) <= 120 or re.match(r"\s*(\||#|<|!\[|```)|    ", line):
            continue
        unbroken = re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)
        assert len(unbroken) <= 60, f"{document.name}:{number} is {len(line)} wide"
