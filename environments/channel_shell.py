"""The host's end of a shell in a guest, and the states of a world's shells, which travel with its snapshots."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from trellis.environments.environment import DEFAULT_TIMEOUT_S, EnvironmentFault, ShellResult

if TYPE_CHECKING:
    from trellis.environments.channel import Channel

STATE_TIMEOUT_S = 30.0


class ChannelShell:
    """A shell in a guest. Commands given while one is running wait for it."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number
        self._lock = asyncio.Lock()
        self.closed = False

    async def run(
        self, command: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, interactive: bool = False
    ) -> ShellResult:
        text = command.encode("utf-8", "surrogateescape")
        if b"\0" in text:
            return ShellResult(2, b"bash: a command cannot contain a NUL byte\n")
        return await self._ask("run_in_shell", timeout_s, text, interactive=interactive, limit_s=timeout_s)

    async def send(self, data: bytes, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ShellResult:
        return await self._ask("send_to_shell", timeout_s, data, limit_s=timeout_s)

    async def wait(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ShellResult:
        return await self._ask("wait_for_shell", timeout_s, limit_s=timeout_s)

    async def interrupt(self) -> ShellResult:
        return await self._ask("interrupt_shell", DEFAULT_TIMEOUT_S)

    async def state(self) -> str:
        """What bash knows between two commands (see guest/shell_state.py), as text; "" while a command runs or waits,
        and where bash does not tell."""
        if self._lock.locked():
            return ""
        async with self._lock:
            reply = await self._channel.request("state_of_shell", shell=self._number, timeout_s=STATE_TIMEOUT_S)
        return reply.payload.decode("latin-1")

    async def close(self) -> None:
        self.closed = True
        with suppress(EnvironmentFault):
            await self._channel.request("close_shell", shell=self._number)

    async def _ask(self, op: str, timeout_s: float, payload: bytes = b"", **fields: Any) -> ShellResult:
        await self._lock.acquire()
        try:
            number, answer = self._channel.send(op, payload=payload, shell=self._number, **fields)
        except EnvironmentFault:
            self._lock.release()
            raise
        answer.add_done_callback(lambda _: self._lock.release())
        try:
            reply = await self._channel.answer(number, asyncio.shield(answer), timeout_s)
        except asyncio.CancelledError:
            with suppress(EnvironmentFault):
                self._channel.send("cancel_in_shell", shell=self._number)
            raise
        header = reply.header
        if "refused" in header:
            raise ValueError(header["refused"])
        return ShellResult(
            exit_code=header["exit_code"],
            output=reply.payload,
            timed_out=header["timed_out"],
            restarted=header["restarted"],
            waiting=header["waiting"],
            duration_s=header["duration_s"],
            spilled=tuple(header["spilled"]),
        )


class Shells:
    """The shells of one world by name. One that is opened under the name of an open one is called `name#2`, and so on:
    in a fork, opened in the same order, they find their states again."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._open: dict[str, ChannelShell] = {}

    async def open(self, name: str, states: Mapping[str, str]) -> ChannelShell:
        """A new shell, which takes over the state of its name, if there is one."""
        free = next(n for n in self._names(name) if n not in self._open or self._open[n].closed)
        number, answer = self._channel.send("open_shell", payload=states.get(free, "").encode("latin-1"))
        self._open[free] = shell = ChannelShell(self._channel, number)
        await self._channel.answer(number, answer, DEFAULT_TIMEOUT_S)
        return shell

    async def states(self, inherited: Mapping[str, str]) -> Mapping[str, str]:
        """The states of the shells that are open and idle, and those `inherited` that no shell has taken over yet."""
        found = {name: state for name, state in inherited.items() if name not in self._open}
        for name, shell in list(self._open.items()):
            if not shell.closed and (state := await shell.state()):
                found[name] = state
        return found

    @staticmethod
    def _names(name: str) -> itertools.chain[str]:
        return itertools.chain([name], (f"{name}#{n}" for n in itertools.count(2)))
