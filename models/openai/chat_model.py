"""A model behind Chat Completions, whoever serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from trellis.models.carry import dropped
from trellis.models.client import Answer, ClientOptions, Endpoint
from trellis.models.connected import Connected
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, ModelRequestError, Reply, ToolSpec
from trellis.models.openai import chat
from trellis.models.openai.items import tier
from trellis.models.openai.streams import ChatAssembler
from trellis.models.parts import without_voice
from trellis.models.tokens import estimate_usage


class ChatOptions(ClientOptions):
    """Options of all clients of Chat Completions."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the limit of a reply; reasoning models of OpenAI know the second name only."""
    replay_reasoning: bool = True
    """Send reasoning back in the field in which it came; some servers want it, some reject it."""


class ChatModel(Connected):
    """A model that is reached through Chat Completions. Close it after use: `await model.close()`."""

    _options: ChatOptions
    _speaks = False

    def __init__(self, name: str, wire: str, options: ChatOptions, endpoint: Endpoint, form: chat.Chat) -> None:
        """`wire` is the model's name in requests."""
        super().__init__(name, wire, options, endpoint)
        self._form = form
        self._reports_usage = True
        """Does the server know how to report usage in a stream? It is not asked again once it has rejected that."""

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """See `Model.generate`."""
        request = self._request(messages, tools, self._options.complete(config))
        try:
            answer = await self._send(request)
        except ModelRequestError as error:
            if "stream_options" not in request or "stream_options" not in str(error):
                raise
            self._reports_usage = False
            answer = await self._send({name: value for name, value in request.items() if name != "stream_options"})
        return replace(self._reply(answer, messages, tools), dropped=dropped(messages, self._form.provider))

    async def _send(self, request: Mapping[str, Any]) -> Answer:
        return await self._endpoint.send(
            lambda client: client.chat.completions.with_streaming_response.create(**request), ChatAssembler, chat.check
        )

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig
    ) -> dict[str, Any]:
        if not self._speaks:
            without_voice(self.name, config)
        request = self._form.request(self._model, messages, tools, config)
        if self._options.stream:
            request["stream"] = True
            if self._reports_usage:
                request["stream_options"] = {"include_usage": True}
        return request

    def _reply(self, answer: Answer, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Reply:
        if answer.declined:
            return answer.refusal()
        choice = answer.body["choices"][0]
        message = Message("assistant", tuple(self._form.parts(choice["message"], turn=len(messages))))
        reported, served = chat.usage_of(answer.body.get("usage")), tier(answer.body)
        usage = reported or estimate_usage(messages, message, tools)
        # There is no bill for an estimate.
        cost = self._options.price_list.cost_usd(self.name, usage, served) if reported else None
        return answer.reply(message, chat.stop_reason(choice, message), usage, cost, served)
