"""The host's end of a byte stream: a program's standard input and output, or a connection made inside a world."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from trellis.environments.environment import EnvironmentFault
from trellis.environments.guest.bytestreams import ACKNOWLEDGE_BYTES, WINDOW_BYTES

Send = Callable[..., None]
"""`send(what, payload=, size=)`: one frame about this stream to the guest."""


class ByteStream:
    """Ordered bytes in both directions, each with a window of `WINDOW_BYTES` (see guest/bytestreams.py)."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._fault: str | None = None
        self._taken = 0
        self._credit = WINDOW_BYTES
        self._writing_ended = False
        self.unread = False
        """Has the reader inside gone? What is written then is thrown away."""
        self.result: tuple[Mapping[str, Any], bytes] | None = None
        """How the program behind it ended, and the end of its standard error."""
        self._waiters: list[asyncio.Future[None]] = []

    async def read(self) -> bytes:
        """The next piece, as soon as there is one; b"" at the end.

        Raises:
            EnvironmentFault: the world is gone.
        """
        while not self._pieces:
            if self._ended:
                return b""
            await self._change()
        data = self._pieces.popleft()
        self._taken += len(data)
        if self._taken >= ACKNOWLEDGE_BYTES and not self._ended:
            taken, self._taken = self._taken, 0
            self._send("taken", size=taken)
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the window is full. What nobody can read any more is thrown away.

        Raises:
            EnvironmentFault: the world is gone.
        """
        view = memoryview(data)
        while view and not self._writing_ended:
            if self._credit == 0:
                await self._change()
                continue
            self._check()
            size = min(len(view), self._credit)
            self._credit -= size
            self._send("data", payload=bytes(view[:size]))
            view = view[size:]

    async def until_ended(self) -> tuple[Mapping[str, Any], bytes]:
        """Wait for the `result`.

        Raises:
            EnvironmentFault: the world is gone.
        """
        while self.result is None:
            await self._change()
        return self.result

    def end(self) -> None:
        """Nothing more will be written."""
        if not self._writing_ended and self._fault is None:
            self._writing_ended = True
            self._send("end")

    def close(self, *, reset: bool = False) -> None:
        """Give up both directions; what still comes is thrown away. With `reset`, a connection ends as one that broke.
        Safe to call twice."""
        if self._fault is None and not (self._ended and self._writing_ended):
            self._writing_ended = True
            self._send("reset" if reset else "close")
        self._pieces.clear()
        self._ended = True
        self._wake()

    # --- what the channel hears from the guest ---

    def hear(self, what: str, payload: bytes, facts: Mapping[str, Any]) -> None:
        if what == "data":
            if not self._ended:
                self._pieces.append(payload)
        elif what == "taken":
            self._credit += facts["size"]
        elif what == "unread":
            self.unread = self._writing_ended = True
        elif what == "ended":
            self.result = (facts["result"], payload)
        elif what == "closed":
            self._ended = self._writing_ended = True
        else:
            self._ended = True
        self._wake()

    def break_off(self, why: str) -> None:
        """The world is gone."""
        self._fault = why
        self._wake()

    def _check(self) -> None:
        if self._fault is not None:
            raise EnvironmentFault(self._fault)

    async def _change(self) -> None:
        self._check()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter
        self._check()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
