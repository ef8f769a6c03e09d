"""Anthropic's Messages format as a strict server speaks it, in one piece and as a stream."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import ToolParam
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from .anthropic_blocks import Blocks, Rejected, known
from .anthropic_cache import Cache, size, tokens
from .brain import Ask, Thought, think
from .loopback import JSON, Request, Response
from .openai_wire import digest

KEY = "sk-ant-test-0123456789abcdef"
_OLD = re.compile(r"claude-(3|haiku-4|sonnet-4|opus-4-[0-6])")
"""Models that take a temperature."""
_COMPACTION = "compact-2026-09-04"
_BINDING = "thinking-binding-controls-2026-08-01"


@dataclass
class MessagesServer:
    """`POST /v1/messages`, with thinking whose signature must come back as it went out."""

    preserve: bool = False
    """As newer models: thinking is taken back only where all that stood before it is as it was."""
    window: int | None = None
    """Tokens of input that it takes."""
    private: str = ""
    """A model whose thinking no other model reads."""
    cache: Cache = field(default_factory=Cache)
    script: deque[JSON] = field(default_factory=deque)
    """What the next answers have instead of what the mind says: members of the body."""
    blocks: Blocks = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = Blocks(self.preserve)

    def handle(self, request: Request) -> Response:
        try:
            if request.headers.get("authorization") != f"Bearer {KEY}" or "anthropic-version" not in request.headers:
                raise Rejected(f"invalid key {request.headers.get('authorization')}", 401, "authentication_error")
            if request.path not in ("/v1/messages", "/v1/messages/count_tokens"):
                raise Rejected("Not found", 404, "not_found_error")
            betas = request.headers.get("anthropic-beta", "").split(",")
            return self.answer(request.body, betas, counting=request.path.endswith("count_tokens"))
        except Rejected as rejected:
            return rejected.response

    def answer(self, body: JSON, betas: list[str], *, counting: bool = False) -> Response:
        if len(json.dumps(body)) > 32 << 20:
            raise Rejected("Request exceeds the maximum size", 413, "request_too_large")
        body = dict(body)
        compaction = body.pop("compaction", None) if _COMPACTION in betas else None
        temperature = body.pop("temperature", None)
        if temperature is not None and not _OLD.search(body["model"]):
            raise Rejected("`temperature` is deprecated for this model.")
        known(body, MessageCountTokensParams if counting else MessageCreateParamsStreaming, "body")
        ask = self._ask(body, betas, counting=counting)
        asked = size(body)
        if counting:
            return Response({"input_tokens": asked})
        if self.window is not None and asked > self.window:
            raise Rejected(f"prompt is too long: {asked} tokens > {self.window} maximum")
        if self.window is not None and _OLD.search(body["model"]) and asked + body["max_tokens"] > self.window:
            raise Rejected(
                f"input length and `max_tokens` exceed context limit: {asked} + {body['max_tokens']} > {self.window}, "
                "decrease input length or `max_tokens` and try again"
            )
        if compaction:
            message = self._message(body, "compaction", [self.blocks.compact(body)])
        else:
            message = self._think(body, think(ask))
        if _BINDING in betas:
            message["input_transformations"] = self._unread(body)
        if self.script:
            message |= self.script.popleft()
        self.blocks.remember(body, message)
        return Response(message, events=events(message) if body.get("stream") else ())

    # --- the request ---

    def _ask(self, body: JSON, betas: list[str], *, counting: bool) -> Ask:
        if "max_tokens" not in body and not counting:
            raise Rejected("max_tokens: Field required")
        names = [self._tool(tool) for tool in body.get("tools", ())]
        if len(set(names)) < len(names):
            raise Rejected("tools: Tool names must be unique.")
        ask = Ask(tools=names, max_tokens=body.get("max_tokens"))
        choice = body.get("tool_choice", {"type": "auto"})
        ask.tool_choice = {"auto": None, "any": "required", "none": "none", "tool": choice.get("name")}[choice["type"]]
        if choice["type"] == "tool" and choice["name"] not in names:
            raise Rejected(f"tool_choice: Tool '{choice['name']}' not found in provided tools")
        ask.schema = body.get("output_config", {}).get("format", {}).get("schema")
        if ask.schema is not None:
            _check_schema(ask.schema)
        self._thinking(body.get("thinking", {"type": "disabled"}), choice["type"], body.get("max_tokens"))
        for block in body.get("system", ()):
            if block["type"] != "text":
                raise Rejected("system: Input should be a valid text block")
            self.blocks.text(block)
        self.cache.check(body)
        self.blocks.read(body, ask, compactions=_COMPACTION in betas)
        return ask

    def _thinking(self, thinking: JSON, choice: str, limit: int | None) -> None:
        if thinking["type"] in ("enabled", "adaptive") and choice in ("any", "tool"):
            raise Rejected("Thinking may not be enabled when tool_choice forces tool use.")
        if thinking["type"] == "enabled":
            if thinking["budget_tokens"] < 1024:
                raise Rejected("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
            if limit is not None and limit <= thinking["budget_tokens"]:
                raise Rejected("`max_tokens` must be greater than `thinking.budget_tokens`.")

    def _tool(self, tool: JSON) -> str:
        known(tool, ToolParam, "tools")
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
            raise Rejected("tools.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
        if tool["input_schema"].get("type") != "object":
            raise Rejected("tools.input_schema.type: Input should be 'object'")
        return str(tool["name"])

    def _unread(self, body: JSON) -> list[JSON]:
        """The thinking that is passed over."""
        blocks = [
            (f"messages.{n}.content.{place}", block)
            for n, message in enumerate(body["messages"])
            for place, block in enumerate(message["content"])
            if block["type"] == "thinking"
        ]
        entry = {"type": "thinking_dropped", "reason": "model_binding_mismatch"}
        by = self.blocks.thought_by
        return [
            {"path": path, **entry}
            for path, block in blocks
            if by.get(block["signature"]) == self.private != body["model"]
        ]

    # --- the answer ---

    def _think(self, body: JSON, thought: Thought) -> JSON:
        stamp = digest(body)[:12]
        said: list[JSON] = []
        if thought.text and not thought.refuses:
            said.append({"type": "text", "text": thought.text, "citations": None})
        for n, (name, arguments) in enumerate(thought.calls):
            said += [self.blocks.thinking(f"And now, {stamp}{n}.")] if n else []
            call = {"type": "tool_use", "id": f"toolu_{stamp}{n}", "name": name, "input": arguments}
            said.append({**call, "caller": {"type": "direct"}})
        first = self.blocks.thinking(f"Hm, {stamp} – ünïcödé\n  spaces\u2028 ")
        content = [first, {"type": "redacted_thinking", "data": "opaque"}, *said]
        reason = "max_tokens" if thought.cut_off else "tool_use" if thought.calls else "end_turn"
        if thought.refuses:
            details = {"type": "refusal", "category": None, "explanation": thought.text}
            return self._message(body, "refusal", []) | {"stop_details": details}
        return self._message(body, reason, content)

    def _message(self, body: JSON, reason: str, content: list[JSON]) -> JSON:
        return {
            "id": f"msg_{digest(body)[:12]}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": reason,
            "stop_details": None,
            "stop_sequence": None,
            "usage": {
                **self.cache.usage(body),
                "output_tokens": sum(map(tokens, content)),
                "output_tokens_details": {
                    "thinking_tokens": sum(tokens(b) for b in content if "thinking" in b["type"])
                },
                "service_tier": "standard",
            },
        }


def _check_schema(schema: Any) -> None:
    """ "JSON Schema limitations" of structured outputs, Anthropic's documentation."""
    if isinstance(schema, list):
        for inner in schema:
            _check_schema(inner)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise Rejected("output_config.format.schema: For 'object' type, 'additionalProperties' must be set to false")
    if limits := {"minimum", "maximum", "multipleOf", "minLength", "maxLength", "pattern", "maxItems"} & schema.keys():
        raise Rejected(f"output_config.format.schema: property '{min(limits)}' is not supported")
    for name, inner in schema.items():
        for each in inner.values() if name == "properties" else [inner]:
            _check_schema(each)


def events(message: JSON) -> list[JSON | str]:
    """A message as a stream; a call's input may be text, which is then what was written of it before it was cut off."""
    usage = {**message["usage"], "output_tokens": 1}
    usage.pop("output_tokens_details", None)
    began = {**message, "content": [], "stop_reason": None, "stop_details": None, "usage": usage}
    sent: list[JSON | str] = [{"type": "message_start", "message": began}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        empty, deltas = _pieces(block)
        sent.append({"type": "content_block_start", "index": index, "content_block": empty})
        sent += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        sent.append({"type": "content_block_stop", "index": index})
    last = {name: message[name] for name in ("stop_reason", "stop_details", "stop_sequence")}
    totals = {name: value for name, value in message["usage"].items() if name.startswith("output_tokens")}
    return [*sent, {"type": "message_delta", "delta": last, "usage": totals}, {"type": "message_stop"}]


def _pieces(block: JSON) -> tuple[JSON, list[JSON]]:
    """How a block begins, and what is added to it."""

    def split(text: str) -> list[str]:
        return [text[at : at + 5] for at in range(0, len(text), 5)]

    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in split(block["text"])]
        case "thinking":
            pieces: list[JSON] = [{"type": "thinking_delta", "thinking": piece} for piece in split(block["thinking"])]
            signed = [{"type": "signature_delta", "signature": block["signature"]}] if block["signature"] else []
            return {**block, "thinking": "", "signature": ""}, pieces + signed
        case "tool_use":
            given = block["input"]
            written = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False) if given else ""
            pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *split(written)]]
            return {**block, "input": {}}, pieces
        case "compaction":
            return {**block, "content": None}, [
                {"type": "compaction_delta", "content": block["content"], "encrypted_content": None}
            ]
    return block, []
