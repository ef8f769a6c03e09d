"""What the tests say to models, and how they look at what was sent."""

from __future__ import annotations

import json
from dataclasses import replace

from trellis.models.conformance import LOOKUP
from trellis.models.messages import (
    Message,
    Text,
    ToolResult,
    message_from_json,
    message_to_json,
    user,
)
from trellis.models.model import (
    Model,
)

from .conftest import Wire
from .loopback import JSON, Request

PING = user("Answer with the one word: pong")
ASK = user('Call the tool `lookup` with the key "alpha", then answer with the word that it returned.')
ASK_THREE = user('Call the tool `lookup` with the keys "a", "b" and "c", then answer with the words.')
NEW = "anthropic/claude-opus-5-5"


def through_json(message: Message) -> Message:
    """As the trajectory keeps it."""
    return message_from_json(json.loads(json.dumps(message_to_json(message))))


async def turn(model: Model, messages: list[Message], *said: Message) -> list[Message]:
    """The conversation after a reply and, where it calls tools, their results."""
    messages = [*messages, *said]
    reply = await model.generate(messages, tools=[LOOKUP])
    results = [ToolResult(call.id, call.name, (Text(f"word {call.id}"),)).message for call in reply.tool_calls]
    return [*messages, through_json(reply.message), *results]


def sent(wire: Wire, number: int = -1) -> JSON:
    return wire.loopback.requests[number].body


def refused(wire: Wire, body: JSON, **headers: str) -> str:
    """What the server says to a body that is wrong."""
    request: Request = wire.loopback.requests[-1]
    response = wire.server.handle(replace(request, body=body, headers={**request.headers, **headers}))
    assert response.status >= 400, "the server took it"
    return str(response.body["error"]["message"])
