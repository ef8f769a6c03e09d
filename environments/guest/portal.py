"""Connections that programs in the world make to its own loopback, handed to the host as streams.

The world has no other way out, and this end knows nothing of where they go: the host says what to listen on, and
decides what becomes of each connection (see egress.py).

Part of the guest (see main.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from trellis.environments.guest.streams import Loop

BACKLOG = 256
DATAGRAM_BYTES = 4096
DATAGRAMS = 64
"""How many may wait for their answer at once; more wait in the kernel, and are dropped where that is full."""
PAUSE_S = 0.02
"""How long nothing is accepted after there was no room for it."""

if TYPE_CHECKING:
    OpenStream = Callable[[int, int, dict[str, Any]], None]
    """`open_stream(source, sink, facts)`: a stream of two descriptors, which it owns from then on."""


class _NoRoom(Exception):
    pass


class Portal:
    def __init__(self, loop: Loop, open_stream: OpenStream) -> None:
        self._loop, self._open_stream = loop, open_stream
        self._pending = 0

    def listen(self, listener: int, protocol: str, address: str, port: int) -> None:
        """Begin to take connections; `listener` is told to the host with each.

        Raises:
            OSError: that address or port cannot be had.
        """
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        bound = socket.socket(socket.AF_INET, kind)
        try:
            bound.setblocking(False)
            if protocol == "tcp":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
            if protocol == "tcp":
                bound.listen(BACKLOG)
        except BaseException:
            bound.close()
            raise
        take = self._accept if protocol == "tcp" else self._receive
        self._watch(bound, lambda: take(listener, bound))

    def _watch(self, bound: socket.socket, readable: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                readable()
            except BlockingIOError:
                pass
            except (OSError, _NoRoom):  # no descriptor is left, for instance: it would be readable for ever
                self._loop.unwatch(bound.fileno())
                self._loop.after(PAUSE_S, lambda: self._loop.watch(bound.fileno(), guarded))

        self._loop.watch(bound.fileno(), guarded)

    def _accept(self, listener: int, bound: socket.socket) -> None:
        connection, _ = bound.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            source = os.dup(connection.fileno())
            self._open_stream(source, connection.detach(), {"listener": listener})

    def _receive(self, listener: int, bound: socket.socket) -> None:
        """A datagram becomes a connection of its own, on which one thing is said and one thing comes back."""
        if self._pending >= DATAGRAMS:
            raise _NoRoom
        data, sender = bound.recvfrom(DATAGRAM_BYTES)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                source = os.dup(theirs.fileno())
                ours.setblocking(False)
                ours.sendall(data)
                ours.shutdown(socket.SHUT_WR)
            except BaseException:
                ours.close()
                raise
            self._pending += 1
            answer = bytearray()
            self._loop.watch(ours.fileno(), lambda: self._answered(ours, answer, bound, sender))
            self._open_stream(source, theirs.detach(), {"listener": listener})

    def _answered(self, ours: socket.socket, answer: bytearray, bound: socket.socket, sender: Any) -> None:
        try:
            data = ours.recv(DATAGRAM_BYTES)
        except OSError:
            data = b""
        answer += data
        if data and len(answer) <= DATAGRAM_BYTES:
            return
        self._pending -= 1
        self._loop.unwatch(ours.fileno())
        ours.close()
        if answer:
            with suppress(OSError):  # the program has gone
                bound.sendto(answer, sender)
