"""`azure/*`: OpenAI's models as deployed at Azure, through the SDK's class for it."""

from __future__ import annotations

from typing import Any, Literal

from trellis.models.client import ClientOptions, Endpoint
from trellis.models.keys import Key
from trellis.models.model import Model
from trellis.models.openai.chat import Chat
from trellis.models.openai.chat_model import ChatModel, ChatOptions
from trellis.models.openai.family import instructing_role, reasons
from trellis.models.openai.responses import ResponsesModel, ResponsesOptions
from trellis.models.options import parse_options

PROVIDER = "azure"


class _AzureOptions(ClientOptions):
    base_url: str
    """The address of the resource, for example https://my-resource.openai.azure.com."""
    api_version: str
    """Version of Azure's interface, for example 2025-04-01-preview."""
    api: Literal["responses", "chat"] = "responses"
    """Which of OpenAI's interfaces to use: Responses, or Chat Completions."""
    deployed: str | None = None
    """Which model was deployed ("gpt-5-mini"); the deployment is taken to be named like its model by default."""


class AzureResponsesOptions(_AzureOptions, ResponsesOptions):
    """Options of `azure/*`."""


class AzureChatOptions(_AzureOptions, ChatOptions):
    """Options of `azure/*` with `-M api=chat`."""


def azure(deployment: str, **options: Any) -> Model:
    """The model behind a deployment; for `options` see `AzureResponsesOptions` and `AzureChatOptions`. Its cost is
    unknown: a deployment's name says nothing about its prices.

    Raises:
        ValueError: an unknown, missing or impossible option.
        ModelRequestError: there is no key.
    """
    name = f"{PROVIDER}/{deployment}"
    if options.get("api") == "chat":
        chat = parse_options(AzureChatOptions, options, name)
        known_as = chat.deployed or deployment
        limit = "max_completion_tokens" if reasons(known_as) else chat.max_tokens_field
        form = Chat(name, PROVIDER, instructing_role(known_as), limit, chat.replay_reasoning, known_as)
        return ChatModel(name, deployment, chat, _endpoint(name, chat), form)
    responses = parse_options(AzureResponsesOptions, options, name)
    return ResponsesModel(name, deployment, responses.deployed or deployment, responses, _endpoint(name, responses))


def _endpoint(name: str, options: _AzureOptions) -> Endpoint:
    key = Key.read(name, options.api_key_env or "AZURE_OPENAI_API_KEY")
    address = {"base_url": None, "azure_endpoint": options.base_url, "api_version": options.api_version}
    return Endpoint(name, "openai", "AsyncAzureOpenAI", key, options, arguments={"api_key": key.value, **address})
