"""The host's end of a program in a world that speaks in frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.environments.environment import Process
from trellis.tools.frames import Frames, pack


class Framed:
    def __init__(self, process: Process) -> None:
        self.process = process
        self._frames = Frames()
        self._received: list[tuple[dict[str, Any], bytes]] = []

    async def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        await self.process.write(pack(header, payload))

    async def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """The next frame, or None at the end of the stream.

        Raises:
            ValueError: it is no such stream.
        """
        while not self._received:
            data = await self.process.read()
            if not data:
                return None
            self._received.extend(self._frames.feed(data))
        return self._received.pop(0)
