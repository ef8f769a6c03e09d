"""TOML for experiments: a writer (the standard library only reads), and the line in a file that a setting stands on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def dumps(table: Mapping[str, Any]) -> str:
    """A table as TOML: plain values first, then tables and arrays of tables, in the order given.

    What is None is left out, for TOML has no such value.
    """
    return "\n".join(_lines(table, ())).strip() + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if v is not None and not _is_table(v)]
    for key, value in table.items():
        name = ".".join(map(_key, (*path, key)))
        if isinstance(value, Mapping) and value:
            lines += ["", f"[{name}]", *_lines(value, (*path, key))]
        elif _is_table(value) and not isinstance(value, Mapping):
            for item in value:
                lines += ["", f"[[{name}]]", *_lines(item, (*path, key))]
    return lines


def _is_table(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
        case Sequence():
            return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line of a setting such as ("agents", 1, "scaffold"), or of the table nearest to it; None without either."""
    best: int | None = None
    table: tuple[str | int, ...] = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\"'-]+)\s*\]", line):
            name = header[2].replace('"', "").replace("'", "")
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
            table = _indexed(name, counts)
            shared = min(len(table), len(path))
            if shared and tuple(path[:shared]) == table[:shared] and (best is None or shared == len(table)):
                best = number
        elif (
            (setting := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line))
            and tuple(path[: len(table) + 1]) == (*table, setting[1])
        ):  # fmt: skip
            return number
    return best


def _indexed(name: str, counts: Mapping[str, int]) -> tuple[str | int, ...]:
    """`agents.options` under the second `[[agents]]` as ("agents", 1, "options")."""
    out: list[str | int] = []
    parts = name.split(".")
    for depth, part in enumerate(parts, 1):
        out.append(part)
        if (index := counts.get(".".join(parts[:depth]))) is not None:
            out.append(index)
    return tuple(out)
