"""Byte streams between descriptors of the world and the host, over the guest's one channel.

Each direction has a window: so many bytes may be under way before the other side says what it took. A program that
prints faster than the host reads is held up by its full pipe, as it would be anywhere, and a host that writes faster
than the program reads waits; nobody's memory fills.

Part of the guest (see main.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from trellis.environments.guest.streams import CHUNK_BYTES, Loop

WINDOW_BYTES = 1 << 20
ACKNOWLEDGE_BYTES = WINDOW_BYTES // 4
"""Taken bytes are told to the other side in portions of at least this size."""

if TYPE_CHECKING:
    Send = Callable[..., None]
    """`send(header, payload)`: one frame to the host."""


class ByteStream:
    """One stream: what `source` gives goes to the host, and what the host sends goes to `sink`.

    The two are non-blocking descriptors that this object owns. `close` is called when both directions have ended.
    """

    def __init__(self, loop: Loop, send: Send, number: int, source: int, sink: int, closed: Callable[[], None]) -> None:
        self._loop, self._send, self._number = loop, send, number
        self._source, self._sink = source, sink
        self._closed = closed
        self._credit = WINDOW_BYTES
        self._taken = 0
        self._waiting = bytearray()
        self._reading = self._source_open = self._sink_open = True
        self._ending = self._writing = False
        self._shut = True
        """Is the end of what the host sends to be told to the reader of `sink`?"""
        for fd in (source, sink):
            os.set_blocking(fd, False)
        loop.watch(source, self._readable)

    def take(self, data: bytes) -> None:
        """What the host sent."""
        if not self._sink_open:
            self._acknowledge(len(data))  # nobody reads it any more: the host must not wait for that
            return
        self._waiting += data
        self._write()

    def more_credit(self, size: int) -> None:
        self._credit += size
        if self._source_open and not self._reading:
            self._reading = True
            self._loop.watch(self._source, self._readable)

    def end(self) -> None:
        """The host sends nothing more."""
        self._ending = True
        self._write()

    def close(self, *, reset: bool = False) -> None:
        """Give up both directions; with `reset`, a connection ends as one that broke."""
        if reset and self._sink_open:
            _break(self._sink)
            self._shut = False
        self._close_source()
        self._close_sink()

    def _readable(self) -> None:
        try:
            data = os.read(self._source, min(CHUNK_BYTES, self._credit))
        except BlockingIOError:
            return
        except OSError:  # a connection that was reset
            self._lose_reader()
            data = b""
        if not data:
            self._close_source()
            return
        self._credit -= len(data)
        self._send({"stream": self._number, "what": "data"}, data)
        if self._credit == 0:
            self._reading = False
            self._loop.unwatch(self._source)

    def _write(self) -> None:
        if not self._sink_open:
            return
        try:
            while self._waiting:
                written = os.write(self._sink, self._waiting)
                del self._waiting[:written]
                self._acknowledge(written)
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.watch_writable(self._sink, self._write)
            return
        except OSError:
            self._lose_reader()
            return
        if self._writing:
            self._writing = False
            self._loop.unwatch(self._sink)
        if self._ending:
            self._close_sink()

    def _lose_reader(self) -> None:
        """Nobody reads what the host sends."""
        if self._sink_open:
            self._send({"stream": self._number, "what": "unread"})
            self._acknowledge(len(self._waiting))
            self._close_sink()

    def _acknowledge(self, size: int) -> None:
        self._taken += size
        if self._taken >= ACKNOWLEDGE_BYTES:
            self._send({"stream": self._number, "what": "taken", "size": self._taken})
            self._taken = 0

    def _close_source(self) -> None:
        if not self._source_open:
            return
        self._source_open = False
        if self._reading:
            self._loop.unwatch(self._source)
        os.close(self._source)
        self._send({"stream": self._number, "what": "end"})
        self._when_both_are_closed()

    def _close_sink(self) -> None:
        if not self._sink_open:
            return
        self._sink_open = False
        self._waiting.clear()
        if self._writing:
            self._writing = False
            self._loop.unwatch(self._sink)
        if self._shut:
            _shut_writing(self._sink)
        os.close(self._sink)
        self._when_both_are_closed()

    def _when_both_are_closed(self) -> None:
        if not self._source_open and not self._sink_open:
            self._closed()


def _shut_writing(fd: int) -> None:
    """Tell the other end of a socket that nothing more will come; a pipe's end is told by closing it."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.shutdown(socket.SHUT_WR)


def _break(fd: int) -> None:
    """Let the other end of a socket see that the connection broke, when it is closed."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
