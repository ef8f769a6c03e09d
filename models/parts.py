"""What the formats of all providers do with parts of messages, and what none of them can."""

from __future__ import annotations

import base64
import json
from typing import Any

from trellis.models.messages import Media, Part
from trellis.models.model import GenerateConfig, ModelRequestError


def raw_item(part: Part, provider: str) -> Any:
    """The provider's own item kept beside a part, or None if the part came from somewhere else."""
    raw = getattr(part, "raw", None)
    return raw["item"] if raw and raw.get("provider") == provider else None


def parse_arguments(written: Any) -> tuple[dict[str, Any], str]:
    """A tool call's arguments as a provider wrote them, and, if they are no JSON object, the text that was written."""
    if isinstance(written, dict):
        return written, ""
    text = str(written or "")
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}, text
    return (value, "") if isinstance(value, dict) else ({}, text)


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
