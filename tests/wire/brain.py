"""The mind behind the loopback servers: obeys the plain prompts of `trellis.models.conformance`, and nothing else."""

from __future__ import annotations

import io
import json
import re
import struct
import wave
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ask:
    """A request, as far as the mind is concerned."""

    text: str = ""
    """Of the user's last turn."""
    images: list[bytes] = field(default_factory=list)
    documents: list[bytes] = field(default_factory=list)
    sounds: list[bytes] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    """What tools returned since the user's last turn."""
    tools: Sequence[str] = ()
    tool_choice: str | None = None
    schema: dict[str, Any] | None = None
    max_tokens: int | None = None

    def turn(self, text: str) -> None:
        """The user speaks: what came before is history."""
        self.text, self.images, self.results = text, [], []
        self.documents, self.sounds = [], []


@dataclass
class Thought:
    text: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuses: bool = False
    cut_off: bool = False


def think(ask: Ask) -> Thought:
    if "REFUSE THIS" in ask.text:
        return Thought("I will not help with that.", refuses=True)
    if ask.schema is not None:
        return Thought(json.dumps({name: _value(kind) for name, kind in ask.schema["properties"].items()}))
    if ask.tool_choice not in (None, "auto", "none"):
        return Thought(calls=[(ask.tools[0] if ask.tool_choice == "required" else str(ask.tool_choice), {"key": "x"})])
    wanted = re.search(r"[Cc]all the tool `(\w+)`", ask.text)
    if wanted and not ask.results and ask.tool_choice != "none":
        keys = re.findall(r'"(\w+)"', ask.text)
        return Thought(calls=[(wanted[1], {"key": key}) for key in keys] or [(wanted[1], {})])
    if "colour" in ask.text:
        return Thought(_colour(ask.images[-1]) if ask.images else "I see no picture.")
    if "document" in ask.text:
        return Thought(_secret(ask.documents[-1]) if ask.documents else "I see no document.")
    if "silence" in ask.text:
        return Thought(_sound(ask.sounds[-1]) if ask.sounds else "I hear nothing.")
    if ask.results:
        return Thought(" ".join(ask.results))
    if counted := re.search(r"Count from 1 to (\d+)", ask.text):
        words = [str(n + 1) for n in range(int(counted[1]))]
        limit = ask.max_tokens or len(words)
        return Thought(" ".join(words[:limit]), cut_off=limit < len(words))
    if one := re.search(r"one word: (\w+)", ask.text):
        return Thought(one[1])
    return Thought("I do not understand.")


def _value(kind: dict[str, Any]) -> Any:
    return {"string": "Ghent", "integer": 270_000}[kind["type"]]


def _secret(document: bytes) -> str:
    """What is shown on the first page of a PDF that is not compressed, or says a text."""
    shown = re.search(rb"\((.*?)\) Tj", document) if document.startswith(b"%PDF-") else None
    return (shown[1] if shown else document).decode()


def _sound(file: bytes) -> str:
    with wave.open(io.BytesIO(file)) as sound:
        return "tone" if any(sound.readframes(sound.getnframes())) else "silence"


def _colour(png: bytes) -> str:
    """The colour of the first pixel of an 8-bit RGB image."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n"), "the image arrived damaged"
    at = 8
    while True:
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            pixel = zlib.decompress(png[at + 8 : at + 8 + size])[1:4]
            return {b"\xff\0\0": "red", b"\0\0\xff": "blue"}.get(pixel, "unknown")
        at += size + 12
