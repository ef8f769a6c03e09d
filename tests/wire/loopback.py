"""An HTTP server on the loopback interface for one test, with faults on demand."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

JSON = dict[str, Any]


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    body: JSON


@dataclass(frozen=True)
class Response:
    body: JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """Instead of an answer: an HTTP error, or a connection that misbehaves."""

    kind: Literal["status", "reset", "stall", "cut_json", "cut_body", "not_json"] = "status"
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: JSON = field(default_factory=lambda: {"error": {"type": "api_error", "message": "injected"}})


class Loopback:
    """Answers requests with `handle`, after the faults that were put into `faults` have been used up."""

    def __init__(self, handle: Callable[[Request], Response]) -> None:
        self._handle = handle
        self.faults: deque[Fault] = deque()
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        """To the requests that no fault met."""
        self.url = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Loopback]:
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

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 24)
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
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))))
        request = Request(first.split()[1], headers, body)
        self.requests.append(request)
        if self.faults:
            return await _misbehave(self.faults.popleft(), writer)
        response = self._handle(request)
        self.responses.append(response)
        await _write(writer, response.status, json.dumps(response.body).encode(), response.headers)
        return True


async def _misbehave(fault: Fault, writer: asyncio.StreamWriter) -> bool:
    whole = json.dumps(fault.body).encode()
    match fault.kind:
        case "status":
            await _write(writer, fault.status, whole, fault.headers)
            return True
        case "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
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


async def _write(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str], announced: int | None = None
) -> None:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body) if announced is None else announced}"]
    lines += [f"{name}: {value}" for name, value in ({"content-type": "application/json"} | dict(headers)).items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()
