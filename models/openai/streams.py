"""What OpenAI's two formats stream, put together: Responses, and Chat Completions."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from trellis.models.retry import TransientError
from trellis.models.sse import DONE, Event


class ResponsesAssembler:
    """The last event of a response contains all of it; what came before it is only watched for damage."""

    _ENDS = ("response.completed", "response.incomplete", "response.failed")

    def __init__(self) -> None:
        self._last = -1  # sequence number
        self._begun = False
        self._items: dict[int, Any] = {}
        self._body: Mapping[str, Any] | None = None

    def feed(self, event: Event) -> None:
        number = event.get("sequence_number")
        if isinstance(number, int):
            if number <= self._last:
                return  # sent twice
            self._last = number
        kind = event.get("type")
        if kind == "response.created":
            if self._begun:
                raise TransientError("the stream is damaged: a second response began in it")
            self._begun = True
        elif kind == "response.output_item.done":
            self._items[event["output_index"]] = event["item"]
        elif kind in self._ENDS and self._body is None:
            self._body = dict(event["response"])
            if not self._body.get("output") and self._items:  # some gateways leave it out of the last event
                self._body["output"] = [self._items[index] for index in sorted(self._items)]

    def whole(self) -> Mapping[str, Any] | None:
        return self._body


class ChatAssembler:
    """Joins the deltas of a chat completion's first choice. Its end is a `finish_reason` or `[DONE]`: servers exist
    that leave out either.

    Nothing numbers these events, so one that came twice cannot be told from one that says the same again. Where every
    single one came twice, nobody meant it.
    """

    _JOINED = ("content", "refusal", "reasoning_content", "reasoning")
    """Members whose deltas are pieces of text."""

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._pieces: defaultdict[str, list[Any]] = defaultdict(list)
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._calls = _ToolCalls()
        self._audio: dict[str, Any] = {}
        self._choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        self._begun = self._done = False
        self._last: Event = {}
        self._count = 0
        self._in_pairs = True

    def feed(self, event: Event) -> None:
        self._count += 1
        self._in_pairs = self._in_pairs and (self._count % 2 == 1 or event == self._last)
        self._last = event
        if self._in_pairs and self._choice["finish_reason"]:
            raise TransientError("the stream is damaged: every event comes twice")
        if event is DONE:
            self._done = True
            return
        usage = event.get("usage")
        self._body |= {name: value for name, value in event.items() if name not in ("choices", "usage")}
        for choice in event.get("choices") or ():
            if choice.get("index") in (0, None):
                usage = usage or choice.get("usage")  # Moonshot puts it there
                self._take(choice)
        if usage:
            self._body["usage"] = usage

    def whole(self) -> Mapping[str, Any] | None:
        if not self._done and not self._choice["finish_reason"]:
            return None
        message = dict(self._message)
        for name, pieces in self._pieces.items():
            message[name] = _joined(pieces)
        if self._audio:
            message["audio"] = self._audio | {
                "data": _joined_base64(self._audio.get("data", [])),
                "transcript": "".join(self._audio.get("transcript", [])),
            }
        if calls := self._calls.whole():
            message["tool_calls"] = calls
        choices = [{**self._choice, "message": message}] if self._begun else []
        return {**self._body, "object": "chat.completion", "choices": choices}

    def _take(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        if delta is None and not self._pieces and not self._calls:
            delta = choice.get("message")  # one that answers in one piece, as an event
        self._begun = True
        for name, value in (delta or {}).items():
            if value is None:
                continue
            if name in self._JOINED:
                self._pieces[name].append(value)
            elif name == "tool_calls":
                for call in value:
                    self._calls.take(call)
            elif name == "audio":
                self._hear(value)
            elif isinstance(value, list):  # reasoning_details of OpenRouter, annotations
                collected = self._message.setdefault(name, [])
                for entry in value:
                    _collect(collected, entry)
            else:
                self._message[name] = value
        self._choice |= {
            name: value
            for name, value in choice.items()
            if name not in ("delta", "message", "usage", "index") and value is not None
        }

    def _hear(self, audio: Mapping[str, Any]) -> None:
        for name, value in audio.items():
            if name in ("data", "transcript"):
                self._audio.setdefault(name, []).append(value or "")
            elif value is not None:
                self._audio[name] = value


class _ToolCalls:
    """Tool calls out of their deltas. Servers disagree on what tells calls apart: the index, the id, or that there is a
    name."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._arguments: list[list[Any]] = []
        self._at: dict[int, int] = {}
        """Place by index."""

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, delta: Mapping[str, Any]) -> None:
        place = self._place(delta)
        call, function = self._calls[place], delta.get("function") or {}
        call |= {
            name: value
            for name, value in delta.items()
            if name not in ("index", "function") and value not in (None, "")
        }
        call["function"]["name"] = call["function"].get("name") or function.get("name") or ""
        if (written := function.get("arguments")) not in (None, ""):
            self._arguments[place].append(written)

    def whole(self) -> list[dict[str, Any]]:
        return [
            {**call, "function": {**call["function"], "arguments": _joined(written) if written else ""}}
            for call, written in zip(self._calls, self._arguments, strict=True)
        ]

    def _place(self, delta: Mapping[str, Any]) -> int:
        id_, index = delta.get("id"), delta.get("index")
        if isinstance(index, int) and index in self._at:
            place = self._at[index]
            if not id_ or self._calls[place].get("id", id_) == id_:
                return place  # else a server that gives all its calls one index: the id tells
        if id_:
            for place, call in enumerate(self._calls):
                if call.get("id") == id_:
                    return place
        elif index is None and self._calls and not (delta.get("function") or {}).get("name"):
            return len(self._calls) - 1
        self._calls.append({"type": "function", "function": {}})
        self._arguments.append([])
        if isinstance(index, int):
            self._at[index] = len(self._calls) - 1
        return len(self._calls) - 1


def _collect(entries: list[Any], entry: Any) -> None:
    """Add an entry of a list, or the next piece of the last one: it has the same type and index."""
    last = entries[-1] if entries else None
    if not isinstance(entry, dict) or not isinstance(last, dict) or not _continues(last, entry):
        entries.append(dict(entry) if isinstance(entry, dict) else entry)
        return
    for name, value in entry.items():
        if name in ("text", "summary", "data") and isinstance(value, str):
            last[name] = f"{last.get(name) or ''}{value}"
        elif value is not None:
            last[name] = value


def _continues(last: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return entry.get("index") is not None and all(last.get(name) == entry.get(name) for name in ("type", "index"))


def _joined_base64(pieces: list[str]) -> str:
    """One piece of base64 out of many: each is complete in itself (padded), or they are cuts of one."""
    text = "".join(pieces)
    if "=" not in text.rstrip("="):
        return text
    return base64.b64encode(b"".join(base64.b64decode(piece) for piece in pieces)).decode()


def _joined(pieces: list[Any]) -> Any:
    """Pieces of text as one text; anything else (content in parts, arguments as an object) as it came."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    if any(isinstance(piece, list) for piece in pieces):
        return [
            part
            for piece in pieces
            for part in (piece if isinstance(piece, list) else [{"type": "text", "text": str(piece)}])
        ]
    return next(piece for piece in reversed(pieces) if not isinstance(piece, str))
