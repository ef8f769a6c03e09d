"""What the Messages API streams, put together as the body that it would have sent in one piece."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trellis.models.retry import TransientError
from trellis.models.sse import Event


class MessagesAssembler:
    """Blocks arrive in pieces; a block that has not ended, or an event out of place, makes the stream worthless.

    Events and deltas of kinds that are not known here are passed over or kept: Anthropic adds new ones.
    """

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._blocks: list[dict[str, Any]] = []
        self._open: _Block | None = None
        self._whole = False

    def feed(self, event: Event) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._must(self._message is None, "a second message began in it")
            self._message = dict(event["message"])
        elif kind == "content_block_start":
            self._must(self._open is None and event["index"] == len(self._blocks), "a block is out of order")
            self._open = _Block(event["content_block"])
        elif kind == "content_block_delta":
            self._must(event["index"] == len(self._blocks), "a piece belongs to no block")
            self._opened().add(event["delta"])
        elif kind == "content_block_stop":
            self._must(event["index"] == len(self._blocks), "a block ended that had not begun")
            self._blocks.append(self._opened().end())
            self._open = None
        elif kind == "message_delta":
            self._last_words(event)
        elif kind == "message_stop":
            ended = self._open is None and self._message is not None and self._message.get("stop_reason")
            self._must(bool(ended), "the message ended before its blocks")
            self._whole = True

    def whole(self) -> Mapping[str, Any] | None:
        return {**self._message, "content": self._blocks} if self._whole and self._message else None

    def _opened(self) -> _Block:
        self._must(self._open is not None, "a piece belongs to no block")
        assert self._open is not None
        return self._open

    def _last_words(self, event: Event) -> None:
        """Why the message ends, and what it used in all: the later figures hold."""
        self._must(self._message is not None, "the message ended before it began")
        assert self._message is not None
        self._message |= {name: value for name, value in event["delta"].items() if value is not None}
        used = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
        self._message["usage"] = {**(self._message.get("usage") or {}), **used}

    def _must(self, condition: bool, otherwise: str) -> None:
        if not condition:
            raise TransientError(f"the stream is damaged: {otherwise}")


class _Block:
    """One block of content that is being streamed."""

    _TEXTS: Mapping[str, str] = {"text_delta": "text", "thinking_delta": "thinking"}

    def __init__(self, block: Mapping[str, Any]) -> None:
        self._block = dict(block)
        self._pieces: dict[str, list[str]] = {}
        """Of the members that grow: joined once, at the end."""

    def add(self, delta: Mapping[str, Any]) -> None:
        kind = str(delta.get("type"))
        if kind in self._TEXTS:
            name = self._TEXTS[kind]
            self._pieces.setdefault(name, [self._block.get(name) or ""]).append(delta[name])
        elif kind == "input_json_delta":
            self._pieces.setdefault("input", []).append(delta["partial_json"])
        elif kind == "citations_delta":
            self._block["citations"] = [*(self._block.get("citations") or ()), delta["citation"]]
        else:  # signature_delta, compaction_delta, and whatever else is sent at once
            self._block |= {name: value for name, value in delta.items() if name != "type"}

    def end(self) -> dict[str, Any]:
        for name, pieces in self._pieces.items():
            self._block[name] = "".join(pieces)
        if "input" in self._pieces:
            self._block["input"] = _input(self._block["input"])
        return self._block


def _input(written: str) -> Any:
    """A call's arguments; the text itself where it is no JSON (the reply was cut off in its middle)."""
    try:
        return json.loads(written) if written.strip() else {}
    except ValueError:
        return written
