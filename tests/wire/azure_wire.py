"""OpenAI's interfaces at Azure: another way to say the key, other addresses, and filters with errors of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from .chat_wire import ChatServer
from .loopback import Request, Response
from .openai_content import KEY
from .openai_wire import ResponsesServer

API_VERSION = "2025-04-01-preview"


@dataclass
class AzureServer:
    """`POST /openai/responses` and `/openai/deployments/NAME/chat/completions`."""

    responses: ResponsesServer = field(default_factory=ResponsesServer)
    chat: ChatServer = field(default_factory=lambda: ChatServer(keyed=True))

    def handle(self, request: Request) -> Response:
        if request.query.get("api-version") != [API_VERSION]:
            return _error(404, "404", "Resource not found")
        if request.headers.get("api-key") != KEY:
            return _error(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
        inner = replace(request, headers={**request.headers, "authorization": f"Bearer {KEY}"})
        if found := re.fullmatch(r"/openai/deployments/([\w.-]+)/chat/completions", request.path):
            if found[1] != request.body["model"]:
                return _error(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
            return self.chat.handle(replace(inner, path="/chat/completions"))
        if request.path.startswith("/openai/responses"):
            return self.responses.handle(replace(inner, path=request.path.removeprefix("/openai")))
        return _error(404, "404", "Resource not found")


def _error(status: int, code: str, message: str) -> Response:
    return Response({"error": {"code": code, "message": message}}, status)
