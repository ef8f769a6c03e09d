"""What Anthropic accepts in the messages of a request."""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import (
    DocumentBlockParam,
    ImageBlockParam,
    RedactedThinkingBlockParam,
    TextBlockParam,
    ThinkingBlockParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
)
from anthropic.types.beta import BetaCompactionBlockParam

from .brain import Ask
from .loopback import JSON, Response
from .openai_wire import digest

MOST_IMAGES = 100
LONGEST_SIDE, LONGEST_SIDE_OF_MANY, MANY = 8000, 2000, 20
LARGEST_IMAGE = 5 << 20
"""As base64. Limits: "Vision" and "Request size limits", Anthropic's documentation."""
_KNOWN: dict[str, Any] = {
    "text": TextBlockParam,
    "image": ImageBlockParam,
    "document": DocumentBlockParam,
    "thinking": ThinkingBlockParam,
    "redacted_thinking": RedactedThinkingBlockParam,
    "tool_use": ToolUseBlockParam,
    "tool_result": ToolResultBlockParam,
    "compaction": BetaCompactionBlockParam,
}


class Rejected(Exception):
    """The request is wrong."""

    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.response = Response({"type": "error", "error": {"type": kind, "message": message}}, status)


def known(value: Any, typed_dict: Any, where: str) -> None:
    """Reject members that the SDK's own type does not have, and the lack of those it requires."""
    if unknown := set(value) - typed_dict.__required_keys__ - typed_dict.__optional_keys__:
        raise Rejected(f"{where}.{sorted(unknown)[0]}: Extra inputs are not permitted")
    if missing := typed_dict.__required_keys__ - set(value) - {"stream"}:
        raise Rejected(f"{where}.{sorted(missing)[0]}: Field required")


@dataclass
class Blocks:
    """Reads conversations, and remembers what it said in them."""

    preserve: bool
    signed: dict[str, str] = field(default_factory=dict)
    """Thinking by signature."""
    thought_after: dict[str, str] = field(default_factory=dict)
    """What stood before thinking, by signature."""
    thought_by: dict[str, str] = field(default_factory=dict)
    """The model that thought it, by signature."""
    thought_before: set[str] = field(default_factory=set)
    """Ids of tool calls that thinking led to."""
    compactions: dict[str, str] = field(default_factory=dict)
    stands_for: dict[str, list[Any]] = field(default_factory=dict)
    """What was said before a compaction, by signature."""
    paused: set[str] = field(default_factory=set)
    images: list[bytes] = field(default_factory=list)
    """All images of the request that is being read."""

    # --- what is said ---

    def thinking(self, text: str) -> JSON:
        self.signed[signature := digest("secret", text)] = text
        return {"type": "thinking", "thinking": text, "signature": signature}

    def compact(self, body: JSON) -> JSON:
        if body["messages"][-1]["role"] == "assistant":
            raise Rejected("compaction: the conversation ends on an assistant turn that is not finished")
        summary = f"A summary of {len(body['messages'])} turns."
        self.compactions[signature := digest("compaction", body)] = summary
        self.stands_for[signature] = self._before(body)[1:]
        block = {"type": "compaction", "content": summary, "encrypted_content": None}
        return {**block, "signature": signature, "tool_changes": []}

    def remember(self, body: JSON, message: JSON) -> None:
        """What the answer's blocks need when they come back."""
        before = self._before(body)
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        if message["content"] and "thinking" in message["content"][0]["type"]:
            self.thought_before.update(calls)
        for block in message["content"]:
            if block["type"] == "thinking":
                self.thought_after.setdefault(block["signature"], digest(before))
                self.thought_by.setdefault(block["signature"], body["model"])
            before.append(["assistant", plain(block)])
        if message["stop_reason"] == "pause_turn":
            self.paused.add(digest(message["content"]))

    def _before(self, body: JSON) -> list[Any]:
        """What a request says, for the check of what stood before thinking."""
        before: list[Any] = [[plain(list(body.get("system", ()))), plain(list(body.get("tools", ())))]]
        for message in body["messages"]:
            for block in message["content"]:
                before += self._says(message["role"], block)
        return before

    def _says(self, role: str, block: JSON) -> list[Any]:
        """A block, or what was compacted into it."""
        if block["type"] == "compaction":
            return self.stands_for.get(block["signature"], [])
        return [[role, plain(block)]]

    # --- what comes back ---

    def read(self, body: JSON, ask: Ask, *, compactions: bool) -> None:
        messages = body["messages"]
        self.images = []
        if not messages:
            raise Rejected("messages: at least one message is required")
        first = messages[0]["content"][0]["type"] if messages[0]["content"] else ""
        begins = 1 if first == "compaction" else 0
        open_calls: list[str] = []
        before = self._before({**body, "messages": []})
        seen: set[str] = set()
        for number, message in enumerate(messages):
            if message["role"] != ("user", "assistant")[(number + begins) % 2]:
                raise Rejected("messages: roles must alternate between user and assistant, beginning with user")
            blocks = message["content"]
            if not blocks:
                raise Rejected(f"messages.{number}: content must not be empty")
            for place, block in enumerate(blocks):
                where = f"messages.{number}.content.{place}"
                if block["type"] not in _KNOWN:
                    raise Rejected(f"{where}: Input tag '{block['type']}' is not expected")
                known(block, _KNOWN[block["type"]], where)
                if block["type"] == "compaction" and not (compactions and number == place == 0):
                    raise Rejected(f"{where}: the `compaction` block is not the first, or its beta is missing")
                if self.preserve and block["type"] == "thinking":
                    self._preserved(block, before, where)
                before += self._says(message["role"], block)
            if message["role"] == "assistant":
                open_calls = self._assistant(blocks)
                if seen & set(open_calls) or len(set(open_calls)) < len(open_calls):
                    raise Rejected("messages: `tool_use` ids must be unique")
                seen |= set(open_calls)
            else:
                self._user(blocks, open_calls, ask)
                open_calls = []
        if open_calls:
            raise Rejected("tool_use ids were found without tool_result blocks immediately after")
        if messages[-1]["role"] == "assistant" and digest(messages[-1]["content"]) not in self.paused:
            raise Rejected("This model does not support assistant message prefill.")
        if body.get("thinking", {}).get("type") == "enabled":
            self._loop_begins_with_thinking(messages)
        _check_images(self.images)

    def _preserved(self, block: JSON, before: list[Any], where: str) -> None:
        if self.thought_after.get(block["signature"]) != digest(before):
            raise Rejected(f"{where}: the conversation before this `thinking` block has changed")

    def _loop_begins_with_thinking(self, messages: list[JSON]) -> None:
        """With a budget, the turn that is being worked on must have begun with thinking."""
        turn: list[JSON] = []
        for message in messages:
            if message["role"] == "assistant":
                turn = turn or message["content"]
            elif any(block["type"] != "tool_result" for block in message["content"]):
                turn = []
        if turn and "thinking" not in turn[0]["type"]:
            raise Rejected(f"Expected `thinking` or `redacted_thinking`, but found `{turn[0]['type']}`")

    def _assistant(self, blocks: list[JSON]) -> list[str]:
        for block in blocks:
            match block["type"]:
                case "text":
                    self.text(block)
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
                case "compaction":
                    if self.compactions.get(block["signature"]) != block["content"]:
                        raise Rejected("The `compaction` block's `signature` does not verify.")
                case other:
                    raise Rejected(f"Input tag '{other}' is not expected in an assistant message")
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if not self.preserve and self.thought_before & set(calls) and "thinking" not in blocks[0]["type"]:
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
            files = [block["source"] for block in rest if block["type"] == "document"]
            ask.documents.extend(base64.b64decode(file["data"]) for file in files if file["type"] == "base64")

    def _contents(self, blocks: list[JSON]) -> tuple[list[str], list[bytes]]:
        texts, images = [], []
        for block in blocks:
            match block["type"]:
                case "text":
                    texts.append(self.text(block))
                case "image":
                    images.append(_image(block["source"]))
                    self.images.append(images[-1])
                case "document":
                    texts.append(_document(block["source"]))
                case other:
                    raise Rejected(f"Input tag '{other}' is not expected here")
        return texts, images

    def text(self, block: JSON) -> str:
        if not block["text"]:
            raise Rejected("text content blocks must be non-empty")
        if not block["text"].strip() and not self.preserve:
            raise Rejected("text content blocks must contain non-whitespace text")
        return str(block["text"])


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in sorted(value.items()) if name != "cache_control"}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


_MAGIC = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8", "image/webp": b"RIFF"}


def _image(source: JSON) -> bytes:
    if len(source["data"]) > LARGEST_IMAGE:
        raise Rejected("image exceeds 5 MB maximum")
    data = base64.b64decode(source["data"], validate=True)
    if source["media_type"] not in _MAGIC:
        raise Rejected("image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', ...")
    if not data.startswith(_MAGIC[source["media_type"]]):
        raise Rejected(f"Image does not match the provided media type {source['media_type']}")
    return data


def _document(source: JSON) -> str:
    match source["type"], source["media_type"]:
        case "text", "text/plain":
            return str(source["data"])
        case "base64", "application/pdf":
            if not base64.b64decode(source["data"], validate=True).startswith(b"%PDF-"):
                raise Rejected("The PDF specified was not valid.")
            return "(a PDF)"
    raise Rejected(f"document.source: {source['type']} of {source['media_type']} is not expected")


def _check_images(images: list[bytes]) -> None:
    if len(images) > MOST_IMAGES:
        raise Rejected(f"Too many images in request: {len(images)} > {MOST_IMAGES}")
    longest = LONGEST_SIDE_OF_MANY if len(images) > MANY else LONGEST_SIDE
    for image in images:
        if image.startswith(b"\x89PNG") and max(struct.unpack(">II", image[16:24])) > longest:
            raise Rejected(f"At least one of the image dimensions exceed max allowed size: {longest} pixels")
