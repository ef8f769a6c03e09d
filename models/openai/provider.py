"""`openai/*`: the client for a model of OpenAI, by the interface that the model is behind."""

from __future__ import annotations

from typing import Any

from trellis.models.model import Model
from trellis.models.openai.audio import OpenAIAudio
from trellis.models.openai.family import speaks
from trellis.models.openai.responses import OpenAI


def openai(model: str, **options: Any) -> Model:
    """Models that hear and speak answer over Chat Completions, all others over Responses. Raises as their classes."""
    return OpenAIAudio(model, **options) if speaks(model) else OpenAI(model, **options)
