"""The program inside every world. It runs commands and moves files for the host, over one channel.

It is pid 1 of a sandbox, the main process of a container, or a plain child for `local`. It needs nothing but Python 3.8
and bash. With the modules it is made of (program.PARTS) it is handed to a container as text, so these import nothing
else of Trellis.

A frame is two lengths (`>II`), a JSON header and a raw payload. A request names its `id` and `op`; its answer carries
the same id, and the two may be far apart: any number of requests are under way at once in this single thread.
"""
# Plain calls: pathlib would cost a container an import.
# ruff: noqa: PTH103, PTH118, PTH120, PTH123

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import signal
import socket
import stat
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn

from trellis.environments.guest.bash import SCRIPT_FD, Shell
from trellis.environments.guest.bytestreams import ByteStream
from trellis.environments.guest.following import Following, TooMuch
from trellis.environments.guest.launcher import Launcher
from trellis.environments.guest.pause import Pause, signal_all
from trellis.environments.guest.portal import Portal
from trellis.environments.guest.processes import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    call_oneself,
    exit_code,
    kill_descendants,
    prctl,
)
from trellis.environments.guest.streams import CHUNK_BYTES, Capture, Loop, Process, memory_file, pipe, write_all

if TYPE_CHECKING:
    Answer = Callable[..., None]

FRAME = struct.Struct(">II")
INLINE_SCRIPT_BYTES = 64 << 10
"""A longer script is handed to bash as a file: the kernel limits one argument to 128 KiB."""
FILE_CAP_BYTES = 1 << 30
"""The largest file that `read_file` brings to the host."""
NOT_STARTED = {
    "exit_code": 126,
    "signal": None,
    "timed_out": False,
    "duration_s": 0.0,
    "spilled": (),
    "stdout_bytes": 0,
}


class Channel:
    """Frames to and from the host."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self._sink = sink
        self._buffer = bytearray()

    def receive(self) -> list[tuple[dict[str, Any], bytes]] | None:
        """The frames that are complete after one read; None when the host is gone."""
        data = os.read(self.source, CHUNK_BYTES * 16)
        if not data:
            return None
        self._buffer += data
        frames = []
        while len(self._buffer) >= FRAME.size:
            header_size, payload_size = FRAME.unpack_from(self._buffer)
            start = FRAME.size + header_size
            end = start + payload_size
            if len(self._buffer) < end:
                break
            frames.append((json.loads(self._buffer[FRAME.size : start]), bytes(self._buffer[start:end])))
            del self._buffer[:end]
        return frames

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        encoded = json.dumps(header).encode()
        write_all(self._sink, FRAME.pack(len(encoded), len(payload)) + encoded + payload)


class Guest:
    """Answers the host's requests until it says shutdown or goes away."""

    def __init__(self, channel: Channel, warm: socket.socket | None = None) -> None:
        self.loop = Loop()
        self.launcher = Launcher(self.loop, warm)
        self.env: dict[str, str] = {}
        self.workdir = "/"
        self._spill_folder = "/tmp"
        self._spilled = itertools.count(1)
        self._offered = itertools.count(1)
        self._channel = channel
        self._commands: dict[int, Process] = {}
        self._errors: dict[int, Capture] = {}
        self._shells: dict[int, Shell] = {}
        self._streams: dict[int, ByteStream] = {}
        self._portal = Portal(self.loop, self.offer_stream)
        self._pause = Pause(self.loop, self.launcher, self._shells)
        self._held: list[tuple[dict[str, Any], bytes]] = []
        self._following: Following | None = None
        self.loop.watch(channel.source, self._receive)

    def run(self) -> NoReturn:
        while True:
            self.loop.run_once()

    def spill_path(self) -> str:
        return f"{self._spill_folder}/output-{next(self._spilled)}.txt"

    def _receive(self) -> None:
        frames = self._channel.receive()
        if frames is None:
            self._shutdown()
        for header, payload in frames:
            self._handle(header, payload)

    def _handle(self, header: dict[str, Any], payload: bytes) -> None:
        if self._pause.active and header["op"] not in ("thaw", "kill_all", "shutdown"):
            self._held.append((header, payload))
            return
        number = header.pop("id")

        def answer(result: Mapping[str, Any], payload: bytes = b"") -> None:
            self._channel.send({"id": number, **result}, payload)

        try:
            getattr(self, "_op_" + header.pop("op"))(number, answer, payload, **header)
        except OSError as error:
            answer({"errno": error.errno or errno.EIO, "message": error.strerror or str(error)})
        except Exception:
            answer({"broken": traceback.format_exc()})

    def _op_hello(
        self, _: int, answer: Answer, __: bytes, *, env: dict[str, str], workdir: str, spill: str, warm: dict[str, str]
    ) -> None:
        self.env, self.workdir, self._spill_folder = env, workdir, spill
        self.launcher.warm_env = warm
        os.chdir(workdir)
        answer({"pid": os.getpid(), "python": sys.version.split()[0]})
        self.launcher.prepare()

    def _op_ping(self, _: int, answer: Answer, __: bytes) -> None:
        answer({})

    def _op_exec(
        self,
        number: int,
        answer: Answer,
        stdin: bytes,
        *,
        command: str | list[str],
        env: dict[str, str],
        cwd: str | None,
        limit_s: float,
    ) -> None:
        began_s = time.monotonic()
        timed_out = False

        def ended(status: int) -> None:
            deadline.cancel()
            del self._commands[number], self._errors[number]
            code, killer = exit_code(status)
            (out, spilled_out), (err, spilled_err) = output.take(last=True), errors.take(last=True)
            result = {
                "exit_code": code,
                "signal": killer,
                "timed_out": timed_out,
                "duration_s": time.monotonic() - began_s,
                "spilled": spilled_out + spilled_err,
                "stdout_bytes": len(out),
            }
            answer(result, out + err)

        def time_out() -> None:
            nonlocal timed_out
            if process.running:
                timed_out = True
                process.kill()

        with ExitStack() as passed, ExitStack() as ours:
            try:
                files = {0: memory_file(stdin) if stdin else os.open(os.devnull, os.O_RDONLY)}
                passed.callback(os.close, files[0])
                output_read, files[1] = pipe(ours, passed)
                error_read, files[2] = pipe(ours, passed)
                argv = list(command)
                if isinstance(command, str):
                    argv = ["bash", "-c", command]
                    script = command.encode("utf-8", "surrogateescape")
                    if len(script) > INLINE_SCRIPT_BYTES:
                        files[SCRIPT_FD] = memory_file(script)
                        passed.callback(os.close, files[SCRIPT_FD])
                        argv = ["bash", f"/proc/self/fd/{SCRIPT_FD}"]
                folder = os.path.join(self.workdir, cwd or "")
                process = self.launcher.start(argv, {**self.env, **env}, folder, files, ended)
            except OSError as error:  # the world has used up its processes or files: the command's failure, not ours
                answer(NOT_STARTED, f"the command cannot be started: {error.strerror}\n".encode())
                return
            ours.pop_all()
        self._commands[number] = process
        output = Capture(self.loop, output_read, self.spill_path)
        errors = self._errors[number] = Capture(self.loop, error_read, self.spill_path)
        deadline = self.loop.after(limit_s, time_out)

    def _op_open_process(
        self, number: int, answer: Answer, _: bytes, *, command: list[str], env: dict[str, str], cwd: str | None
    ) -> None:
        """A command whose input and output are a stream of this number; its end is told on the stream as well."""
        began_s = time.monotonic()

        def tell_end(code: int, killer: int | None, text: bytes, spilled: Sequence[str] = ()) -> None:
            result = {
                "exit_code": code,
                "signal": killer,
                "duration_s": time.monotonic() - began_s,
                "spilled": spilled,
            }
            self._channel.send({"stream": number, "what": "ended", "result": result}, text)

        def ended(status: int) -> None:
            del self._commands[number], self._errors[number]
            tell_end(*exit_code(status), *errors.take(last=True))
            if number in self._streams:
                self._streams[number].end()  # nobody reads what the host still sends
            self._maybe_gone(number)

        with ExitStack() as passed, ExitStack() as ours:
            files = {}
            try:
                files[0], sink = pipe(passed, ours)
                source, files[1] = pipe(ours, passed)
                error_read, files[2] = pipe(ours, passed)
                folder = os.path.join(self.workdir, cwd or "")
                process = self.launcher.start(command, {**self.env, **env}, folder, files, ended)
            except OSError as error:  # the world has used up its processes or files: as if it had ended at once
                tell_end(126, None, f"{command[0]} cannot be started: {error.strerror}\n".encode())
                self._maybe_gone(number)
                answer({})
                return
            ours.pop_all()
        self._commands[number] = process
        errors = self._errors[number] = Capture(self.loop, error_read, self.spill_path)
        self.open_stream(number, source, sink)
        answer({})

    def _op_signal_process(self, _: int, answer: Answer, __: bytes, *, process: int, signal: int) -> None:
        if process in self._commands:
            self._commands[process].signal(signal)
        answer({})

    # --- streams; these are told, not asked, so nothing is answered ---

    def open_stream(self, number: int, source: int, sink: int) -> None:
        def closed() -> None:
            del self._streams[number]
            self._maybe_gone(number)

        self._streams[number] = ByteStream(self.loop, self._channel.send, number, source, sink, closed)

    def offer_stream(self, source: int, sink: int, facts: Mapping[str, Any]) -> None:
        """Open a stream that the host did not ask for, for instance a connection that was made inside."""
        number = -next(self._offered)
        self._channel.send({"stream": number, "what": "opened", "facts": facts})
        self.open_stream(number, source, sink)

    def _op_listen(self, _: int, answer: Answer, __: bytes, *, listeners: list[dict[str, Any]]) -> None:
        """Hand connections to these addresses of the world to the host from now on."""
        for number, listener in enumerate(listeners):
            self._portal.listen(number, **listener)
        answer({})

    def _maybe_gone(self, number: int) -> None:
        """Nothing more will be said of a stream when both its directions and its program have ended."""
        if number not in self._streams and number not in self._commands:
            self._channel.send({"stream": number, "what": "closed"})

    def _op_stream(self, number: int, _: Answer, data: bytes, *, what: str, size: int = 0) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if what == "data":
            stream.take(data)
        elif what == "taken":
            stream.more_credit(size)
        elif what == "end":
            stream.end()
        else:
            stream.close(reset=what == "reset")

    def _op_cancel(self, _: int, answer: Answer, __: bytes, *, target: int) -> None:
        if target in self._commands:
            self._commands[target].kill()
        answer({})

    def _op_open_shell(self, number: int, answer: Answer, state: bytes) -> None:
        self._shells[number] = Shell(self.loop, self._launch_shell, self.spill_path, self.env, self.workdir, state)
        answer({})

    def _launch_shell(self, argv: list[str], files: dict[int, int], ended: Callable[[int], None]) -> Process:
        return self.launcher.start(argv, self.env, self.workdir, files, ended)

    def _op_run_in_shell(
        self, _: int, answer: Answer, command: bytes, *, shell: int, limit_s: float, interactive: bool
    ) -> None:
        self._shells[shell].run(command, limit_s, answer, interactive=interactive)

    def _op_send_to_shell(self, _: int, answer: Answer, data: bytes, *, shell: int, limit_s: float) -> None:
        self._shells[shell].send(data, limit_s, answer)

    def _op_wait_for_shell(self, _: int, answer: Answer, __: bytes, *, shell: int, limit_s: float) -> None:
        self._shells[shell].wait(limit_s, answer)

    def _op_interrupt_shell(self, _: int, answer: Answer, __: bytes, *, shell: int) -> None:
        self._shells[shell].interrupt(answer)

    def _op_cancel_in_shell(self, _: int, answer: Answer, __: bytes, *, shell: int) -> None:
        self._shells[shell].cancel()
        answer({})

    def _op_state_of_shell(self, _: int, answer: Answer, __: bytes, *, shell: int) -> None:
        self._shells[shell].tell_state(answer)

    def _op_close_shell(self, _: int, answer: Answer, __: bytes, *, shell: int) -> None:
        self._shells.pop(shell).close()
        answer({})

    def _op_read_file(self, _: int, answer: Answer, __: bytes, *, path: str, offset: int, size: int) -> None:
        # Opening a pipe or a device must not block; reading one is refused.
        fd = os.open(os.path.join(self.workdir, path), os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            facts = os.fstat(fd)
            if stat.S_ISDIR(facts.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if facts.st_size > FILE_CAP_BYTES:
                raise OSError(errno.EFBIG, f"more than the {FILE_CAP_BYTES >> 20} MiB that can be read")
            file.seek(offset)
            answer({}, file.read(size))

    def _op_write_file(self, _: int, answer: Answer, data: bytes, *, path: str) -> None:
        path = os.path.join(self.workdir, path)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666)
        with open(fd, "wb") as file:
            file.write(data)
        answer({})

    def _op_changed_files(self, _: int, answer: Answer, __: bytes) -> None:
        """What changed in the workdir since this was last asked; see following.py. After `too_much` it begins anew."""
        following = self._following or Following(self.workdir)
        try:
            files, more, texts = following.look()
        except TooMuch as why:
            self._following = None
            answer({"too_much": str(why)})
            return
        self._following = following
        answer({"files": files, "more": more}, texts)

    def _op_freeze(self, _: int, answer: Answer, __: bytes, *, aside: bool = False) -> None:
        """Stop all, and answer when they have stopped: whoever captures files now must not be raced. What the host asks
        for until `thaw` is done after it. See pause.py."""
        self._pause.begin(aside, lambda: answer({"own": self._pause.own(), "running": self._pause.running()}))

    def _op_thaw(self, _: int, answer: Answer, __: bytes) -> None:
        def thawed() -> None:
            answer({})
            held, self._held = self._held, []
            for header, payload in held:
                self._handle(header, payload)

        self._pause.end(self.workdir, thawed)

    def _op_running(self, _: int, answer: Answer, __: bytes) -> None:
        self._pause.when_known(lambda: answer({"running": self._pause.running()}))

    def _op_kill_all(self, _: int, answer: Answer, __: bytes, *, why: str) -> None:
        """Kill all that runs, background processes too, in one call that no fork escapes; the world lives on. Whatever
        is asked for after this, or by those who hear of it, is not killed by it."""
        for errors in self._errors.values():
            errors.add(why.encode())
        for shell in self._shells.values():
            shell.note(why.encode())
        signal_all(signal.SIGKILL)
        self.launcher.all_killed()
        answer({})

    def _op_shutdown(self, _: int, answer: Answer, __: bytes) -> None:
        answer({})
        self._shutdown()

    def _shutdown(self) -> NoReturn:
        if os.getpid() == 1:
            signal_all(signal.SIGKILL)
        else:
            kill_descendants(os.getpid())
        os._exit(0)


def main(source: int = 0, sink: int = 1, warm: int | None = None) -> NoReturn:
    """Serve the host on two file descriptors, which no command can reach: this process cannot be looked into, and
    its commands do not inherit them."""
    channel = Channel(os.dup(source), os.dup(sink))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in {0, 1, source, sink}:
        os.dup2(null, fd)
    prctl(PR_SET_DUMPABLE, 0)
    call_oneself(b"trellis")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()  # a fork then copies fewer pages
    Guest(channel, None if warm is None else socket.socket(fileno=warm)).run()


if __name__ == "__main__":
    main()
