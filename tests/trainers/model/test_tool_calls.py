"""A model that cannot call tools is refused before it is built."""

from __future__ import annotations

import pytest

from configs.compose import ConfigError
from tasks.base import Task
from trainers.command.tools import build_tools, check_tools
from trainers.model.embedded import embedded


@pytest.mark.parametrize("wants", [{"tools": [len]}, {"environment": object}])
def test_a_model_that_cannot_call_tools_is_refused_before_it_is_built(tmp_path, wants):
    row = {"prompt": [{"role": "user", "content": "go"}]}
    task = Task(name="game", train=[row], evaluation=[], reward_funcs=[_nothing], reward_weights=[1.0], **wants)
    with pytest.raises(ValueError, match=r"model=embedded cannot call tools.*model=hf"):
        embedded(task, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def _nothing(completions, **columns):
    return [0.0 for _ in completions]


TOOLS = """
def search(query: str) -> str:
    'Searches.\\n\\nArgs:\\n    query: what for.'
    return query

def bare(query): ...

def silent(query: str) -> str: ...

def loose(*words: str) -> str:
    'Says.'

class Game:
    def reset(self, **row): ...
    def look(self) -> str:
        'Looks.'
    def search(self) -> str: ...
"""


@pytest.mark.parametrize(
    "name, words",
    [
        ("my_tools.py:bare", "no docstring.*type hints"),
        ("my_tools.py:silent", "no docstring"),
        ("my_tools.py:loose", r"\*words"),
        ("my_tools.py:Game", "a class, not a function.*task=environment"),
        ("my_tools.py:serach", "did you mean 'search'"),
        ("my_tools.py", "my_tools.py:NAME"),
        ("gone.py:search", "no file"),
        ("broken.py:search", "does not import: SyntaxError"),
    ],
)
def test_a_tool_that_no_model_could_be_shown_is_refused_with_the_remedy(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_tools.py").write_text(TOOLS)
    (tmp_path / "broken.py").write_text("def search(:")
    assert [tool.__name__ for tool in build_tools(["my_tools.py:search"])] == ["search"]
    with pytest.raises(ConfigError, match=words):
        build_tools([name])


def test_the_tools_of_an_environment_are_looked_at_before_a_model_is():
    class Game:
        def reset(self, **row): ...

        def look(self) -> str:
            """Looks."""
            return ""

    class Silent(Game):
        def move(self, by: int) -> str: ...

    def look() -> str:
        """Looks elsewhere."""
        return ""

    def task(kind, tools=()):
        row = {"prompt": [{"role": "user", "content": "go"}]}
        return Task("game", [row], [], [_nothing], [1.0], environment=kind, tools=list(tools))

    check_tools(task(Game), None)
    with pytest.raises(ConfigError, match=r"Tool move of environment Silent.*no docstring.*begins with _"):
        check_tools(task(Silent), None)
    with pytest.raises(ConfigError, match="has a tool look, too"):
        check_tools(task(Game, [look]), None)


def test_tools_with_prompts_of_plain_text_are_refused():
    """TRL's loop reads calls off messages; of texts it fails after the first were written."""
    plain = Task(
        name="sums", train=[{"prompt": "2+2="}], evaluation=[], reward_funcs=[], reward_weights=[], tools=[len]
    )
    with pytest.raises(ValueError, match=r"plain texts: task\.chat=true"):
        check_tools(plain, None)
