"""Nothing that a command prints can end it: a reader that has gone, a closed stream, a full disk, a poor encoding."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TALK = """
from userio.terminal import steady_output
steady_output(); steady_output()
import logging, sys
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
for _ in range(3000):
    print("a ✓ b \\ud800 c", flush=True)
table = Table(title="δ"); table.add_column("長い"); table.add_row("✓")
Console().print(table)
for _ in tqdm(range(3), desc="über"): pass
logging.warning("長い"); print("✓", file=sys.stderr)
from pathlib import Path
Path(sys.argv[1]).write_text("reached the end")
"""
COMMANDS = [
    ("train_grpo.py",), ("train_sft.py",), ("train_lhts.py",), ("sample.py",), ("eval_model.py",), ("sweep.py",),
    ("-m", "apportion"),
    ("-m", "lab.audit"), ("-m", "lab.audit.compare"),
    *(("-m", name) for name in ("lab.bench", "lab.card", "compare.report.coverage", "compare.report", "compare.view", "rewards.score")),
]  # fmt: skip
QUICK = [("train_grpo.py",), ("sweep.py",)]  # one of those that run_verb parses, and one that parses itself


def talk(tmp_path: Path, encoding: str | None = None, redirect: str = "", **streams) -> subprocess.CompletedProcess:
    (tmp_path / "talk.py").write_text(TALK, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"PYTHONIOENCODING": encoding} if encoding else {})
    end = tmp_path / "end"
    command = f"exec {sys.executable} {tmp_path / 'talk.py'} {end} {redirect}"
    done = subprocess.run(["sh", "-c", command], env=environment, timeout=120, **streams)
    assert done.returncode == 0 and end.read_text() == "reached the end"
    return done


@pytest.fixture
def nobody():
    """The writing end of a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "ascii:strict", "cp1252"])
def test_what_an_encoding_lacks_is_shown_as_an_escape(tmp_path, encoding):
    done = talk(tmp_path, encoding, capture_output=True)
    assert b"\\ud800" in done.stdout  # no encoding has half a character
    assert (b"\\u2713" in done.stdout) is (encoding != "utf-8")
    assert done.stdout.count(b"a ") == 3000 and b"Traceback" not in done.stderr


def test_a_reader_that_has_gone_ends_nothing(tmp_path, nobody):
    talk(tmp_path, stdout=nobody, stderr=nobody)


@pytest.mark.parametrize("redirect", [">&- 2>&-", "> /dev/full 2> /dev/full", "| head -1"])
def test_neither_does_a_closed_stream_nor_a_full_disk(tmp_path, redirect):
    talk(tmp_path, redirect=redirect)


def test_the_backend_of_a_notebook_costs_no_picture():
    code = (
        "from userio.terminal import steady_output; steady_output(); import matplotlib; print(matplotlib.get_backend())"
    )
    environment = os.environ | {"MPLBACKEND": "module://not_installed.backend", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().lower() == "agg", done.stderr


def test_streams_that_somebody_else_has_put_there_are_left_alone(capsys, monkeypatch):
    from userio.terminal import steady_output

    monkeypatch.setenv("MPLBACKEND", "")
    before = sys.stdout, sys.stderr
    steady_output()
    assert (sys.stdout, sys.stderr) == before


def commands_of_the_house() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    files = [
        ROOT / name
        for name in listed
        if not name.startswith(("tests/", "examples/")) and name != "compare/sweep/supervisor.py"
    ]
    return [path for path in files if path.exists() and _guards(path)]


def _guards(path: Path) -> list[ast.If]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node for node in body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]


def test_every_command_steadies_its_output_first():
    found = commands_of_the_house()
    assert len(found) > 25
    for path in found:
        code, verbs = ast.unparse(_guards(path)[0]), "from apportion.verbs import" in path.read_text(encoding="utf-8")
        assert "steady_output()" in code or "run_verb(" in code or verbs, path  # both steady it themselves


def _modules() -> list[str]:
    """What `python -m` takes: commands of the packages."""
    names = [
        path.relative_to(ROOT).with_suffix("") for path in commands_of_the_house() if "/" in str(path.relative_to(ROOT))
    ]
    return [".".join(name.parts).removesuffix(".__main__") for name in names if name.parts[0] != "benchmarks"]


def test_every_module_that_is_a_command_looks_for_help():
    assert len(_modules()) > 15
    for name in _modules():
        place = ROOT.joinpath(*name.split("."))
        text = (place / "__main__.py" if place.is_dir() else place.with_suffix(".py")).read_text(encoding="utf-8")
        assert any(
            way in text
            for way in ("asks_for_help", "argparse", '"--help"', "run_verb(", "apportion.verbs", "score_command")
        ), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*_modules(), "train_grpo.py", "train_sft.py", "train_lhts.py", "sample.py", "sweep.py"]
)
def test_help_of_every_command_runs_nothing(name, tmp_path):
    """A second or two on an idle core; text on standard output, nothing on standard error, no file."""
    command = [str(ROOT / name)] if name.endswith(".py") else ["-m", name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for flag in ("--help", "-h"):
        done = subprocess.run(
            [sys.executable, *command, flag], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0 and not done.stderr and len(done.stdout) > 100, done.stderr
        assert "defaults:" not in done.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in COMMANDS])
def test_help_into_a_pipe_nobody_reads_is_no_traceback(command, nobody):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=environment,
        stdout=nobody,
        stderr=subprocess.PIPE,
        timeout=300,
    )
    assert done.returncode == 0 and not done.stderr


def test_what_was_said_is_logged_line_by_line(tmp_path):
    """Of a bar its last state, of colours none; and what the logger of a library says, whose stream is older than the log."""
    code = """
        import logging, sys
        from userio.terminal import log_line, log_output, steady_output
        steady_output()
        print("before", flush=True)
        logging.basicConfig(format="%(message)s")
        log_output(sys.argv[1])
        print("one", end=" "); print("\\x1b[1;34mtwo\\x1b[0m ✓")
        for i in range(3): print(f"\\r{i} of 3", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr); logging.warning("three"); log_line("four")
    """
    log = tmp_path / "log.txt"
    script = "\n".join(line[8:] for line in code.splitlines())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", script.replace("sys.argv[1]", f"__import__('pathlib').Path({str(log)!r})")],
                          env=environment, capture_output=True, text=True, encoding="utf-8")  # fmt: skip
    assert done.returncode == 0 and "before" in done.stdout and "two" in done.stdout, done.stderr
    assert sorted(log.read_text(encoding="utf-8").splitlines()) == ["2 of 3", "four", "one two ✓", "three"]
