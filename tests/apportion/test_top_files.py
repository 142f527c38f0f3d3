"""The files at the top that others' tools read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import yaml

from apportion.verbs import HOME
from trainers.publish.card import CITATION

TOP = Path(HOME)


def text_of(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def test_the_citation_is_the_same_everywhere():
    cff, version = (
        yaml.safe_load(text_of("CITATION.cff")),
        re.search(r'^version = "(.+)"', text_of("pyproject.toml"), re.M),
    )
    assert {"cff-version", "message", "title", "authors"} <= set(cff), "what the format asks for"
    assert CITATION in text_of("README.md")
    assert f"title = {{{cff['title']}}}" in CITATION and f"author = {{{{{cff['authors'][0]['name']}}}}}" in CITATION
    assert version and cff["version"] == version[1] and f"## {version[1]}" in text_of("CHANGELOG.md")
    assert f'license = "{cff["license"]}"' in text_of("pyproject.toml")


def test_hooks_run_what_there_is():
    (local,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    entries = [hook["entry"].split() for hook in local["hooks"]]
    assert len(entries) > 2
    for program, *words in entries:
        assert shutil.which(program), program
        assert all((TOP / word).is_file() for word in words if word.endswith(".py"))
