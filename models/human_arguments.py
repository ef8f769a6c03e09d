"""What somebody types as the argument of a tool: made a value by the tool's JSON Schema, and checked by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
_WORDS = {"yes": True, "true": True, "no": False, "false": False}


def value_of(text: str, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """The value that `text` stands for, and what is wrong with it, if anything is.

    Text is taken as it is where a text is wanted; yes and no where a truth is; anything else as JSON.
    """
    problems = []
    for choice in _choices(schema):
        value, problem = _read(text, str(choice.get("type", "")))
        problem = problem or problem_of(value, choice)
        if not problem:
            return value, ""
        problems.append(problem)
    return None, "; or ".join(dict.fromkeys(problems))


def problem_of(value: Any, schema: Mapping[str, Any], where: str = "this") -> str:
    """What is wrong with a value by what the schema says of types, members, choices and bounds; empty if nothing is.
    The tool itself checks the rest."""
    choices = _choices(schema)
    if choices != [schema]:
        found = [problem_of(value, choice, where) for choice in choices]
        return "" if "" in found else "; or ".join(dict.fromkeys(found))
    kind = schema.get("type")
    if kind in _KINDS and not _is(value, str(kind)):
        return f"{where} must be {_article(str(kind))}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} must be one of: {', '.join(map(str, schema['enum']))}"
    if isinstance(value, dict):
        return _problem_of_members(value, schema, where)
    if isinstance(value, list):
        items = schema.get("items", {})
        return next(filter(None, (problem_of(v, items, f"item {n} of {where}") for n, v in enumerate(value, 1))), "")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            return f"{where} must be {schema['minimum']} or more"
        if value > schema.get("maximum", value):
            return f"{where} must be {schema['maximum']} or less"
    return ""


def _problem_of_members(value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> str:
    properties = schema.get("properties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        return f"{where} lacks {', '.join(missing)}"
    if schema.get("additionalProperties") is False and (unknown := sorted(value.keys() - properties.keys())):
        return f"{where} has no {', '.join(unknown)}; it has: {', '.join(properties) or 'nothing'}"
    problems = (problem_of(value[name], properties[name], name) for name in value if name in properties)
    return next(filter(None, problems), "")


def _choices(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The schemas of which one must hold."""
    several = schema.get("anyOf") or schema.get("oneOf")
    if several:
        return [choice for choice in several if choice.get("type") != "null"] + [{"type": "null"}][
            : any(choice.get("type") == "null" for choice in several)
        ]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def _read(text: str, kind: str) -> tuple[Any, str]:
    if kind == "string":
        return text, ""
    if kind == "boolean" and text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()], ""
    try:
        return json.loads(text), ""
    except ValueError:
        return (None, f"this must be {_article(kind)}") if kind in _KINDS else (text, "")


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind])


def _article(kind: str) -> str:
    names = {"integer": "a whole number", "boolean": "yes or no", "object": "a JSON object", "array": "a JSON list",
             "string": "a text", "null": "null"}  # fmt: skip
    return names.get(kind, f"a {kind}")
