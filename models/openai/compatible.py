"""`openai-compatible/*`: any server that speaks OpenAI's Chat Completions, such as vLLM, Ollama or a gateway."""

from __future__ import annotations

from typing import Any

from trellis.models.client import Endpoint
from trellis.models.keys import Key
from trellis.models.openai.chat import Chat
from trellis.models.openai.chat_model import ChatModel, ChatOptions
from trellis.models.options import parse_options

PROVIDER = "openai-compatible"


class CompatibleOptions(ChatOptions):
    """Options of `openai-compatible/*`; `base_url` is required."""

    base_url: str
    """Where the server listens, for example http://localhost:8000/v1."""


class OpenAICompatible(ChatModel):
    """A model behind a server that speaks Chat Completions. Its cost is unknown but with `-M prices=FILE`:
    these servers have no price list.

    Close it after use: `await model.close()`.
    """

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is the server's name for it; for `options` see `CompatibleOptions`. A key is sent only if
        `api_key_env` names one.

        Raises:
            ValueError: an unknown, missing or impossible option.
            ModelRequestError: the variable that `api_key_env` names is not set.
        """
        name = f"{PROVIDER}/{model}"
        parsed = parse_options(CompatibleOptions, options, name)
        key = Key.read(name, parsed.api_key_env) if parsed.api_key_env else Key("api_key_env", "")
        form = Chat(name, PROVIDER, max_tokens_field=parsed.max_tokens_field, replay_reasoning=parsed.replay_reasoning)
        super().__init__(name, model, parsed, Endpoint(name, "openai", "AsyncOpenAI", key, parsed), form)
