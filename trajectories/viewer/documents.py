"""JSON documents for a page: bounded in the length of their texts, and with nothing in them that JSON or a browser
does not know. What a program wrote into them may be anything."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

CLIP = 20_000
"""Characters of a text that come with a document; the rest is sent when it is asked for."""
LINE = 500
"""Characters of a text that is shown in one line."""
MOST_MEMBERS, DEEPEST = 1000, 40
"""Of a value that is shown member by member."""
_EXACT = 2**53
"""Beyond it a browser rounds whole numbers."""

Place: TypeAlias = Sequence[str | int]


def clipped(value: Any, place: Place = ()) -> Any:
    """The document with every long text cut: `{"clipped": the beginning, "chars": of all, "at": where it is}`. `place`
    is where the document itself is."""
    return _each(value, _clip, tuple(place))


def shortened(value: Any, most: int = LINE) -> Any:
    """The document with every long text cut for good."""
    return _each(
        value, lambda text, _: text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)", ()
    )


def loose(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a program wrote, for a person to read: members that are too wide or too deep, or could be taken for a text
    that was clipped, become their JSON text."""
    if len(value) > MOST_MEMBERS:
        return {"": _text_of(value)}
    return {name: inner if _is_small(inner) else _text_of(inner) for name, inner in value.items()}


def encoded(document: Any) -> str:
    """As JSON, in ASCII."""
    try:
        return json.dumps(document, allow_nan=False, default=str)
    except ValueError:  # a number that is none
        return json.dumps(_each(document, lambda text, _: text, ()), allow_nan=False, default=str)


def text_at(document: Any, place: Sequence[str]) -> str:
    """The whole of a text that was clipped. Raises KeyError: there is none."""
    found = document
    for name in place:
        try:
            found = found[int(name)] if isinstance(found, list) else found[_read(name)]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError("there is no such text") from None
    if not isinstance(found, str):
        raise KeyError("there is no such text")
    return found


def texts(value: Any) -> Iterator[str]:
    """All texts in a document, in no order, but for its names of members."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case Mapping() as members:
                waiting.extend(members.values())
            case list() | tuple() as items:
                waiting.extend(items)


def is_number(value: Any) -> bool:
    """Can it be added and drawn?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --- inside ---


def _each(value: Any, text: Callable[[str, tuple[str | int, ...]], Any], place: tuple[str | int, ...]) -> Any:
    if isinstance(value, str):
        return text(value, place)
    if isinstance(value, Mapping):
        return {name: _each(inner, text, (*place, name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_each(inner, text, (*place, index)) for index, inner in enumerate(value)]
    if isinstance(value, int) and abs(value) > _EXACT:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def _clip(text: str, place: Place) -> Any:
    if len(text) <= CLIP:
        return text
    return {"clipped": text[:CLIP], "chars": len(text), "at": "/".join(map(_written, place))}


def _written(name: str | int) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def _read(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")


def _is_small(value: Any) -> bool:
    waiting, members = [(value, 0)], 0
    while waiting:
        found, depth = waiting.pop()
        inner = found.values() if isinstance(found, Mapping) else found if isinstance(found, list | tuple) else ()
        members += len(inner)
        if members > MOST_MEMBERS or depth > DEEPEST or (isinstance(found, Mapping) and "clipped" in found):
            return False
        waiting.extend((each, depth + 1) for each in inner)
    return True


def _text_of(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
