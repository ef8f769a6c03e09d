"""What somebody types becomes the argument that a schema wants, or one line says why not."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.models.human_arguments import problem_of, value_of

OPTIONAL = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
RANGE = {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("12", {"type": "string"}, "12"),
        ("12", {"type": "integer"}, 12),
        ("1.5", {"type": "number"}, 1.5),
        ("yes", {"type": "boolean"}, True),
        ("False", {"type": "boolean"}, False),
        ("7", OPTIONAL, 7),
        ("null", OPTIONAL, None),
        ("[1, -1]", RANGE, [1, -1]),
        ('{"a": 1}', {"type": "object", "required": ["a"]}, {"a": 1}),
        ("view", {"type": "string", "enum": ["view", "undo"]}, "view"),
        ("x", {"type": ["integer", "string"]}, "x"),
        ("anything", {}, "anything"),
    ],
)
def test_values(text: str, schema: dict[str, Any], value: Any) -> None:
    assert value_of(text, schema) == (value, "")


@pytest.mark.parametrize(
    ("text", "schema", "problem"),
    [
        ("1.5", {"type": "integer"}, "this must be a whole number"),
        ("true", {"type": "number"}, "this must be a number"),
        ("maybe", {"type": "boolean"}, "this must be yes or no"),
        ("x", OPTIONAL, "this must be a whole number; or this must be null"),
        ('[1, "a"]', RANGE, "item 2 of this must be a whole number"),
        ("0", {"type": "integer", "minimum": 1}, "this must be 1 or more"),
        ("9", {"type": "integer", "maximum": 8}, "this must be 8 or less"),
        ("list", {"type": "string", "enum": ["view", "undo"]}, "this must be one of: view, undo"),
        ("{}", {"type": "object", "required": ["a"]}, "this lacks a"),
        ("[]", {"type": "object"}, "this must be a JSON object"),
    ],
)
def test_problems(text: str, schema: dict[str, Any], problem: str) -> None:
    assert value_of(text, schema) == (None, problem)


def test_unknown_members() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    assert problem_of({"b": 1}, schema) == "this has no b; it has: a"
    assert problem_of({"a": 1}, schema) == "a must be a text"
    assert problem_of({"a": "x"}, schema) == ""
