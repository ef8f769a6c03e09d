"""Media and schemas as both formats of OpenAI take them."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping
from typing import Any

from trellis.models.messages import Audio, Document
from trellis.models.parts import data_url

_AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
"""The formats that `input_audio` takes, in both interfaces."""


def input_audio(audio: Audio) -> dict[str, Any] | None:
    """A sound as content of a message; None if its format is not taken."""
    if (kind := _AUDIO_FORMATS.get(audio.media_type)) is None:
        return None
    data = base64.b64encode(audio.data).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


def file(document: Document) -> dict[str, str]:
    """A document as a file with a name, which says what it is."""
    suffix = mimetypes.guess_extension(document.media_type) or ""
    return {"filename": f"document{suffix}", "file_data": data_url(document)}


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as OpenAI takes it; strict (guaranteed) where the schema is within the subset that allows it."""
    return {"name": "reply", "schema": dict(schema), "strict": _allows_strict(schema)}


def _allows_strict(schema: Any) -> bool:
    """Strict mode wants every object closed and all its properties required (OpenAI, "Structured Outputs")."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "object":
            properties = schema.get("properties", {})
            if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
                return False
        return all(_allows_strict(value) for value in schema.values())
    return all(map(_allows_strict, schema)) if isinstance(schema, list) else True
