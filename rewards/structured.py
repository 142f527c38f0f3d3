"""Is the text (or the part an extractor finds) JSON, and does it fit a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rewards.base import TextReward
from rewards.extract import whole_text


class json_valid(TextReward):
    """1 where the text is one JSON value in the sense of RFC 8259 (no NaN, no trailing text), else 0. Of a key that
    stands twice in an object the last value counts.

    Args:
        extract: rewards/extract.py; default the whole text. `last_code_block` reads the last fenced block.
        name: the name in the logs.
    """

    def __init__(self, extract: Callable[[str], str | None] | None = None, *, name: str = "json_valid"):
        self.extract, self.__name__ = extract or whole_text(), name

    def score(self, text: str) -> float:
        return float(self.parsed(text) is not _INVALID)

    def parsed(self, text: str) -> Any:
        """The value, or `_INVALID`."""
        found = self.extract(text)
        try:
            return _INVALID if found is None else json.loads(found, parse_constant=_refuse, parse_int=_integer)
        except (ValueError, RecursionError):
            return _INVALID


class json_schema(json_valid):
    """1 where the text is JSON that fits the schema, `valid` where it is JSON but does not fit, else 0.

    Args:
        schema: a JSON schema as a mapping, or a path to a file with one. Its draft is read from `$schema` (default:
            the newest). References to other documents are not fetched.
        extract: as in `json_valid`.
        valid: partial credit, 0 to 1.
        name: the name in the logs.

    Raises:
        ValueError: no such file, not a valid schema, `valid` out of range, or jsonschema is not installed.
    """

    def __init__(
        self,
        schema: Mapping[str, Any] | bool | str,
        extract: Callable[[str], str | None] | None = None,
        *,
        valid: float = 0.0,
        name: str = "json_schema",
    ):
        super().__init__(extract, name=name)
        if not 0 <= valid <= 1:
            raise ValueError(f"valid={valid} must lie between 0 and 1.")
        self.valid, self.schema = float(valid), _schema(schema)
        self._validator = _validator(self.schema, name)

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "_validator"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._validator = _validator(self.schema, self.__name__)

    def score(self, text: str) -> float:
        value = self.parsed(text)
        if value is _INVALID:
            return 0.0
        try:
            return 1.0 if self._validator.is_valid(value) else self.valid
        except RecursionError:
            return self.valid

    def parts(self, text: str) -> dict[str, float | None]:
        return {"valid JSON": super().score(text), "fits the schema": float(self.score(text) == 1.0)}


_INVALID = object()


def _refuse(constant: str):
    raise ValueError(f"{constant} is not JSON")


def _integer(digits: str) -> int | float:
    # Python refuses to read more than 4,300 digits; JSON does not.
    return int(digits) if len(digits) < 4000 else float(digits)


def _schema(schema: Any) -> Any:
    if isinstance(schema, str):
        path = Path(schema)
        if not path.is_file():
            raise ValueError(f"There is no schema file {path.absolute()}.")
        try:
            return json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"Schema file {path} is not JSON: {error}") from None
    return json.loads(json.dumps(_plain(schema)))


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, (list, tuple)) else node


def _validator(schema: Any, name: str) -> Any:
    try:
        import jsonschema.validators
        import referencing
    except ImportError:
        raise ValueError(f"Reward {name!r} needs the package jsonschema: pip install jsonschema") from None
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"The schema of reward {name!r} is no JSON schema: {error.message}") from None
    return kind(schema, registry=referencing.Registry())
