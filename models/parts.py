"""What the formats of all providers do with parts of messages, and what none of them can."""

from __future__ import annotations

import base64
import json
from typing import Any

from trellis.models.messages import Media, Part
from trellis.models.model import GenerateConfig, ModelRequestError

MAX_NESTING = 100
"""Of a tool call's arguments, in levels. Python reads and writes some hundreds, fewer the more it has under way."""


def raw_item(part: Part, provider: str) -> Any:
    """The provider's own item kept beside a part, or None if the part came from somewhere else."""
    raw = getattr(part, "raw", None)
    return raw["item"] if raw and raw.get("provider") == provider else None


def parse_arguments(written: Any) -> tuple[dict[str, Any], str]:
    """A tool call's arguments as a provider wrote them, and, if they are no JSON object, the text that was written.
    What is nested too deeply for whoever reads it later is none."""
    if isinstance(written, dict):
        too_deep = nested_deeper(written, MAX_NESTING)
        return ({}, f"nested more than {MAX_NESTING} levels deep") if too_deep else (written, "")
    text = str(written or "")
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}, text
    return (value, "") if isinstance(value, dict) and not nested_deeper(value, MAX_NESTING) else ({}, text)


def nested_deeper(value: Any, limit: int) -> bool:
    """Is a JSON value nested more than so many levels deep?"""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def without_voice(model: str, config: GenerateConfig) -> None:
    """For clients of models that do not speak.

    Raises:
        ModelRequestError: speech is asked for.
    """
    if config.voice is not None:
        raise ModelRequestError(f"{model}: this model does not speak; leave out the voice")


def data_url(medium: Media) -> str:
    """A medium as a URL that contains it."""
    return f"data:{medium.media_type};base64,{base64.b64encode(medium.data).decode()}"


def unsupported(model: str, part: Part) -> ModelRequestError:
    """The error for a part that this client cannot send."""
    return ModelRequestError(f"{model}: this client cannot send a part of type {type(part).__name__} here")
