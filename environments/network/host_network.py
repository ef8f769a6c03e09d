"""Names and connections as the host's operating system offers them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

BUFFER_BYTES = 1 << 17

_resolving = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")
"""Of its own: a name server that does not answer must hold up nothing else."""


class Network(Protocol):
    async def resolve(self, host: str) -> Sequence[str]:
        """The addresses of a name. Raises OSError."""
        ...

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises OSError."""
        ...


class HostNetwork:
    async def resolve(self, host: str) -> Sequence[str]:
        find = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(_resolving, find)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(address, port, limit=BUFFER_BYTES)
