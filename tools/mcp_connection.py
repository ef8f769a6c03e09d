"""A connection to an MCP server: a task that holds it open, and the streams between it and a program in a world.

Needs the extra `mcp`, whose package is imported when the first connection is opened.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from trellis.environments.environment import EnvironmentFault, ExecResult, Process

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client import Transport
    from mcp_types import CallToolResult, Tool

MESSAGE_BYTES = 64 << 20
"""What one message of a server may have at most; longer, the server is given up."""
MAX_PAGES = 100
CLOSE_TIMEOUT_S = 10.0
END_TIMEOUT_S = 2.0


class ServerGone(Exception):
    """The server did not start, ended, or does not answer. The text says what is known of it."""


class ServerError(Exception):
    """The server lives, and refused or could not do what was asked."""


@dataclass
class Ending:
    """What a transport knows of a server's end."""

    text: str = ""
    fault: EnvironmentFault | None = None
    by_invalid_request: bool = False
    """A server that forgot the session of a connection says so by this error, and by no other sign."""
    happened: asyncio.Event = field(default_factory=asyncio.Event)


Open = Callable[[Ending], AbstractAsyncContextManager[Any]]
"""Opens a transport of the `mcp` package that tells of its end."""


class Connection:
    """The package opens and closes a connection in one task: this one. Calls come from any."""

    def __init__(self, open_transport: Open) -> None:
        self._ending = Ending()
        self._closing = asyncio.Event()
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(open_transport), name="hold an MCP connection")
        self.tools: Sequence[Tool] = ()

    @classmethod
    async def open(cls, open_transport: Open, *, timeout_s: float) -> Connection:
        """Start or reach the server, agree on a version and list its tools.

        Raises:
            ServerGone: it did not come up in time.
            EnvironmentFault: the world is gone.
        """
        connection = cls(open_transport)
        try:
            async with asyncio.timeout(timeout_s):
                client = await asyncio.shield(connection._client)
                connection.tools = await _list_tools(client)
        except BaseException as error:
            await connection.close()
            connection._check_world()
            if isinstance(error, TimeoutError):
                raise ServerGone(f"did not answer within {timeout_s:g} s{connection._last_words()}") from None
            if isinstance(error, Exception):  # whatever the package raises for a server that talks nonsense
                raise ServerGone(f"did not start: {connection._ending.text or _one_line(error)}") from None
            raise
        return connection

    @property
    def alive(self) -> bool:
        return not self._task.done() and not self._ending.happened.is_set()

    async def call(self, tool: str, arguments: Mapping[str, Any], *, timeout_s: float) -> CallToolResult:
        """Call a tool; when the time is up, the server is told that nobody waits for the answer any more.

        Raises:
            ServerError: it refused, took too long, or answered nonsense.
            ServerGone: it ended.
            EnvironmentFault: the world is gone.
        """
        client = await self._client
        try:
            async with asyncio.timeout(timeout_s):
                return await client.call_tool(tool, dict(arguments))
        except TimeoutError:
            raise ServerError(f"did not answer within {timeout_s:g} s") from None
        except Exception as error:  # the package's own, of its HTTP client, of its checks of what came back
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):  # the answer that failed can be ahead of the news of the end
                    await self._end_of(error)
            self._check_world()
            if not self.alive:
                raise ServerGone(f"ended{self._last_words()}") from None
            raise ServerError(_one_line(error)) from None

    async def close(self) -> None:
        """End the connection, and the server if it was started for it."""
        self._closing.set()
        if self._client.done():
            await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)

    async def _hold(self, open_transport: Open) -> None:
        from mcp import Client

        try:
            transport: Transport = open_transport(self._ending)
            async with Client(transport, cache=None) as client:
                self._client.set_result(client)
                await _first(self._closing.wait(), self._ending.happened.wait())
        except BaseException as error:
            if not self._client.done():
                self._client.set_exception(error if isinstance(error, Exception) else ServerGone("was given up"))
                self._client.exception()  # whoever opened it may have gone
            elif not isinstance(error, Exception):
                raise
        finally:
            if not self._client.done():
                self._client.cancel()
            self._ending.happened.set()

    async def _end_of(self, error: Exception) -> None:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST

        if isinstance(error, MCPError) and error.code == INVALID_REQUEST and self._ending.by_invalid_request:
            self._ending.text = _one_line(error)
            self._ending.happened.set()
        elif not isinstance(error, MCPError) or error.code == CONNECTION_CLOSED:
            await self._ending.happened.wait()

    def _check_world(self) -> None:
        if self._ending.fault is not None:
            raise EnvironmentFault(str(self._ending.fault)) from None

    def _last_words(self) -> str:
        return f": {self._ending.text}" if self._ending.text else ""


async def _list_tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            return tools
    raise ServerError(f"its list of tools has more than {MAX_PAGES} pages")


async def _first(*waits: Any) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _one_line(error: Exception) -> str:
    inner: BaseException = error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return " ".join(str(inner).split())[:1000] or type(inner).__name__


# --- transports ------------------------------------------------------------------------------------------------------


StartProgram = Callable[[], Awaitable[Process]]


def over_stdio(start: StartProgram) -> Open:
    """A server that is started, and spoken to over its standard input and output."""

    @asynccontextmanager
    async def transport(ending: Ending) -> AsyncIterator[Any]:
        try:
            process = await start()
        except EnvironmentFault as fault:
            ending.fault = fault
            raise
        try:
            async with _streams(process, ending) as streams:
                yield streams
        finally:
            await _end(process)

    return transport


@asynccontextmanager
async def _streams(process: Process, ending: Ending) -> AsyncIterator[Any]:
    """What the package reads messages from and writes them to, moved by two tasks."""
    import anyio
    from mcp.shared.message import SessionMessage

    incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)

    async def move_in() -> None:
        try:
            async with incoming:
                async for line in _lines(process):
                    if (message := _message(line)) is not None:
                        await incoming.send(message)
                ending.text = await _how_it_ended(process)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # nobody listens any more
        except EnvironmentFault as fault:
            ending.fault = fault
        except ServerGone as reason:
            ending.text = str(reason)
        finally:
            ending.happened.set()

    async def move_out() -> None:
        with suppress(anyio.ClosedResourceError, EnvironmentFault):
            async for item in outgoing:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                await process.write(text.encode("utf-8", "replace") + b"\n")

    tasks = [asyncio.create_task(move_in()), asyncio.create_task(move_out())]
    try:
        yield read, write
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for stream in (incoming, read, write, outgoing):
            stream.close()


async def _lines(process: Process) -> AsyncIterator[bytes]:
    buffer = bytearray()
    while data := await process.read():
        searched = len(buffer)
        buffer += data
        while (end := buffer.find(b"\n", searched)) >= 0:
            yield bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
        if len(buffer) > MESSAGE_BYTES:
            raise ServerGone(f"sent a message of more than {MESSAGE_BYTES >> 20} MiB")


def _message(line: bytes) -> Any:
    """A message of the protocol; None for what a server prints besides."""
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None


async def _how_it_ended(process: Process) -> str:
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            result = await process.wait()
    except TimeoutError:
        return "it closed its standard output"
    how = f"signal {result.signal}" if result.signal else f"exit code {result.exit_code}"
    errors = result.stderr.decode("utf-8", "replace").strip()[-1000:]
    return f"{how}: {errors}" if errors else how


async def _end(process: Process) -> None:
    """As the protocol asks: end its input, wait a little, then kill it."""
    try:
        with suppress(TimeoutError, EnvironmentFault):
            async with asyncio.timeout(END_TIMEOUT_S):
                await process.close_stdin()
                await process.wait()
    finally:
        with suppress(EnvironmentFault):
            await process.close()


def by_url(url: str) -> Open:
    """A server that runs already and speaks streamable HTTP, reached from this machine."""

    def transport(ending: Ending) -> AbstractAsyncContextManager[Any]:
        from mcp.client.streamable_http import streamable_http_client

        ending.by_invalid_request = True
        return streamable_http_client(url)

    return transport


class HostProcess:
    """A program on this machine, outside every world, as a `Process`."""

    def __init__(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self._process, self._log = process, log

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str]) -> HostProcess:
        """Raises ServerGone: there is no such program. It gets none of this process's variables but those it needs."""
        from mcp.client.stdio import get_default_environment

        log = tempfile.TemporaryFile()  # noqa: SIM115  (closed when it is collected, at the latest)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=log, env={**get_default_environment(), **env},
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.close()
            raise ServerGone(f"{command[0]}: {error.strerror}") from None
        return cls(process, log)

    async def read(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.read(1 << 16)

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def wait(self) -> ExecResult:
        code = await self._process.wait()
        self._log.seek(0)
        return ExecResult(128 - code if code < 0 else code, stderr=self._log.read(), signal=-code if code < 0 else None)

    async def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._log.close()
