"""The kernel's program: two processes inside a world, the kernel that runs cells and the broker that speaks for it.

The broker has the streams to the host; the kernel has nothing but a socket to the broker, and what its cells print goes
through a pipe of its own. So nothing that is printed can be taken for an answer, output beyond any measure is cut
where it arises, and a cell that never lets go of the interpreter can still be read from and interrupted. A cell that
finds the kernel's socket may answer for itself, and no more: what is no answer to it is left out, what is no frame ends
the kernel, and the broker's own memory and descriptors are closed to every other process.

The host sends `{"cell": name, "limit_s": seconds}` with the code as payload, and gets one answer: `cell`, `ok` or
`ended`, `timed_out`, `duration_s`, `spilled`, and the output and images as payload. The end of a kernel between cells
is said once, with an empty `cell`.

Handed to worlds as text, with the modules that it imports: Python 3.8, standard library only.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
import time
from typing import Any, NoReturn

from trellis.environments.guest.processes import (
    PR_SET_DUMPABLE,
    ProcessEntry,
    children,
    living_descendants,
    prctl,
    send_signal,
)
from trellis.environments.guest.streams import CHUNK_BYTES, Capture, Loop, write_all
from trellis.tools.frames import Frames, pack
from trellis.tools.kernel_cells import serve

INTERRUPT_S = 3.0
"""How long an interrupted cell may take to come back before the kernel is killed."""
AGAIN_S = 1.0
"""When it is interrupted again, and with it what it started: a program in the foreground holds the cell up."""


class Broker:
    """Hands cells to the kernel, one at a time, and sees that each has an answer."""

    def __init__(self, kernel: int, source: int, sink: int, cells: socket.socket, output: int) -> None:
        self._kernel, self._source, self._sink, self._cells = kernel, source, sink, cells
        self._loop = Loop()
        self._name = ""
        self._number = 0
        self._timed_out = False
        self._began_s = self._give_up_s = 0.0
        self._older: set[int] = set()
        self._requests, self._answers = Frames(), Frames()
        self._output = Capture(self._loop, output, self._spill_path)
        self._loop.watch(source, self._hear_host)
        self._loop.watch(cells.fileno(), self._hear_kernel)

    def run(self) -> NoReturn:
        self._send({"python": sys.version.split()[0]})
        while True:
            self._loop.run_once()

    def _spill_path(self) -> str:
        return os.path.join(tempfile.gettempdir(), f"output-{self._name.replace(' ', '-')}.txt")  # noqa: PTH118

    def _hear_host(self) -> None:
        data = os.read(self._source, CHUNK_BYTES)
        if not data:  # nobody is there any more; or the kernel has ended, and that is heard here first
            send_signal(self._kernel, signal.SIGKILL)
            self._end()
        for header, code in self._requests.feed(data):
            self._begin(header["cell"], header["limit_s"], code)

    def _begin(self, name: str, limit_s: float, code: bytes) -> None:
        self._name, self._timed_out, self._began_s = name, False, time.monotonic()
        self._number = number = self._number + 1
        self._older = set(children(self._kernel))
        try:
            self._cells.sendall(pack({"cell": name}, code))
        except OSError:
            return  # it is gone: that is heard
        self._loop.after(limit_s, lambda: self._interrupt(number))

    def _interrupt(self, number: int) -> None:
        """Ctrl-C, again, and then the end."""
        if number != self._number or not self._name:
            return
        if not self._timed_out:
            self._timed_out, self._give_up_s = True, time.monotonic() + INTERRUPT_S
            send_signal(self._kernel, signal.SIGINT)
        elif time.monotonic() < self._give_up_s:
            for entry in living_descendants(self._kernel, self._is_new):
                send_signal(entry.pid, signal.SIGINT)
            send_signal(self._kernel, signal.SIGINT)
        else:
            send_signal(self._kernel, signal.SIGKILL)
            return
        self._loop.after(AGAIN_S, lambda: self._interrupt(number))

    def _is_new(self, entry: ProcessEntry) -> bool:
        """What earlier cells left running is none of this one's."""
        return entry.pid not in self._older

    def _hear_kernel(self) -> None:
        try:
            data = self._cells.recv(CHUNK_BYTES)
        except OSError:
            data = b""
        if not data:
            self._end()
        try:
            for header, images in self._answers.feed(data):
                sizes = header.get("images")
                if self._name and header.get("cell") == self._name and _divide(sizes, len(images)):
                    self._answer({"ok": header.get("ok") is True, "images": sizes}, images)
        except ValueError:
            send_signal(self._kernel, signal.SIGKILL)

    def _end(self) -> NoReturn:
        """The kernel has ended: its last words are the last answer."""
        self._answer({"ended": True}, b"", last=True)
        os._exit(0)

    def _answer(self, header: dict[str, Any], images: bytes, *, last: bool = False) -> None:
        output, spilled = self._output.take(last=last)
        facts = {
            "cell": self._name,
            "timed_out": self._timed_out,
            "duration_s": time.monotonic() - self._began_s,
            "spilled": spilled,
            "output": len(output),
        }
        self._name = ""
        self._send({**header, **facts}, output + images)

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            write_all(self._sink, pack(header, payload))
        except BrokenPipeError:
            os._exit(0)


def _divide(sizes: Any, whole: int) -> bool:
    """Are these the sizes of parts that make up a whole?"""
    return isinstance(sizes, list) and all(type(size) is int and size >= 0 for size in sizes) and sum(sizes) == whole


def main() -> NoReturn:
    """Be the kernel, and leave the broker beside it."""
    source, sink = os.dup(0), os.dup(1)
    ours, theirs = socket.socketpair()
    output, output_end = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    kernel = os.getpid()
    broker = os.fork()
    if broker == 0:
        if os.fork():
            os._exit(0)  # the broker is nobody's child that a cell could wait for
        os.setsid()
        prctl(PR_SET_DUMPABLE, 0)
        for fd in (0, 1):
            os.dup2(null, fd)
        os.close(output_end)
        theirs.close()
        gc.freeze()
        Broker(kernel, source, sink, ours, output).run()
    os.waitpid(broker, 0)
    ours.close()
    for fd in (source, sink, output):
        os.close(fd)
    os.dup2(null, 0)
    os.dup2(output_end, 1)
    os.dup2(output_end, 2)
    os.close(output_end)
    os.close(null)
    for name in [name for name in sys.modules if name.split(".")[0] == "trellis"]:
        del sys.modules[name]  # whoever imports a module of that name means another one
    serve(theirs)
