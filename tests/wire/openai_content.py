"""What OpenAI accepts in a request whichever interface it goes to: content, tools, schemas, and their limits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from .brain import Ask
from .loopback import JSON, Request, Response

KEY = "sk-test-0123456789abcdef"
LARGEST_IMAGE, MOST_IMAGES, MOST_IMAGE_BYTES = 20 << 20, 500, 50 << 20
"""Of an image, and of a request ("Images and vision", OpenAI's documentation)."""
MOST_FILE_BYTES = 50 << 20
"""Of a request ("File inputs", OpenAI's documentation)."""
_EFFORTS = {"gpt-5-mini": "minimal low medium high", "gpt-5.1": "none low medium high", "gpt-4.1": ""}


class Rejected(Exception):
    """The request is wrong."""

    def __init__(self, message: str, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.response = Response(
            {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}, status
        )


def known(value: Any, typed_dict: Any, where: str) -> None:
    """Reject members that the SDK's own type does not have."""
    if unknown := set(value) - typed_dict.__required_keys__ - typed_dict.__optional_keys__:
        raise Rejected(f"Unknown parameter: '{where}.{sorted(unknown)[0]}'.", code="unknown_parameter")


def check_key(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        raise Rejected(f"Incorrect API key provided: {said}.", 401, "invalid_api_key")


def check_effort(model: str, effort: str | None) -> None:
    supported = _EFFORTS.get(model)
    if effort is not None and supported is not None and effort not in supported.split():
        raise Rejected(
            f"Unsupported value: '{effort}' is not supported with the '{model}' model.", code="unsupported_value"
        )


def check_tool(tool: JSON) -> str:
    """A function's name and schema."""
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["name"]):
        raise Rejected(
            "Invalid 'tools[0].name': string does not match pattern '^[a-zA-Z0-9_-]+$'.", code="invalid_value"
        )
    if tool["parameters"].get("type") != "object":
        raise Rejected(f"Invalid schema for function '{tool['name']}': schema must be of type 'object'.")
    return str(tool["name"])


def check_schema(form: JSON) -> JSON:
    """The schema of a structured output; a strict one is within the subset that can be guaranteed."""
    schema: JSON = form["schema"]
    if form.get("strict") and not _is_strict(schema):
        raise Rejected(
            f"Invalid schema for response_format '{form['name']}': 'additionalProperties' must be supplied and "
            "to be false, and all properties to be required."
        )
    return schema


def _is_strict(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        closed = schema.get("additionalProperties") is False
        if not closed or sorted(schema.get("required", ())) != sorted(schema.get("properties", {})):
            return False
    return all(map(_is_strict, schema.values()))


class Contents:
    """Collects what is said in one request, and minds its limits."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._image_bytes: list[int] = []
        self._file_bytes = 0

    def image(self, url: str) -> None:
        kind, data = _data_url(url)
        if kind not in ("image/png", "image/jpeg", "image/webp", "image/gif"):
            raise Rejected(f"Unsupported image media type: {kind}.", code="unsupported_image_media_type")
        if len(data) > LARGEST_IMAGE:
            raise Rejected("The image is too large.", code="image_too_large")
        self._image_bytes.append(len(data))
        if len(self._image_bytes) > MOST_IMAGES or sum(self._image_bytes) > MOST_IMAGE_BYTES:
            raise Rejected("Too many images, or too many bytes of images, in one request.", 413)
        self._ask.images.append(data)

    def file(self, file: JSON, *kinds: str) -> None:
        if not {"filename", "file_data"} <= file.keys():
            raise Rejected("Missing required parameter: 'file_data' with a 'filename'.")
        kind, data = _data_url(file["file_data"])
        if kinds and kind not in kinds:
            raise Rejected(f"Invalid file data: expected one of {kinds}, got {kind}.")
        if not re.search(r"\.\w+$", file["filename"]):
            raise Rejected(f"Invalid file name {file['filename']}: its extension says what it is.")
        self._file_bytes += len(data)
        if self._file_bytes > MOST_FILE_BYTES:
            raise Rejected("The files of the request are too large.", 413)
        self._ask.documents.append(data)

    def audio(self, audio: JSON) -> None:
        if audio.keys() != {"data", "format"} or audio["format"] not in ("wav", "mp3"):
            raise Rejected("Invalid 'input_audio.format': supported values are 'wav' and 'mp3'.")
        self._ask.sounds.append(base64.b64decode(audio["data"], validate=True))


def _data_url(url: str) -> tuple[str, bytes]:
    head, _, data = url.partition(";base64,")
    if not head.startswith("data:"):
        raise Rejected(f"Invalid URL: {url[:40]}")
    return head.removeprefix("data:"), base64.b64decode(data, validate=True)


def pieces(text: str, size: int = 5) -> list[str]:
    """A text in the deltas of a stream."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
