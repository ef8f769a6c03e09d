"""A program in a guest that runs on while other requests are answered."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from trellis.environments.bytestreams import ByteStream
from trellis.environments.environment import EnvironmentFault, ExecResult

if TYPE_CHECKING:
    from trellis.environments.channel import Channel


class ChannelProcess:
    """See `environment.Process`."""

    def __init__(self, channel: Channel, number: int, stream: ByteStream) -> None:
        self._channel = channel
        self._number = number
        self._stream = stream

    async def read(self) -> bytes:
        return await self._stream.read()

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def close_stdin(self) -> None:
        self._stream.end()

    async def signal(self, number: int) -> None:
        with suppress(EnvironmentFault):
            await self._channel.request("signal_process", process=self._number, signal=int(number))

    async def wait(self) -> ExecResult:
        facts, errors = await self._stream.until_ended()
        return ExecResult(
            exit_code=facts["exit_code"],
            stderr=errors,
            signal=facts["signal"],
            duration_s=facts["duration_s"],
            spilled=tuple(facts["spilled"]),
        )

    async def close(self) -> None:
        with suppress(EnvironmentFault):
            if self._stream.result is None:  # first of all: a program that ends because its input does leaves others
                await self._channel.request("cancel", target=self._number)
            self._stream.close()
            await self._stream.until_ended()
