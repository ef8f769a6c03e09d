"""Foreign JSON, read within bounds and taken for no more than it shows itself to be."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from trellis.models.parts import nested_deeper
from trellis.trajectories.converters.converter import ConversionError

MAX_BYTES = 512 * 1024 * 1024
"""Of one JSON document: a file, or a member of an archive."""
MAX_DEPTH = 200
MAX_VALUES = 64_000_000
"""Of one document: each takes memory, however short it is written. An object or a list counts as four."""
_LATEST = 4_102_444_800.0
"""The year 2100: a later time is none."""


def parse(data: bytes, place: str) -> Any:
    """A JSON document. Numbers that are not finite become null.

    Raises:
        ConversionError: it is none, with the place; or it is nested too deeply.
    """
    if 4 * (data.count(b"{") + data.count(b"[")) + data.count(b",") > MAX_VALUES:
        raise ConversionError(
            f"{place}: more than {MAX_VALUES // 1_000_000} million values, which is more than is read"
        )
    try:
        value = json.loads(data, parse_constant=lambda _: None, parse_float=_float)
    except UnicodeDecodeError as error:
        raise ConversionError(f"{place}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ConversionError(
            f"{place}: not JSON: {error.msg} (line {error.lineno}, column {error.colno}, byte {error.pos})"
        ) from None
    except RecursionError:
        raise ConversionError(f"{place}: nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:  # a number of thousands of digits
        raise ConversionError(f"{place}: not JSON that can be read: {str(error).partition(';')[0]}") from None
    if nested_deeper(value, MAX_DEPTH):
        raise ConversionError(f"{place}: nested more than {MAX_DEPTH} levels deep")
    return value


def read_bounded(file: BinaryIO, place: str) -> bytes:
    """All that is left in `file`. Raises ConversionError: it is more than MAX_BYTES."""
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConversionError(f"{place}: larger than {MAX_BYTES // 1024 // 1024:,} MB, which is more than is read")
    return data


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


# --- what a value must be ---


def an_object(value: Any, place: str) -> dict[str, Any]:
    """Raises ConversionError: it is no JSON object."""
    if not isinstance(value, dict):
        raise ConversionError(f"{place} is {kind_of(value)}, not an object")
    return value


def a_list(value: Any, place: str) -> list[Any]:
    """Raises ConversionError: it is no JSON list."""
    if not isinstance(value, list):
        raise ConversionError(f"{place} is {kind_of(value)}, not a list")
    return value


def objects(value: Any, place: str) -> list[dict[str, Any]]:
    """A list of objects; nothing where there is null. Raises ConversionError."""
    if value is None:
        return []
    return [an_object(item, f"{place}[{number}]") for number, item in enumerate(a_list(value, place))]


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# --- what a value is, where nothing hangs on it ---


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """A text as it is, null as nothing, anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def word(value: Any, limit: int = 500) -> str:
    """A text or a number that names something; nothing where it is neither."""
    return str(value)[:limit] if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def integer(value: Any) -> int | None:
    """A whole number of any size."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count(value: Any) -> int:
    """A number of tokens or the like; 0 where there is none."""
    value = number(value)
    return int(value) if value is not None and 0 <= value < 2**53 else 0


def cost(value: Any) -> float | None:
    value = number(value)
    return value if value is not None and value >= 0 else None


def when(value: Any) -> float | None:
    """A time in seconds since 1970: of an ISO text (UTC where it names no zone), or of such a number."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    else:
        found = number(value)
        if found is None:
            return None
        seconds = found
    return seconds if 0 < seconds < _LATEST else None


def stamp(seconds: float) -> str:
    """The inverse of `when`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def without(item: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What else it holds, null and empty members left out."""
    return {name: value for name, value in item.items() if name not in names and value not in (None, "", [], {})}
