"""The host's end of a guest: many requests at once over one connection, each with a deadline.

Deadlines are owned here. The guest ends what takes too long; if it does not answer even `GRACE_S` after that, the
world is broken, and everybody who waits for it is told so at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from trellis.environments.bytestreams import ByteStream
from trellis.environments.channel_changes import Changes
from trellis.environments.channel_process import ChannelProcess
from trellis.environments.channel_shell import Shells
from trellis.environments.environment import (
    DEFAULT_TIMEOUT_S,
    ChangedFiles,
    EnvironmentFault,
    EnvironmentSpec,
    ExecResult,
    OnEvent,
    Process,
    Shell,
    Snapshot,
    ignore,
)
from trellis.environments.guest.main import FRAME
from trellis.environments.network.allow import AllowList
from trellis.environments.network.egress import Egress

GRACE_S = 15.0
"""How long after its deadline a request may still be answered."""
FILE_TIMEOUT_S = 120.0
START_TIMEOUT_S = 60.0
FILE_PIECE_BYTES = 16 << 20
"""A longer file comes in pieces, so that the guest need not hold it."""
FRAME_CAP_BYTES = 64 << 20
"""No frame of the guest is larger."""
SETUP_TIMEOUT_S = 1800.0

LogTail = Callable[[], str]
OnStream = Callable[[ByteStream, Mapping[str, Any]], None]


class Reader(Protocol):
    async def readexactly(self, n: int, /) -> bytes: ...


class Writer(Protocol):
    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reply:
    header: Mapping[str, Any]
    payload: bytes


class Channel:
    """Requests to one guest."""

    def __init__(self, name: str, reader: Reader, writer: Writer, log_tail: LogTail) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer
        self._log_tail = log_tail
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._streams: dict[int, ByteStream] = {}
        self._dead: str | None = None
        self._closing = False
        self.written = 0
        """How often the guest was told anything."""
        self.on_event: OnEvent = ignore
        """Is told what happens in this world without having been asked for."""
        self.on_stream: OnStream = refuse_stream
        """Is given a stream that was opened inside, and what the guest says about it."""
        self._receiver = asyncio.create_task(self._receive(), name=f"receive from {name}")

    async def request(
        self, op: str, *, payload: bytes = b"", timeout_s: float = FILE_TIMEOUT_S, **fields: Any
    ) -> Reply:
        """Send a request and wait for its answer.

        Raises:
            EnvironmentFault: the guest is gone, does not answer in time, or failed.
            OSError: the guest could not do it; the subclass tells why.
        """
        number, answer = self.send(op, payload=payload, **fields)
        return await self.answer(number, answer, timeout_s)

    def send(self, op: str, *, payload: bytes = b"", **fields: Any) -> tuple[int, asyncio.Future[Reply]]:
        if self._dead is not None:
            raise EnvironmentFault(self._dead)
        number = next(self._ids)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._write({"id": number, "op": op, **fields}, payload)
        return number, answer

    def _write(self, header: Mapping[str, Any], payload: bytes) -> None:
        self.written += 1
        encoded = json.dumps(header).encode()
        self._writer.write(FRAME.pack(len(encoded), len(payload)) + encoded + payload)

    def stream(self, number: int) -> ByteStream:
        """The host's end of the stream of this number; the guest opens its end with the request of this number.

        Raises:
            EnvironmentFault: the guest is gone.
        """
        if self._dead is not None:
            raise EnvironmentFault(self._dead)

        def send(what: str, *, payload: bytes = b"", size: int = 0) -> None:
            if self._dead is None:
                self._write({"id": number, "op": "stream", "what": what, "size": size}, payload)

        self._streams[number] = ByteStream(send)
        return self._streams[number]

    async def answer(self, number: int, answer: asyncio.Future[Reply], timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                await self._drain()
                reply = await answer
        except TimeoutError:
            self._waiting.pop(number, None)
            raise EnvironmentFault(
                f"{self._name} did not answer within {timeout_s + GRACE_S:g} s{self._log()}"
            ) from None
        if "broken" in reply.header:
            raise EnvironmentFault(f"the guest of {self._name} failed: {reply.header['broken'].strip()}")
        if "errno" in reply.header:
            raise OSError(reply.header["errno"], reply.header["message"])
        return reply

    async def close(self, timeout_s: float = 10.0) -> None:
        """Ask the guest to end its world and hang up."""
        self._closing = True
        if self._dead is None:
            with suppress(EnvironmentFault, OSError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    self.send("shutdown")
                    await self._drain()
                    await asyncio.shield(self._receiver)  # the guest closes its end when all is dead
        self._receiver.cancel()
        with suppress(asyncio.CancelledError):
            await self._receiver
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _drain(self) -> None:
        with suppress(ConnectionError):  # the receiver notices the end and tells everybody
            await self._writer.drain()

    async def _receive(self) -> None:
        cause = ""
        try:
            while True:
                header_size, payload_size = FRAME.unpack(await self._reader.readexactly(FRAME.size))
                if header_size + payload_size > FRAME_CAP_BYTES:
                    raise ValueError(f"a frame of {header_size + payload_size} bytes")
                header = json.loads(await self._reader.readexactly(header_size))
                payload = await self._reader.readexactly(payload_size) if payload_size else b""
                self._hear(header, payload)
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:  # or it talks nonsense
            cause = "" if isinstance(error, EOFError) else f" ({error})"
        finally:  # also when this is cancelled
            self._break_off(f"{self._name} is gone" + (": closed" if self._closing else cause + self._log()))

    def _break_off(self, why: str) -> None:
        self._dead = why
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(EnvironmentFault(self._dead))
                answer.exception()  # a waiter that was cancelled meanwhile must not leave a warning behind
        for stream in self._streams.values():
            stream.break_off(self._dead)

    def _hear(self, header: Mapping[str, Any], payload: bytes) -> None:
        if "stream" in header:
            self._hear_of_stream(header, payload)
        else:
            answer = self._waiting.pop(header["id"], None)
            if answer is not None and not answer.done():
                answer.set_result(Reply(header, payload))

    def _hear_of_stream(self, header: Mapping[str, Any], payload: bytes) -> None:
        number, what = header["stream"], header["what"]
        if what == "opened":
            # in a turn of its own: what fails there is not a guest that talks nonsense
            asyncio.get_running_loop().call_soon(self.on_stream, self.stream(number), header["facts"])
        elif number in self._streams:
            self._streams[number].hear(what, payload, header)
            if what == "closed":
                del self._streams[number]

    def _log(self) -> str:
        tail = self._log_tail().strip()
        return f"; the end of its log: {tail}" if tail else ""


def refuse_stream(stream: ByteStream, facts: Mapping[str, Any]) -> None:
    """The `OnStream` of a world in which none are expected."""
    stream.close()


class ChannelEnvironment:
    """What all kinds of environment have in common: everything but how a guest is launched, captured and removed."""

    _label: str

    def __init__(self, spec: EnvironmentSpec, channel: Channel, workdir: str, on_event: OnEvent = ignore) -> None:
        self.spec = spec
        self.channel = channel
        self.channel.on_event = on_event
        self.workdir = workdir
        self._egress = Egress(AllowList.parse(spec.allow), self._happened) if spec.allow else None
        self.shell_state_of_snapshot: Mapping[str, str] = {}
        """What shells that are opened here go on with, by name."""
        self._shells = Shells(channel)
        self._changes = Changes(channel)

    async def greet(
        self,
        env: Mapping[str, str],
        spill: str,
        interpreter_env: Mapping[str, str] = {},
        neighbours: Iterable[str] = (),
    ) -> None:
        """Tell the guest about its world: the variables of every command, where it may put long output, and what to
        listen on for the host. `neighbours` are hosts that can be reached inside, without the way out.

        Raises:
            EnvironmentFault: the guest is gone, or cannot listen there.
        """
        announced = {} if self._egress is None else self._egress.env(neighbours)
        await self.channel.request(
            "hello",
            env={**env, **announced, **self.spec.env},
            workdir=self.workdir,
            spill=spill,
            warm=dict(interpreter_env),
            timeout_s=START_TIMEOUT_S,
        )
        if self._egress is not None:
            self.channel.on_stream = self._egress.accept
            try:
                await self.channel.request("listen", listeners=[each.to_json() for each in self._egress.listeners])
            except OSError as error:
                raise EnvironmentFault(f"the way out of the world cannot be opened: {error.strerror}") from None

    async def hang_up(self) -> None:
        """Ask the guest to end its world, and end what it was connected to. No event comes after this."""
        await self.channel.close()
        if self._egress is not None:
            await self._egress.close()

    async def adopt(self, label: str, on_event: OnEvent) -> None:
        self._label = label
        self.channel.on_event = on_event

    def _happened(self, kind: str, facts: Mapping[str, Any]) -> None:
        self.channel.on_event(kind, facts)  # whose world this is can change

    async def set_up(self) -> None:
        """Run the set-up script of the spec.

        Raises:
            EnvironmentFault: it failed.
        """
        result = await self.exec(self.spec.setup, timeout_s=SETUP_TIMEOUT_S)
        if not result.ok:
            how = f"did not end within {SETUP_TIMEOUT_S:g} s" if result.timed_out else f"ended with {result.exit_code}"
            raise EnvironmentFault(f"the set-up script {how}: {result.text.strip()[-2000:]}")

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stdin: bytes = b"",
        env: Mapping[str, str] = {},
        cwd: str | None = None,
    ) -> ExecResult:
        number, answer = self.channel.send(
            "exec",
            payload=stdin,
            command=command if isinstance(command, str) else list(command),
            env=dict(env),
            cwd=cwd,
            limit_s=timeout_s,
        )
        try:
            reply = await self.channel.answer(number, answer, timeout_s)
        except asyncio.CancelledError:
            with suppress(EnvironmentFault):
                self.channel.send("cancel", target=number)
            raise
        header, split = reply.header, reply.header["stdout_bytes"]
        return ExecResult(
            exit_code=header["exit_code"],
            stdout=reply.payload[:split],
            stderr=reply.payload[split:],
            signal=header["signal"],
            timed_out=header["timed_out"],
            duration_s=header["duration_s"],
            spilled=tuple(header["spilled"]),
        )

    async def open_process(
        self, command: Sequence[str], *, env: Mapping[str, str] = {}, cwd: str | None = None
    ) -> Process:
        number, answer = self.channel.send("open_process", command=list(command), env=dict(env), cwd=cwd)
        process = ChannelProcess(self.channel, number, self.channel.stream(number))
        try:
            await self.channel.answer(number, answer, FILE_TIMEOUT_S)
        except asyncio.CancelledError:
            await asyncio.shield(process.close())
            raise
        return process

    async def open_shell(self, name: str = "main") -> Shell:
        return await self._shells.open(name, self.shell_state_of_snapshot)

    async def shell_states(self) -> Mapping[str, str]:
        """What the open and idle shells know, by name, for `shell_state_of_snapshot` of a fork; to be asked while the
        world is not frozen. Of a shell that runs a command, or whose command waits for input, nothing is told."""
        return await self._shells.states(self.shell_state_of_snapshot)

    async def read_file(self, path: str) -> bytes:
        data = bytearray()
        while True:
            reading = self.channel.request("read_file", path=path, offset=len(data), size=FILE_PIECE_BYTES)
            piece = (await _about(path, reading)).payload
            data += piece
            if len(piece) < FILE_PIECE_BYTES:
                return bytes(data)

    async def write_file(self, path: str, data: bytes) -> None:
        await _about(path, self.channel.request("write_file", path=path, payload=data))

    async def changed_files(self) -> ChangedFiles | None:
        return await self._changes.take()


def snapshot_data(snapshot: Snapshot, kind: str) -> Mapping[str, Any]:
    """What a snapshot of this kind holds.

    Raises:
        EnvironmentFault: it is of another kind.
    """
    if snapshot.kind != kind:
        raise EnvironmentFault(f"a snapshot of a {snapshot.kind} world cannot start a {kind} world")
    return snapshot.data


async def _about(path: str, reply: Awaitable[Reply]) -> Reply:
    """Name the file in the errors of a request."""
    try:
        return await reply
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
