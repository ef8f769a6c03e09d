"""The terminal that interactive commands read from.

A terminal and not a pipe: programs that can hold a conversation do so only with one (`read -p`, `python3`, `node`),
those that search folders would take a pipe for what to search, and the end of input can be given more than once. It
gives on whole lines, echoes nothing and changes nothing: every byte arrives as it was sent. To a program that takes
single keys it gives them.

Part of the guest (see program.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

from trellis.environments.guest.streams import CHUNK_BYTES, Loop
from trellis.environments.guest.waiting import identity

END, LITERALLY = b"\x04", b"\x16"
LONGEST_PIECE_BYTES = 3999
"""The kernel holds lines of 4,095 bytes and drops the rest: longer ones are given in pieces. No size of a buffer
divides this number, or its owner would take the end of a piece for the end of input."""
ROWS, COLUMNS = 24, 80
RETRY_S = 0.005


class Terminal:
    def __init__(self, loop: Loop, written: Callable[[bytes], None]) -> None:
        """`written` takes what programs write to the terminal itself.

        Raises:
            OSError: none can be had.
        """
        self._loop, self._written = loop, written
        self._master, self.slave = os.openpty()
        self.identity = identity(self.slave)
        self._queue = bytearray()
        self._unfinished = 0
        """Bytes of the last line so far."""
        self._retrying = False
        os.set_blocking(self._master, False)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.clear()
        loop.watch(self._master, self._readable)

    def feed(self, data: bytes) -> None:
        """Type something."""
        self._queue += self._in_pieces(data) if self._by_lines() else data
        self._push()

    def end(self) -> None:
        """Give whoever reads the end of input, after what was typed."""
        self._queue += END * (2 if self._unfinished else 1)  # the first gives on the unfinished line
        self._unfinished = 0
        self._push()

    @property
    def unread(self) -> bool:
        """Is there input that nobody has taken yet?"""
        look = select.poll()  # this sees also an end of input, and what is still on its way through the kernel
        look.register(self.slave, select.POLLIN)
        return bool(self._queue) or any(events & select.POLLIN for _, events in look.poll(0))

    def clear(self) -> None:
        """Forget what was typed and not read, and what programs made of the terminal."""
        self._queue.clear()
        self._unfinished = 0
        with suppress(termios.error):
            attributes = termios.tcgetattr(self.slave)
            attributes[0] = attributes[1] = 0
            attributes[3] = termios.ICANON | termios.IEXTEN
            characters = [b"\0"] * len(attributes[6])
            characters[termios.VEOF], characters[termios.VLNEXT] = END, LITERALLY
            attributes[6] = characters
            termios.tcsetattr(self.slave, termios.TCSAFLUSH, attributes)

    def close(self) -> None:
        self._queue.clear()
        self._loop.forget(self._master)
        os.close(self.slave)

    def _by_lines(self) -> bool:
        with suppress(termios.error):
            return bool(termios.tcgetattr(self.slave)[3] & termios.ICANON)
        return False

    def _in_pieces(self, data: bytes) -> bytes:
        typed = bytearray()
        for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
            while self._unfinished + len(line) > LONGEST_PIECE_BYTES:
                cut = LONGEST_PIECE_BYTES - self._unfinished
                typed += _literally(line[:cut]) + END
                line, self._unfinished = line[cut:], 0
            typed += _literally(line)
            self._unfinished = 0 if line[-1:] == b"\n" else self._unfinished + len(line)
        return bytes(typed)

    def _push(self) -> None:
        """Give on what there is room for, and come back soon if that was not all."""
        try:
            while self._queue:
                del self._queue[: os.write(self._master, self._queue[:CHUNK_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            self._queue.clear()
        if self._queue and not self._retrying:
            self._retrying = True
            self._loop.after(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        if self._queue:
            self._push()

    def _readable(self) -> None:
        with suppress(OSError):
            self._written(os.read(self._master, CHUNK_BYTES))


def _literally(data: bytes) -> bytes:
    return re.sub(rb"[\x04\x16]", lambda found: LITERALLY + found[0], data)
