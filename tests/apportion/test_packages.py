"""What `apportion` finds hidden, what it says of it, and how its commands make way."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apportion import PUBLIC, packages, verbs
from userio import tracebacks

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments: str, cwd: Path, path: str = str(ROOT), check: bool = True) -> subprocess.CompletedProcess:
    """Python from a folder of the user's, which stands before our packages on the path."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def wheel_packages() -> list[str]:
    """Read by hand: Python 3.10 has no tomllib."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"\[tool\.hatch\.build\.targets\.wheel\]\npackages = \[(.*?)\]", text, re.S)
    assert listed
    return re.findall(r'"(\w+)"', listed[1])


# ---- the list


def test_the_list_of_packages_is_the_wheels():
    assert {*packages.NEEDS, "apportion"} == set(wheel_packages()) == set(tracebacks._ROOMS)


def test_the_page_lists_the_packages_of_the_wheel():
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    listed = re.search(r"<!-- packages -->(.*?)<!-- /packages -->", text, re.S)
    assert listed and set(re.findall(r"`(\w+)`", listed[1])) == set(packages.NEEDS)


@pytest.mark.parametrize("name", packages.NEEDS)
def test_a_package_needs_what_its_files_import(name):
    imported = set()
    for file in (ROOT / name).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).split(".")[0])
    assert imported & set(packages.NEEDS) - {name} == set(packages.NEEDS[name])


@pytest.mark.parametrize("name", packages.NEEDS)
def test_every_package_is_one_of_its_own_and_no_part_of_a_namespace(name):
    """A folder without `__init__.py` would be one with any folder of that name on the path, and behind every module."""
    assert (ROOT / name / "__init__.py").is_file()


# ---- in a process of the user's

HIDDEN = "from apportion import packages; import json; print(json.dumps(packages.hidden(), default=str))"


@pytest.mark.parametrize("kind", ["file", "package"])
def test_a_hidden_package_is_named_at_import_with_what_hides_it(tmp_path, kind):
    place = tmp_path / "rewards.py" if kind == "file" else tmp_path / "rewards"
    file = place if kind == "file" else place / "__init__.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise SystemExit('the file of the user was run')")
    done = python("-c", HIDDEN, cwd=tmp_path)
    assert json.loads(done.stdout) == {"rewards": str(place)}
    assert done.stderr.count("UserWarning") == 1 and f"`rewards` is {place}" in done.stderr and "Rename" in done.stderr


def test_folders_without_python_files_hide_nothing(tmp_path):
    for name in packages.NEEDS:
        (tmp_path / name / "task").mkdir(parents=True)
        (tmp_path / name / "train_grpo.yaml").write_text("seed: 1")
    done = python("-c", HIDDEN, cwd=tmp_path)
    assert json.loads(done.stdout) == {} and not done.stderr


def test_what_was_imported_before_hides_too(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tasks.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'own')!r}); import tasks; del sys.path[0]; {HIDDEN}"
    assert json.loads(python("-c", code, cwd=tmp_path).stdout) == {"tasks": str(tmp_path / "own" / "tasks.py")}


def test_a_package_that_is_gone_is_missed(tmp_path):
    for name in {"apportion", *packages.NEEDS} - {"lab"}:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    for name in ("__init__.py", "__init__.pyi", "packages.py"):
        shutil.copy(ROOT / "apportion" / name, tmp_path / "apportion" / name)
    done = python("-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {HIDDEN}", cwd=tmp_path)
    assert json.loads(done.stdout) == {"lab": None}
    assert f"missing from {tmp_path}: `lab`" in done.stderr


def test_a_hidden_package_costs_only_the_names_that_need_it(tmp_path):
    (tmp_path / "rewards.py").write_text("raise SystemExit('the file of the user was run')")
    python("-W", "ignore", "-c", "from apportion import Strategy, SMC, declares, weight", cwd=tmp_path)
    for name in ("CreditGRPOTrainer", "guarded", "Task"):
        done = python("-W", "ignore", "-c", f"from apportion import {name}", cwd=tmp_path, check=False)
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"ImportError: {name} cannot be imported") and str(tmp_path / "rewards.py") in last


def test_the_path_of_a_users_process_is_left_alone(tmp_path):
    (tmp_path / "rewards.py").write_text("mine = True")
    code = (
        "import sys; before = list(sys.path); import apportion; assert sys.path == before; import rewards; rewards.mine"
    )
    python("-W", "ignore", "-c", code, cwd=tmp_path)


# ---- in a process of ours


@pytest.fixture
def project(tmp_path):
    """A folder whose files have the names of all our packages, and end any process that imports one."""
    for name in packages.NEEDS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of the user was run')")
    (tmp_path / "my_rewards.py").write_text(
        "from my_helper import WORD\ndef polite(prompts, completions, **columns):\n"
        "    return [float(WORD in text) for text in completions]\n"
    )
    (tmp_path / "my_helper.py").write_text("WORD = 'please'\n")
    return tmp_path


SCORE = ["reward.funcs=[my_rewards.py:polite]", "--completion", "yes please", "--json"]


@pytest.mark.parametrize(
    "path", [str(ROOT), os.pathsep.join([".", str(ROOT)])], ids=["folder first", "and PYTHONPATH=."]
)
@pytest.mark.parametrize(
    "command",
    [["-m", "apportion.score"], pytest.param(["-m", "apportion", "score"], marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_our_packages_win_in_a_command_of_ours(project, command, path):
    done = python(*command, *SCORE, cwd=project, path=path)
    assert json.loads(done.stdout.splitlines()[0])["scores"] == {"polite": 1.0}
    assert str(project / "rewards.py") in done.stderr and "UserWarning" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_is_as_quiet_as_ever_where_nothing_hides(tmp_path):
    (tmp_path / "configs").mkdir()
    assert not python("-m", "apportion.score", "--help", cwd=tmp_path).stderr


def test_only_one_rank_speaks(project, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not python("-m", "apportion.score", *SCORE, cwd=project).stderr


def test_making_way_moves_what_hides_and_nothing_else(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    code = "import json, sys; from apportion.packages import make_way; b = sys.path[:]; make_way(); print(json.dumps([b, sys.path]))"
    before, after = json.loads(python("-c", code, cwd=project, path=f"{other}{os.pathsep}{ROOT}").stdout)
    assert after == [*before[1:], before[0]] and str(other) in after
    before, after = json.loads(python("-c", code, cwd=other, path=f"{project}{os.pathsep}{ROOT}").stdout)
    assert before[:3] == ["", str(project), str(ROOT)]
    assert after == [str(ROOT), str(project), *before[3:], ""]


def test_worker_processes_inherit_the_order(project):
    code = (
        "import sys; sys.argv = ['apportion']\nfrom apportion.packages import make_way; make_way()\n"
        "import multiprocessing; from rewards.text.completions import completion_text\n"
        "if __name__ == '__main__':\n"
        "    for method in multiprocessing.get_all_start_methods():\n"
        "        with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "            print(pool.apply(completion_text, ('hello',)))\n"
    )
    methods = len(__import__("multiprocessing").get_all_start_methods())
    assert python("-c", code, cwd=project).stdout.split() == ["hello"] * methods


def test_a_command_refuses_where_a_package_was_imported_before(project):
    code = "import sys; sys.modules['rewards'] = __import__('my_helper'); from apportion.verbs import run; run('score')"
    done = python("-W", "ignore", "-c", code, cwd=project, check=False)
    assert done.returncode == 1 and f"`rewards` is {project / 'my_helper.py'}" in done.stderr.splitlines()[-1]


# ---- the commands


def test_every_command_has_a_file_that_names_it_and_a_target_that_exists():
    files = {path.stem for path in (ROOT / "apportion").glob("*.py") if "run(" in path.read_text(encoding="utf-8")}
    assert files - {"verbs"} == set(verbs.VERBS)
    for name in verbs.VERBS:
        assert f'run("{name}")' in (ROOT / "apportion" / f"{name}.py").read_text(encoding="utf-8")


def test_help_lists_every_command_and_an_unknown_one_is_refused(tmp_path):
    said = python("-m", "apportion", cwd=tmp_path).stdout
    assert python("-m", "apportion", "--help", cwd=tmp_path).stdout == said
    assert all(re.search(rf"^  {name}\s", said, re.M) for name in [*verbs.VERBS, "configs"])
    refused = python("-m", "apportion", "trian_grpo", cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "'trian_grpo'" in refused.stderr


def test_any_module_of_ours_that_can_be_run_is_a_command_too(project):
    text = json.loads(python("-m", "apportion", "rewards.score", *SCORE, cwd=project).stdout.splitlines()[0])
    assert text["scores"] == {"polite": 1.0}
    for name in ("rewards.nowhere", "json.tool", "my_rewards", "rewards", "..", "lab/card"):
        refused = python("-m", "apportion", name, cwd=project, check=False)
        assert refused.returncode == 2 and f"no command {name!r}" in refused.stderr


def test_the_folder_of_the_yamls_is_printed(project):
    folder = Path(python("-m", "apportion", "configs", cwd=project).stdout.strip())
    assert (folder / "accelerate" / "cpu_2.yaml").is_file()


# ---- the names


def test_every_public_name_is_what_its_home_has():
    import apportion

    for name, module in PUBLIC.items():
        scope: dict = {}
        exec(f"from {module} import {name}", scope)
        assert getattr(apportion, name) is scope[name]
    assert len(set(apportion.__all__)) == len(PUBLIC) and set(apportion.__all__) <= set(dir(apportion))


def test_importing_the_package_loads_nothing_and_the_maths_needs_no_trl(tmp_path):
    code = (
        "import sys, apportion\nassert 'CreditGRPOTrainer' in dir(apportion)\n"
        "assert not {'torch', 'trl', 'hydra', 'numpy', *apportion.packages.NEEDS} & set(sys.modules)\n"
        "from apportion import Strategy, declares, weight, guarded\nassert 'torch' in sys.modules\n"
        "assert not {'trl', 'transformers', 'hydra'} & set(sys.modules)"
    )
    python("-c", code, cwd=tmp_path)


def test_an_unknown_name_is_an_attribute_error_with_the_nearest():
    import apportion

    with pytest.raises(AttributeError, match="did you mean 'CreditGRPOTrainer'"):
        apportion.CreditGRPOTrainr  # noqa: B018
    assert not hasattr(apportion, "__wrapped__")


def test_a_command_in_a_process_of_the_users_refuses_as_the_command_line_does(tmp_path, monkeypatch):
    from apportion import run_command

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no such choice"):
        run_command("train_grpo", ["credit=seq_nrom"])
    with pytest.raises(ValueError, match="there are train_grpo, train_sft, train_lhts, sample, eval_model"):
        run_command("report", ["runs"])
    assert not list(tmp_path.iterdir())
