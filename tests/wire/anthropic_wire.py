"""Anthropic's Messages format as a strict server speaks it."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import ToolParam
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

from .brain import Ask, Thought, think
from .loopback import JSON, Request, Response
from .openai_wire import digest

KEY = "sk-ant-test-0123456789abcdef"


class Rejected(Exception):
    """The request is wrong."""

    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.response = Response({"type": "error", "error": {"type": kind, "message": message}}, status)


def known(value: Any, typed_dict: Any, where: str) -> None:
    if unknown := set(value) - typed_dict.__required_keys__ - typed_dict.__optional_keys__:
        raise Rejected(f"{where}.{sorted(unknown)[0]}: Extra inputs are not permitted")


@dataclass
class MessagesServer:
    """`POST /v1/messages`, with thinking whose signature must come back as it went out."""

    signed: dict[str, str] = field(default_factory=dict)
    """Thinking by signature."""
    thought_before: set[str] = field(default_factory=set)
    """Ids of tool calls that thinking led to."""

    def handle(self, request: Request) -> Response:
        try:
            if request.headers.get("authorization") != f"Bearer {KEY}" or "anthropic-version" not in request.headers:
                raise Rejected(f"invalid key {request.headers.get('authorization')}", 401, "authentication_error")
            if request.path != "/v1/messages":
                raise Rejected("Not found", 404, "not_found_error")
            return Response(self._answer(request.body, think(self._ask(request.body))))
        except Rejected as rejected:
            return rejected.response

    def _ask(self, body: JSON) -> Ask:
        known(body, MessageCreateParamsNonStreaming, "body")
        if "max_tokens" not in body:
            raise Rejected("max_tokens: Field required")
        for tool in body.get("tools", ()):
            known(tool, ToolParam, "tools")
        ask = Ask(tools=[tool["name"] for tool in body.get("tools", ())], max_tokens=body["max_tokens"])
        choice = body.get("tool_choice", {"type": "auto"})
        names = {"auto": None, "any": "required", "none": "none", "tool": choice.get("name")}
        ask.tool_choice = names[choice["type"]]
        ask.schema = body.get("output_config", {}).get("format", {}).get("schema")
        for block in body.get("system", ()):
            self._text(block)
        self._read(body["messages"], ask)
        return ask

    def _read(self, messages: list[JSON], ask: Ask) -> None:
        open_calls: list[str] = []
        for number, message in enumerate(messages):
            if message["role"] != ("user", "assistant")[number % 2]:
                raise Rejected("messages: roles must alternate between user and assistant, beginning with user")
            blocks = message["content"]
            if not blocks:
                raise Rejected(f"messages.{number}: content must not be empty")
            if message["role"] == "assistant":
                open_calls = self._assistant(blocks)
            else:
                self._user(blocks, open_calls, ask)
                open_calls = []
        if open_calls:
            raise Rejected("tool_use ids were found without tool_result blocks immediately after")

    def _assistant(self, blocks: list[JSON]) -> list[str]:
        for block in blocks:
            match block["type"]:
                case "text":
                    self._text(block)
                case "thinking":
                    if self.signed.get(block["signature"]) != block["thinking"]:
                        raise Rejected("Invalid `signature` in `thinking` block")
                case "redacted_thinking":
                    if block["data"] != "opaque":
                        raise Rejected("Invalid `data` in `redacted_thinking` block")
                case "tool_use":
                    if not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
                        raise Rejected("tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
                    if not isinstance(block["input"], dict):
                        raise Rejected("tool_use.input: Input should be a valid dictionary")
                case other:
                    raise Rejected(f"Input tag '{other}' is not expected in an assistant message")
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if self.thought_before & set(calls) and blocks[0]["type"] not in ("thinking", "redacted_thinking"):
            raise Rejected("Expected `thinking` or `redacted_thinking`, but found `tool_use`")
        return calls

    def _user(self, blocks: list[JSON], open_calls: list[str], ask: Ask) -> None:
        results = [block for block in blocks if block["type"] == "tool_result"]
        if blocks[: len(results)] != results or sorted(r["tool_use_id"] for r in results) != sorted(open_calls):
            raise Rejected("every tool_use must have its tool_result at the beginning of the next message")
        for result in results:
            texts, images = self._contents(result["content"])
            ask.results.append("\n".join(texts))
            ask.images.extend(images)
        if rest := blocks[len(results) :]:
            texts, images = self._contents(rest)
            ask.turn("\n".join(texts))
            ask.images.extend(images)

    def _contents(self, blocks: list[JSON]) -> tuple[list[str], list[bytes]]:
        texts = [self._text(block) for block in blocks if block["type"] == "text"]
        sources = [block["source"] for block in blocks if block["type"] == "image"]
        if len(texts) + len(sources) != len(blocks):
            raise Rejected(f"Input tags {[block['type'] for block in blocks]} are not expected here")
        return texts, [base64.b64decode(source["data"], validate=True) for source in sources]

    def _text(self, block: JSON) -> str:
        if not block["text"]:
            raise Rejected("text content blocks must be non-empty")
        return str(block["text"])

    def _answer(self, body: JSON, thought: Thought) -> JSON:
        stamp = digest(body)[:12]
        thinking = f"Hm, {stamp} – ünïcödé\n  spaces "
        self.signed[signature := digest("secret", thinking)] = thinking
        content: list[JSON] = [
            {"type": "thinking", "thinking": thinking, "signature": signature},
            {"type": "redacted_thinking", "data": "opaque"},
        ]
        if thought.text and not thought.refuses:
            content.append({"type": "text", "text": thought.text, "citations": None})
        for n, (name, arguments) in enumerate(thought.calls):
            self.thought_before.add(f"toolu_{stamp}{n}")
            content.append({"type": "tool_use", "id": f"toolu_{stamp}{n}", "name": name, "input": arguments})
        reason = "max_tokens" if thought.cut_off else "tool_use" if thought.calls else "end_turn"
        refusal = {"type": "refusal", "category": None, "explanation": thought.text}
        size = len(json.dumps(body["messages"])) // 4 + 50
        old = size // 2 if len(body["messages"]) > 1 else 0
        return {
            "id": f"msg_{stamp}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [] if thought.refuses else content,
            "stop_reason": "refusal" if thought.refuses else reason,
            "stop_details": refusal if thought.refuses else None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": size - old,
                "cache_read_input_tokens": old // 2,
                "cache_creation_input_tokens": old - old // 2,
                "output_tokens": len(thought.text.split()) + 40,
                "output_tokens_details": {"thinking_tokens": 30},
                "service_tier": "standard",
            },
        }
