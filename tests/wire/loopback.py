"""An HTTP server on the loopback interface for one test: whole answers and streams, with faults on demand."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

JSON = dict[str, Any]


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    body: JSON
    """Empty where it is no JSON."""
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    method: str = "POST"
    content: bytes = b""


@dataclass(frozen=True)
class Response:
    """One JSON document, or (`events`) the same as a stream; a text among the events is sent as it is. `content` is
    sent instead of the document."""

    body: JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[JSON | str] = ()
    content: bytes | None = None

    def frames(self) -> list[bytes]:
        """The events as they are sent: with a name where they have a type."""
        frames = []
        for event in self.events:
            name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
            data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
            frames.append(f"{name}data: {data}\n\n".encode())
        return frames


Instead = Literal["status", "reset", "stall", "cut_json", "cut_body", "not_json"]
"""What comes instead of an answer: an HTTP error, a reset or a silence before the first byte, half a document, a
connection closed too early, or a gateway's page."""
Within = Literal["reset_within", "stall_within", "cut_within", "torn_within", "error_within"]
"""What happens in the middle of an answer: a reset, a silence, an orderly end, an orderly end in the middle of a
line, or an error event (`body`) and an orderly end."""
Whole = Literal["reset_after", "duplicate", "slow"]
"""What leaves an answer whole: a reset after its end (of a stream: in the place of the last, empty chunk), every event
twice, or a few bytes at a time."""


@dataclass(frozen=True)
class Fault:
    kind: Instead | Within | Whole = "status"
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: JSON = field(default_factory=lambda: {"error": {"type": "api_error", "message": "injected"}})
    part: float = 0.5
    """Where `within` is: the part of the answer that is sent before."""


class Loopback:
    """Answers requests with `handle`, after the faults that were put into `faults` have been used up."""

    def __init__(self, handle: Callable[[Request], Response]) -> None:
        self._handle = handle
        self.faults: deque[Fault] = deque()
        self.chance: Callable[[Request], Fault | None] = lambda request: None
        """Decides on a fault once those have been used up."""
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        """To the requests that no fault met."""
        self.url = ""

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[Loopback]:
        """Within it, it answers; at the end it is gone like a process that was killed. `port`: where, if it must be
        there; a free one by default."""
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                while await self._exchange(reader, writer):
                    pass
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", port, limit=1 << 24)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection can be used again."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(content) if headers.get("content-type", "").startswith("application/json") else {}
        method, target, _ = first.split()
        url = urlsplit(target)
        request = Request(url.path, headers, body, parse_qs(url.query), method, content)
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else self.chance(request)
        if fault is not None and fault.kind in get_args(Instead):
            return await _instead(fault, writer)
        response = self._handle(request)
        if fault is None or fault.kind in get_args(Whole):
            self.responses.append(response)
        return await _send(response, fault, writer)


async def _instead(fault: Fault, writer: asyncio.StreamWriter) -> bool:
    whole = json.dumps(fault.body).encode()
    match fault.kind:
        case "status":
            await _write(writer, fault.status, whole, fault.headers)
            return True
        case "reset":
            _reset(writer)
        case "stall":
            await asyncio.Event().wait()  # until the server is closed
        case "cut_json":
            await _write(writer, 200, b'{"output": [{"type": "mess', {})
            return True
        case "cut_body":
            await _write(writer, 200, whole, {}, announced=len(whole) + 100)
        case "not_json":
            await _write(writer, 200, b"<html>gateway</html>", {"content-type": "text/html"})
            return True
    return False


async def _send(response: Response, fault: Fault | None, writer: asyncio.StreamWriter) -> bool:
    """A response in pieces, with what the fault does to them."""
    if not response.events:
        whole = json.dumps(response.body).encode() if response.content is None else response.content
        pieces = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
        _head(writer, response.status, response.headers, len(whole))
        return await _pieces(pieces, fault, writer)
    headers = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
    _head(writer, response.status, headers | dict(response.headers))
    frames = response.frames()
    if fault and fault.kind == "duplicate":
        frames = [frame for frame in frames for _ in range(2)]
    if fault and fault.kind == "error_within":
        error = replace(response, events=[fault.body]).frames()
        frames = frames[: int(len(frames) * fault.part)] + error
    if fault and fault.kind == "cut_within":
        frames = frames[: int(len(frames) * fault.part)]
    if fault and fault.kind == "torn_within":
        frames = frames[: max(1, int(len(frames) * fault.part))]
        frames[-1] = frames[-1][: len(frames[-1]) // 2]
    if fault and fault.kind == "slow":
        whole = b"".join(frames)
        frames = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    chunks = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames]
    end = [] if fault and fault.kind == "reset_after" else [b"0\r\n\r\n"]
    return await _pieces([*chunks, *end], fault, writer)


async def _pieces(pieces: Sequence[bytes], fault: Fault | None, writer: asyncio.StreamWriter) -> bool:
    kind = fault.kind if fault else None
    if fault and kind in ("reset_within", "stall_within"):
        pieces = pieces[: max(1, int(len(pieces) * fault.part))]
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        if kind in ("reset_within", "slow"):
            await asyncio.sleep(0)
    if kind == "stall_within":
        await asyncio.Event().wait()
    if kind in ("reset_within", "reset_after"):
        await asyncio.sleep(1.0 if kind == "reset_after" else 0.05)  # a reset overtakes what has not been read
        _reset(writer)
        return False
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _write(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str], announced: int | None = None
) -> None:
    _head(writer, status, headers, len(body) if announced is None else announced)
    writer.write(body)
    await writer.drain()


def _head(writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
    lines = [f"HTTP/1.1 {status} Whatever", *([] if length is None else [f"content-length: {length}"])]
    lines += [f"{name}: {value}" for name, value in ({"content-type": "application/json"} | dict(headers)).items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
