"""The way out of a world that has no network: connections made inside arrive here, as streams of the control channel,
and this side decides, dials, copies and reports.

Nothing that is said inside is believed: whatever a stream claims to be, the host it asks for is held against the
allow-list here, its name is resolved here, and the address that was checked is the one that is dialled.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Literal

from trellis.environments.environment import EnvironmentFault, OnEvent
from trellis.environments.network import dns, http_proxy
from trellis.environments.network.allow import AllowList, Place, is_reserved, literal
from trellis.environments.network.host_network import HostNetwork, Network
from trellis.environments.network.relay import Ended, Stream, Traffic, relay

PORTAL = IPv4Address("127.66.0.1")
"""Where the world's proxy and its DNS are, on its own loopback; listed names have the addresses after this one."""
PROXY_PORT, DNS_PORT = 3128, 53
OWN_NAMES = ("localhost", "127.0.0.1", "::1")

DIAL_S, ADDRESS_S = 30.0, 10.0
"""For resolving a name and connecting to one of its addresses; for each of these."""
HEAD_S = 30.0
"""How long a program may take to say what it wants."""
IDLE_S = 300.0
"""A connection on which nothing moves for so long is closed."""
LINGER_S = 2.0
CONNECTIONS = 128
"""At once, in one world."""
EVENTS = 2000
"""Of each kind, in one world; after these, one more says that others are left out."""
QUERY_BYTES = 4096
SAME_QUESTION_S = 1.0
"""Programs ask for a name twice, for both families of addresses: that is one event."""

Way = Literal["direct", "proxy", "dns"]


class NotReached(Exception):
    """There is no connection; the text says why. `status` is how an HTTP proxy says it."""

    status = 502


class Denied(NotReached):
    """... because the policy forbids it."""

    status = 403


@dataclass(frozen=True, slots=True)
class Listener:
    """What the guest listens on, and what a connection to it is for."""

    protocol: Literal["tcp", "udp"]
    address: IPv4Address
    port: int
    place: Place | None = None
    """Where its connections go; None for the proxy and the DNS."""

    @property
    def is_dns(self) -> bool:
        return self.place is None and self.port == DNS_PORT

    def to_json(self) -> dict[str, Any]:
        return {"protocol": self.protocol, "address": str(self.address), "port": self.port}


class Egress:
    """The way out of one world."""

    def __init__(self, allow: AllowList, on_event: OnEvent, network: Network | None = None) -> None:
        self._allow = allow
        self._on_event = on_event
        self._network = network or HostNetwork()
        self._addresses = {name: PORTAL + 1 + index for index, name in enumerate(allow.names)}
        self.listeners = (
            Listener("tcp", PORTAL, PROXY_PORT),
            Listener("tcp", PORTAL, DNS_PORT),
            Listener("udp", PORTAL, DNS_PORT),
            *(
                Listener("tcp", self._addresses[entry.host], entry.port, entry)
                for entry in allow.entries
                if entry.host in self._addresses
            ),
        )
        self._numbers = itertools.count(1)
        self._events: Counter[str] = Counter()
        self._busy: Counter[bool] = Counter()
        """How many connections are being served, questions to the DNS (True) apart from all others."""
        self._full = {True: False, False: False}
        self._unknown = ("", 0.0)
        """The last name that was asked for in vain, and when."""
        self._tasks: set[asyncio.Task[None]] = set()

    def env(self, neighbours: Iterable[str] = ()) -> dict[str, str]:
        """The variables that announce the proxy. The world's own servers are reached without it: its `neighbours`, and
        those on its loopback by the names that no entry takes for the host's."""
        proxy = f"http://{PORTAL}:{PROXY_PORT}"
        own = ",".join(name for name in (*OWN_NAMES, *neighbours) if not self._allow.knows(name))
        variables = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": own}
        return variables | {name.lower(): value for name, value in variables.items()}

    def accept(self, stream: Stream, facts: Mapping[str, Any]) -> None:
        """A connection was made inside; `facts["listener"]` says to which of the listeners."""
        serving = self._serve(self.listeners[facts["listener"]], stream)
        task = asyncio.create_task(serving, name="a connection of a world")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every connection. No event comes after this."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what a connection is for ---

    async def _serve(self, listener: Listener, stream: Stream) -> None:
        reset = True
        self._busy[listener.is_dns] += 1
        try:
            if self._is_full(listener.is_dns):
                pass
            elif listener.is_dns:
                async with asyncio.timeout(HEAD_S):
                    await self._serve_dns(stream, framed=listener.protocol == "tcp")
                reset = False
            elif listener.place is not None:
                reset = await self._forward(listener.place, stream)
            else:
                reset = await self._serve_proxy(stream)
        except (EnvironmentFault, TimeoutError, ConnectionError):
            pass  # the world ended, or the program did not say what it wants
        finally:
            self._busy[listener.is_dns] -= 1
            stream.close(reset=reset)

    def _is_full(self, dns: bool) -> bool:
        full, was_full = self._busy[dns] > CONNECTIONS, self._full[dns]
        self._full[dns] = full
        if full and not was_full:
            self._tell("denied", reason=f"more than {CONNECTIONS} connections at once")
        return full

    async def _forward(self, place: Place, stream: Stream) -> bool:
        """Whether the connection broke."""
        try:
            connection = await self._open(place, "direct")
        except NotReached:
            return True
        return await connection.carry(stream)

    async def _serve_proxy(self, stream: Stream) -> bool:
        try:
            async with asyncio.timeout(HEAD_S):
                head, rest = await _read_head(stream)
            request = http_proxy.parse(head)
            connection = await self._open(request.place, "proxy")
        except http_proxy.BadRequest as error:
            await _refuse(stream, 400, str(error))
            return False
        except NotReached as error:
            await _refuse(stream, error.status, str(error))
            return False
        if request.is_tunnel:
            return await connection.carry(stream, reply=http_proxy.CONNECTED, first=rest)
        return await connection.carry(stream, first=request.onward + rest)

    async def _serve_dns(self, stream: Stream, *, framed: bool) -> None:
        """UDP: the stream is one datagram and its answer. TCP: any number of them, each after its length."""
        buffer = b""
        while data := await stream.read():
            buffer += data
            while framed and len(buffer) >= 2 and len(buffer) >= (end := 2 + int.from_bytes(buffer[:2], "big")):
                message = self._answer(buffer[2:end])
                await stream.write(struct.pack(">H", len(message)) + message)
                buffer = buffer[end:]
            if len(buffer) > QUERY_BYTES:
                return
        if not framed:
            await stream.write(self._answer(buffer))
        stream.end()

    def _answer(self, query: bytes) -> bytes:
        answer = dns.answer(query, self._addresses)
        if answer is None:
            return b""
        if answer.unknown is not None:
            self._tell_of_unknown(answer.unknown)
        return answer.message

    def _tell_of_unknown(self, name: str) -> None:
        host, now = name.lower(), time.monotonic()
        last, at = self._unknown
        self._unknown = host, now
        if host == last and now - at < SAME_QUESTION_S:
            return
        known = self._allow.knows(host)
        reason = "only the proxy knows the names below a wildcard" if known else "not on the allow-list"
        self._tell("denied", host=host, way="dns", reason=reason)

    # --- dialling ---

    async def _open(self, asked: Place, way: Way) -> Connection:
        """
        Raises:
            NotReached: there is no connection, and an event says so.
        """
        try:
            async with asyncio.timeout(DIAL_S):
                address, reader, writer = await self._dial(asked)
        except Denied as error:
            self._tell("denied", host=asked.host, port=asked.port, way=way, reason=str(error))
            raise Denied(f"{asked} is denied: {error}; this world reaches {self._allow}") from None
        except (NotReached, OSError) as error:
            self._tell("failed", host=asked.host, port=asked.port, way=way, reason=_words(error))
            raise NotReached(f"{asked} cannot be reached: {_words(error)}") from None
        facts = {"connection": next(self._numbers), "host": asked.host, "port": asked.port}
        self._tell("allowed", **facts, address=address, way=way)
        return Connection(self._tell, facts, reader, writer)

    async def _dial(self, asked: Place) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        entry = self._allow.entry_for(asked)
        if entry is None:
            raise Denied("not on the allow-list")
        found = [asked.host] if literal(asked.host) else await self._network.resolve(asked.host)
        usable = [address for address in found if entry.is_explicit or not _is_forbidden(address)]
        if found and not usable:
            raise Denied(f"its name leads to {found[0]}, which only an entry for that address can allow")
        last: OSError | None = None
        for address in usable:
            try:
                async with asyncio.timeout(ADDRESS_S):
                    return address, *await self._network.connect(address, asked.port)
            except OSError as error:
                last = error
        raise NotReached(_words(last) if last else "the name has no address")

    def _tell(self, what: str, **facts: Any) -> None:
        self._events[what] += 1
        if self._events[what] <= EVENTS:
            self._on_event(f"network.{what}", facts)
        elif self._events[what] == EVENTS + 1:
            self._on_event("network.muted", {"kind": what, "reason": f"{EVENTS} of them were told; more are left out"})


class Connection:
    """An allowed connection that stands."""

    def __init__(
        self,
        tell: Callable[..., None],
        facts: Mapping[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._tell, self._facts = tell, facts
        self._reader, self._writer = reader, writer
        self._began = time.monotonic()

    async def carry(self, stream: Stream, *, reply: bytes = b"", first: bytes = b"") -> bool:
        """Pass bytes until both sides have ended, `reply` to the program and `first` to the server before all others.
        Whether the connection broke."""
        traffic = Traffic(sent_bytes=len(first))
        ended: Ended = "the world ended"
        try:
            self._writer.write(first)
            await stream.write(reply)
            ended = await relay(stream, self._reader, self._writer, traffic, IDLE_S)
            if ended == "done":
                await self._flush()
        finally:
            if ended != "done":
                self._break()
            self._writer.transport.abort()
            self._tell(
                "closed",
                **self._facts,
                sent_bytes=traffic.sent_bytes,
                received_bytes=traffic.received_bytes,
                duration_s=round(time.monotonic() - self._began, 3),
                ended=ended,
            )
        return ended != "done"

    def _break(self) -> None:
        """The server must not take what it has for all there is."""
        connection = self._writer.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _flush(self) -> None:
        """What was written last may not have gone out yet."""
        self._writer.close()
        with suppress(OSError):
            async with asyncio.timeout(LINGER_S):
                await self._writer.wait_closed()


async def _read_head(stream: Stream) -> tuple[bytes, bytes]:
    """The head of a request, and what came after it."""
    buffer = b""
    while http_proxy.HEAD_END not in buffer:
        data = await stream.read()
        if not data:
            raise http_proxy.BadRequest("the request ends within its head")
        buffer += data
        if len(buffer) > http_proxy.HEAD_BYTES:
            raise http_proxy.BadRequest(f"the head of the request is over {http_proxy.HEAD_BYTES} bytes")
    head, _, rest = buffer.partition(http_proxy.HEAD_END)
    return head, rest


async def _refuse(stream: Stream, status: int, text: str) -> None:
    """Answer, and take what the program still sends: a connection closed over unread bytes loses the answer."""
    await stream.write(http_proxy.refusal(status, text))
    stream.end()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while await stream.read():
                pass


def _is_forbidden(address: str) -> bool:
    parsed = literal(address)
    return parsed is None or is_reserved(parsed)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
