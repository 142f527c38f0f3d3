"""Code blocks: CommonMark's fences as models write them, none of which turns the meaning of those that follow round."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.build import resolve_rewards
from rewards.extract import after_marker, last_boxed, last_code_block
from rewards.text.fences import Code, code_blocks
from support.reward_samples import chosen

JSON = '{"a": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "```json\n{}\n```",
        "```json\r\n{}\r\n```\r\n",
        "Sure:\n```JSON\n{}\n```\nDone.",
        "````json\n{}\n````",
        "~~~json\n{}\n~~~",
        '```json title="x.json" {1}\n{}\n```',
        "``` json\n{}\n```   \n",
        "```{{.json}}\n{}\n```",
        "```json:out.json\n{}\n```",
        "   ```json\n   {}\n   ```",
        "Sure:\n    ```json\n    {}\n    ```",
        "\t```json\n\t{}\n\t```",
        "1. first\n\n   ```json\n   {}\n   ```\n2. second",
        "- item\n  ```json\n  {}\n  ```",
        "> ```json\n> {}\n> ```",
        "```json {}```",
        "It is ```json {} ``` as asked.",
        "```json\n{}```",
        "<answer>\n```json\n{}\n```\n</answer>",
        "```mermaid\ngraph\n```\n```json\n{}\n```",
        "```c++ -O2 x\nint\n```\n\n```json\n{}\n```\n```py\nx\n```",
        "````md\n```json\n[]\n```\n````\n```json\n{}\n```",
        "~~~\n```json\n[]\n~~~\n```json\n{}\n```",
        "```json\n[]\n```\n```json\n{}\n```\n```json\n\n```\n```json\n[2",
        "Sure: ```json\n{}\n```\nand so on",
        "```json\n{}```\nHope this helps!",
        "```json\n{}```\nor\n```py\nx\n```",
        "Sure: ```py\nx```\nand: ```json\n{}\n```",
        "- Sure: ```json\n{}\n```",
        "~~~json\n{}~~~\nbye",
        "````md\na ```\n````\n```json\n{}\n```",
        "it ends with ```\n\n```json\n{}\n```",
        "use ``` to fence\n\n```json\n{}\n```",
    ],
)
def test_json_is_found_however_it_is_fenced(text):
    text = (
        text.replace("{}", JSON, 1)
        if "{{" not in text
        else text.replace("{{", "{").replace("}}", "}").replace("{}", JSON)
    )
    assert last_code_block("json")(text) == JSON


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("```\n1\n```", None, "1"),
        ("```\n1\n```", "", "1"),
        ("```\n1\n```", "json", None),
        ("```py\nx\n```", "", None),
        ("```print(1)```", None, "print(1)"),
        ("```print(1)```", "py", None),
        ("`json 1`", "json", None),  # fewer than three: a word of code
        ("```json\n1", None, None),  # nothing closes it
        ("```json\n1\n~~~", None, None),
        ("````json\n1\n```", None, None),
        ("> ```json\n1\n", None, None),
        ("```py\nx\n```\n```json\n{}", None, "x"),
        ("", None, None),
    ],
)
def test_blocks_by_example(text, language, found):
    assert last_code_block(language)(text) == found


def by_lines(text):
    """The same for fences that stand at the margin, line by line."""
    blocks, opened, code = [], None, []
    for line in text.split("\n"):
        if opened is None:
            start = re.fullmatch(r"(`{3,})([^`]*)|(~{3,})(.*)", line)
            if start:
                opened, code = start, []
        else:
            fence = opened.group(1) or opened.group(3)
            if re.fullmatch(rf"{fence[0]}{{{len(fence)},}}[ \t]*", line):
                language = re.match(r"\s*([\w+#.-]*)", opened.group(2) or opened.group(4) or "").group(1)
                blocks.append(Code(language, "".join(f"{line}\n" for line in code)))
                opened = None
            else:
                code.append(line)
    return blocks


LINES = st.sampled_from(["```", "```json", "````", "~~~", "~~~py x", "a", "", "``` x y", "{}", "````js"])


@given(st.lists(LINES, max_size=9), st.booleans())
@settings(deadline=None, max_examples=400)
def test_fences_at_the_margin_are_read_as_a_reader_of_lines_would(lines, ended):
    text = "\n".join(lines) + ("\n" if ended else "")
    assert list(code_blocks(text)) == by_lines(text)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (JSON, 1.0),
        (f"```json\n{JSON}\n```", 1.0),
        (f"```\n{JSON}\n```", 1.0),
        (f"Here you are: ```json {JSON}```", 1.0),
        (f"```json\n{JSON}\n```\nas run by\n```\nls\n```", 1.0),
        ("```json\n[1]\n```", 0.2),
        (f"```json\n{JSON} trailing\n```", 0.0),
        (f"The answer is {JSON}.", 0.0),
        ("```json\n{'a': 1}\n```", 0.0),
        ('```json\n{"a": NaN}\n```', 0.0),
        ('{"a": "\x00"}', 0.0),
        ("\ufeff" + JSON, 0.0),
    ],
)
def test_reward_json_by_example(text, score):
    (reward,) = resolve_rewards(chosen("reward=json")["funcs"])
    assert reward(prompts=[""], completions=[text]) == [score]


@pytest.mark.parametrize(
    "piece", ["> ", "- ", "```\n", "-\n", "- a\n> b\n", "`", "``` a ` ", "1. ", "> ```\n", "~~~ `\n"]
)
def test_long_hostile_texts_give_blocks_and_no_error(piece):
    assert isinstance(list(code_blocks(piece * (50_000 // len(piece)))), list)


@pytest.mark.parametrize(
    ("extract", "text", "found"),
    [
        (last_boxed(), r"\boxed{9} so \boxed{}", "9"),
        (last_boxed(), r"\boxed{9} so \boxed{ } and \boxed{", "9"),
        (last_boxed(), r"\boxed {9}", "9"),
        (after_marker("####"), "#### 7\n####", "7"),
        (after_marker("####"), "#### 7\n#### \n \n", "7"),
        (after_marker("####"), "##### 7", "7"),
        (after_marker("Answer:", whole=True), "Answer: 1\n2\nAnswer:", "1\n2"),
    ],
)
def test_an_empty_answer_behind_hides_none_before_it(extract, text, found):
    assert extract(text) == found
