"""What OpenAI's models that speak do besides: sounds in and out of Chat Completions."""

from __future__ import annotations

import base64
import io
import time
import wave
from dataclasses import dataclass, field

from .loopback import JSON
from .openai_content import Rejected, digest, pieces

_VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
SAMPLES = b"".join((n * 97 % 4001).to_bytes(2, "little") for n in range(50))
"""What it sounds like: 16-bit samples."""


@dataclass
class Voices:
    life_s: float = 3600.0
    """How long a sound is kept."""
    kept: dict[str, float] = field(default_factory=dict)
    """When each sound goes."""

    def check(self, body: JSON, *, heard: bool) -> None:
        speaks = "audio" in body.get("modalities", ["text"])
        if speaks != ("audio" in body):
            raise Rejected("Invalid value: 'audio' goes with the modality of that name.")
        if not speaks and not heard:
            raise Rejected("This model requires that either input content or output modality contain audio.")
        if "reasoning_effort" in body or "response_format" in body:
            raise Rejected("Unsupported parameter for this model.")
        if speaks:
            if body["audio"]["voice"] not in _VOICES:
                raise Rejected(f"Invalid value: '{body['audio']['voice']}'. Supported values are: {_VOICES}.")
            kind = body["audio"]["format"]
            if body.get("stream") and kind != "pcm16":
                raise Rejected(
                    f"Unsupported value: 'audio.format' does not support '{kind}' when stream=true. "
                    "Supported values are: 'pcm16'."
                )

    def recall(self, audio: JSON) -> None:
        if audio.keys() != {"id"}:
            raise Rejected(f"Unknown parameter: {sorted(audio)}.")
        if self.kept.get(audio["id"], 0.0) < time.time():
            raise Rejected(f"Audio with id {audio['id']} was not found; it has expired.")

    def speak(self, body: JSON, message: JSON) -> JSON:
        """Say a message's words; the usage of that by class."""
        details: JSON = {"prompt_tokens_details": {"audio_tokens": 7, "cached_tokens": 0}}
        words = message["content"]
        if not words or "audio" not in body:
            return details | {"completion_tokens_details": {"audio_tokens": 0, "reasoning_tokens": 0}}
        name = f"audio_{digest(body)[:12]}"
        self.kept[name] = time.time() + self.life_s
        data = SAMPLES if body["audio"]["format"] == "pcm16" else _wav(SAMPLES)
        audio = {"id": name, "data": base64.b64encode(data).decode(), "transcript": words}
        message |= {"content": None, "audio": {**audio, "expires_at": int(self.kept[name])}}
        return details | {"completion_tokens_details": {"audio_tokens": 5, "reasoning_tokens": 0}}

    def deltas(self, audio: JSON) -> list[JSON]:
        """A sound as it is streamed: each piece is base64 of its own."""
        data = base64.b64decode(audio["data"])
        parts = [base64.b64encode(data[at : at + 22]).decode() for at in range(0, len(data), 22)]
        said = [{"audio": {"transcript": piece}} for piece in pieces(audio["transcript"])]
        return [{"audio": {"id": audio["id"], "transcript": ""}}, *said, *({"audio": {"data": part}} for part in parts)]


def _wav(samples: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(24_000)
        out.writeframes(samples)
    return file.getvalue()
