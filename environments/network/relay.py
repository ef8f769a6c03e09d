"""Copying bytes between a world and a server, as fast as the slower of the two takes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

from trellis.environments.environment import EnvironmentFault

PIECE_BYTES = 1 << 17

Ended = Literal["done", "the server reset it", "the program left", "idle", "the world ended"]


class Stream(Protocol):
    """The world's end of a connection; see bytestreams.ByteStream."""

    unread: bool

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    def close(self, *, reset: bool = False) -> None: ...


@dataclass(slots=True)
class Traffic:
    """How much passed, and when something last did."""

    sent_bytes: int = 0
    received_bytes: int = 0
    last: float = 0.0


class _ProgramLeft(Exception):
    """It broke its connection, or closed it while the server still sends."""


async def relay(
    stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, traffic: Traffic, idle_s: float
) -> Ended:
    """Copy both ways until both sides have ended; each can end its half first. How that went.

    `traffic` counts as it goes. Only what is under way is held in memory: what one side does not take is not read
    from the other.
    """
    clock = asyncio.get_running_loop().time
    traffic.last = clock()

    async def up() -> None:
        while data := await stream.read():
            traffic.sent_bytes += len(data)
            traffic.last = clock()
            writer.write(data)
            await writer.drain()
        if stream.unread:
            raise _ProgramLeft
        writer.write_eof()

    async def down() -> None:
        while data := await reader.read(PIECE_BYTES):
            await stream.write(data)
            traffic.last = clock()
            if stream.unread:
                raise _ProgramLeft
            traffic.received_bytes += len(data)
        stream.end()

    async def watch() -> None:
        while (left := traffic.last + idle_s - clock()) > 0:
            await asyncio.sleep(left)
        raise TimeoutError

    ended: Ended = "done"
    try:
        async with asyncio.TaskGroup() as watched:
            watcher = watched.create_task(watch())
            async with asyncio.TaskGroup() as both:
                both.create_task(up())
                both.create_task(down())
            watcher.cancel()
    except* TimeoutError:
        ended = "idle"
    except* _ProgramLeft:
        ended = "the program left"
    except* EnvironmentFault:
        ended = "the world ended"
    except* OSError:
        ended = "the server reset it"
    return ended
