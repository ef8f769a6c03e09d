"""`openai/gpt-audio*` and `openai/gpt-4o-audio-*`: models that hear and speak, over Chat Completions.

Speech is streamed as raw samples, so that a stall is noticed, and handed on as WAV. In later turns a reply's sound is
referred to as long as the server has it; then its words stand for it.
"""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from trellis.models.client import Answer, Endpoint
from trellis.models.keys import Key
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.models.openai.chat import Chat
from trellis.models.openai.chat_model import ChatModel, ChatOptions
from trellis.models.options import parse_options

PROVIDER = "openai"
_SAMPLES_PER_S = 24_000
"""`pcm16` is "16-bit PCM at a 24 kHz sample rate, 1 channel, little-endian" (OpenAI's reference, Realtime)."""
_MEDIA_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "opus": "audio/ogg", "aac": "audio/aac"}


class AudioOptions(ChatOptions):
    """Options of OpenAI's models that hear and speak."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_completion_tokens"
    """What the server calls the limit of a reply."""
    voice: str | None = None
    """Answer in speech with this voice ("alloy", "marin", ...), for calls that do not say. These models take no call
    without any sound: either something to hear is sent, or speech is asked for."""
    audio_format: Literal["wav", "mp3", "flac", "opus", "aac"] = "wav"
    """How speech comes back. All but wav switch streaming off for the call: OpenAI streams raw samples alone. Only wav
    and mp3 can be heard by the models."""

    def complete(self, config: GenerateConfig) -> GenerateConfig:
        return replace(super().complete(config), voice=config.voice or self.voice)


class OpenAIAudio(ChatModel):
    """A model of OpenAI that hears and speaks. Close it after use: `await model.close()`."""

    _speaks = True

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is OpenAI's name for it; for `options` see `AudioOptions`.

        Raises:
            ValueError: an unknown or impossible option.
            ModelRequestError: there is no key.
        """
        name = f"{PROVIDER}/{model}"
        parsed = parse_options(AudioOptions, options, name)
        key = Key.read(name, parsed.api_key_env or "OPENAI_API_KEY")
        # Its items are of another kind than those of the Responses API: neither takes the other's.
        form = Chat(name, "openai-audio", max_tokens_field=parsed.max_tokens_field, known_as=model)
        super().__init__(name, model, parsed, Endpoint(name, "openai", "AsyncOpenAI", key, parsed), form)
        self._audio = parsed

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig
    ) -> dict[str, Any]:
        request = super()._request(messages, tools, config)
        request |= {"modalities": ["text"], "store": False}
        if config.voice:
            streamed = self._options.stream and self._audio.audio_format == "wav"
            request["modalities"] = ["text", "audio"]
            request["audio"] = {"voice": config.voice, "format": "pcm16" if streamed else self._audio.audio_format}
            if not streamed:
                request.pop("stream", None)
                request.pop("stream_options", None)
        return request

    def _reply(self, answer: Answer, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Reply:
        if choices := answer.body.get("choices"):
            message = choices[0]["message"]
            if (audio := message.get("audio")) and audio.get("data"):
                message["audio"] = self._playable(audio)
        return super()._reply(answer, messages, tools)

    def _playable(self, audio: Mapping[str, Any]) -> dict[str, Any]:
        """Speech with its media type; raw samples become a file."""
        kind = self._audio.audio_format
        if kind != "wav":
            return {**audio, "media_type": _MEDIA_TYPES[kind]}
        data = base64.b64decode(audio["data"])
        if not data.startswith(b"RIFF"):
            file = io.BytesIO()
            with wave.open(file, "wb") as out:
                out.setnchannels(1)
                out.setsampwidth(2)
                out.setframerate(_SAMPLES_PER_S)
                out.writeframes(data)
            audio = {**audio, "data": base64.b64encode(file.getvalue()).decode()}
        return {**audio, "media_type": "audio/wav"}
