"""An internet for one test: names that resolve to addresses nobody has, and servers on loopback that answer for them.

Only what the host's operating system would do is replaced (resolving and connecting); every byte passes real sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from trellis.environments.network.host_network import HostNetwork

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Internet:
    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.resolved: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.silent: set[str] = set()
        """Addresses that never answer."""
        self._ports: dict[tuple[str, int], int] = {}
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[Any]] = set()
        self._addresses = itertools.count(1)

    async def serve(self, name: str, port: int, serve: Serve, tls: ssl.SSLContext | None = None) -> int:
        """Answer for `name:port`; the port on the host's loopback that does so."""

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._serving.add(task)
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await serve(reader, writer)
            finally:
                self._serving.discard(task)
                writer.close()

        server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=tls)
        self._servers.append(server)
        real: int = server.sockets[0].getsockname()[1]
        addresses = self.names.setdefault(name, [f"198.51.100.{next(self._addresses)}"])
        self._ports[addresses[0], port] = real
        return real

    async def resolve(self, _: HostNetwork, host: str) -> Sequence[str]:
        self.resolved.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.names[host]

    async def connect(self, _: HostNetwork, address: str, port: int) -> Streams:
        self.dialled.append((address, port))
        if address in self.silent:
            await asyncio.Event().wait()
        if address == "127.0.0.1":
            return await asyncio.open_connection(address, port)
        if (address, port) not in self._ports:
            raise ConnectionRefusedError(111, "Connection refused")
        return await asyncio.open_connection("127.0.0.1", self._ports[address, port])

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._serving:
            task.cancel()
        for server in self._servers:
            await server.wait_closed()


@asynccontextmanager
async def internet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Internet]:
    made = Internet()

    async def resolve(network: HostNetwork, host: str) -> Sequence[str]:
        return await made.resolve(network, host)

    async def connect(network: HostNetwork, address: str, port: int) -> Streams:
        return await made.connect(network, address, port)

    monkeypatch.setattr(HostNetwork, "resolve", resolve)
    monkeypatch.setattr(HostNetwork, "connect", connect)
    try:
        yield made
    finally:
        await made.close()


def files(content: Mapping[str, bytes]) -> Serve:
    """A web server that knows these paths, one request a connection; a POST is answered with its size."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        method, path, _ = first.split()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = content.get(path.partition("?")[0])
        if method == "POST":
            body = f"{len(await reader.readexactly(int(headers['content-length'])))} for {headers['host']}\n".encode()
        status = "404 Not Found" if body is None else "200 OK"
        body = body or b""
        kind = "text/html" if path.endswith("/") else "application/octet-stream"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return serve
