"""Options from a command line (`key=value`) or an experiment file, checked against what takes them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trellis.models.options import construct, message
from trellis.models.options import parse_options as checked
from trellis.runs.errors import UsageError


def parse_options(pairs: Iterable[str], flag: str) -> dict[str, Any]:
    """`["parallel=4", "prompt=short"]` as a mapping. A value is a TOML or JSON literal, otherwise a string.

    Raises:
        UsageError: a pair without `=` or without a key.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{flag} {pair}: expected {flag} key=value")
        options[key.strip()] = _literal(value.strip())
    return options


def _literal(text: str) -> Any:
    import json

    if "\n" in text or (text[:1] not in "\"'" and "#" in text):  # TOML would read on, or take it for a comment
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        try:
            value = json.loads(text) if text[:1] in "[{" else text
        except ValueError:
            return text
    return value if isinstance(value, str | int | float | bool | list | dict) else text  # a date stays as written


def build(factory: Callable[..., Any], options: Mapping[str, Any], what: str) -> Any:
    """Call `factory(**options)` after checking names and types; `what` ("scaffold tree") begins every message.

    Raises:
        UsageError: an unknown option, a missing one or a wrong value, naming the known options.
    """
    from pydantic import BaseModel, ValidationError

    try:
        if isinstance(factory, type) and issubclass(factory, BaseModel):
            return checked(factory, options, what)
        return construct(factory, options, what)
    except ValidationError as error:
        raise UsageError(f"{what}: {problems(error)}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def problems(error: Any) -> str:
    """A pydantic ValidationError as one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'value'}: {_lower(message(e))}" for e in error.errors())


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
