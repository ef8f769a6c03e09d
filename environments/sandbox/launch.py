"""The host's side of the templates: asking them for guests and warm interpreters (see template.py)."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trellis.environments.capture.forking import finished
from trellis.environments.channel import Channel
from trellis.environments.environment import EnvironmentFault, EnvironmentUnavailable
from trellis.environments.sandbox.jail import NAMESPACES, Jail
from trellis.environments.variables import INTERPRETER_ENV, SYSTEM_PATH

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0

_BOOT = "import sys; del sys.path[0]; from trellis.environments.sandbox.template import main; main()"


def command_env(home: str, tmp: str) -> dict[str, str]:
    """The variables of every command: nothing of the host's, and this interpreter as `python3`."""
    path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
    return {"PATH": path, "HOME": home, "TMPDIR": tmp, "USER": "agent", "SHELL": "/bin/bash", **INTERPRETER_ENV}


class Template:
    """One template process of this process. It ends when its socket closes, so with this process at the latest."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), *modules],
                cwd="/",
                env={"PATH": SYSTEM_PATH, "HOME": "/nonexistent", **INTERPRETER_ENV},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._owner = os.getpid()
        atexit.register(self._end)

    @property
    def alive(self) -> bool:
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(self, request: dict[str, object], descriptors: Sequence[int]) -> None:
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
        except OSError as error:
            raise EnvironmentFault(f"the process that starts worlds is gone: {error.strerror}") from None

    def _end(self) -> None:
        if self._owner == os.getpid():
            self._socket.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_TIMEOUT_S)


_templates: dict[tuple[str, ...], Template] = {}


def _template(modules: tuple[str, ...]) -> Template:
    if modules not in _templates or not _templates[modules].alive:
        _templates[modules] = Template(modules)
    return _templates[modules]


@dataclass(slots=True)
class Launched:
    """A guest that runs, with the sockets that lead to it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    statuses: list[socket.socket]
    log: Path
    mounts: int | None
    """A descriptor of the world's mount namespace; None of a world without a jail."""

    def channel(self, name: str) -> Channel:
        """`name` is what the world is called in errors."""
        return Channel(name, self.reader, self.writer, lambda: _tail(self.log))

    async def swap(self, jail: Jail, own: Sequence[int]) -> str:
        """See swap.swap.

        Raises:
            EnvironmentFault: the world has lost its files.
        """
        assert self.mounts is not None
        status, status_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with status, self.log.open("ab") as log_file:
            with status_end:
                request: dict[str, object] = {"become": "swap", "jail": asdict(jail), "cgroups": (), "own": own}
                _template(()).ask(request, [status_end.fileno(), log_file.fileno(), self.mounts])
            answer, _ = await _answer(status, self.log)
        if "error" in answer:
            raise EnvironmentFault(f"a world lost its files in a snapshot: {answer['error']}")
        return str(answer["refused"])

    async def ended(self) -> None:
        """Wait until no process of the world is left.

        Raises:
            EnvironmentFault: some would not end.
        """
        if self.mounts is not None:
            os.close(self.mounts)
            self.mounts = None
        await _all_end(self.statuses)


async def launch(log: Path, *, jail: Jail | None, cgroups: Sequence[str], preload: tuple[str, ...]) -> Launched:
    """Start a guest, and a warm interpreter beside it if there is something to preload.

    Raises:
        EnvironmentUnavailable: the kernel refused the jail.
        EnvironmentFault: anything else went wrong.
    """
    request: dict[str, object] = {
        "jail": None if jail is None else asdict(jail),
        "cgroups": [f"{group}/cgroup.procs" for group in cgroups],
    }
    statuses: list[socket.socket] = []
    try:
        with ExitStack() as ours, ExitStack() as theirs:
            channel, channel_end = _pair(ours, theirs)
            status_end = _status_of_one_more(statuses, theirs)
            log_file = theirs.enter_context(log.open("wb"))
            descriptors = [status_end.fileno(), log_file.fileno(), channel_end.fileno()]
            if preload:
                warm, warm_end = _pair(theirs, theirs, socket.SOCK_SEQPACKET)
                descriptors.append(warm_end.fileno())
            _template(()).ask({"become": "guest", **request}, descriptors)
            status_end.close()
            started, namespaces = await _answer(statuses[0], log)
            for descriptor in namespaces:
                theirs.callback(os.close, descriptor)
            if error := started.get("error"):
                raise EnvironmentUnavailable(f"this machine refuses the sandbox ({error}): {_advice()}")
            if preload:
                # Whether and when it becomes ready is between it and the guest, which does without until then.
                status_end = _status_of_one_more(statuses, theirs)
                descriptors = [status_end.fileno(), log_file.fileno(), warm.fileno(), *namespaces]
                _template(preload).ask({"become": "warm", **request}, descriptors)
            reader, writer = await asyncio.open_connection(sock=channel)
            mounts = os.dup(namespaces[NAMESPACES.index("mnt")]) if namespaces else None
            ours.pop_all()
    except BaseException:
        with suppress(EnvironmentFault):
            await finished(_all_end(statuses))  # what still starts would hinder whoever removes its files
        raise
    return Launched(reader, writer, statuses, log, mounts)


def _status_of_one_more(statuses: list[socket.socket], theirs: ExitStack) -> socket.socket:
    """The end for a process that is asked for: it is closed when that process and all its descendants have ended."""
    status, status_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    statuses.append(status)
    return theirs.enter_context(status_end)


async def _all_end(statuses: list[socket.socket]) -> None:
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            for status in statuses:
                status.setblocking(False)
                while await asyncio.get_running_loop().sock_recv(status, 1 << 16):
                    pass
    except TimeoutError:
        raise EnvironmentFault("the processes of a world would not end") from None
    finally:
        for status in statuses:
            status.close()


def _pair(
    ours: ExitStack, theirs: ExitStack, kind: socket.SocketKind = socket.SOCK_STREAM
) -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    ours.enter_context(one)
    theirs.enter_context(other)
    return one, other


async def _answer(status: socket.socket, log: Path) -> tuple[dict[str, Any], list[int]]:
    """What a process that was asked for says about itself, and the descriptors that come with it."""
    status.setblocking(False)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(status, readable.set)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await readable.wait()
    except TimeoutError:
        raise EnvironmentFault(f"a world did not start within {START_TIMEOUT_S:g} s") from None
    finally:
        loop.remove_reader(status)
    message, descriptors, _, _ = socket.recv_fds(status, 1 << 16, 16)
    if not message:
        raise EnvironmentFault(f"a world died while it started: {_tail(log).strip()}")
    return json.loads(message), descriptors


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-2000:] if log.exists() else ""


def _advice() -> str:
    """What to do where namespaces are refused; the settings are those of the usual distributions."""
    wanted = {
        "kernel.unprivileged_userns_clone": "1",
        "kernel.apparmor_restrict_unprivileged_userns": "0",
        "user.max_user_namespaces": "10000",
    }
    commands = []
    for name, value in wanted.items():
        setting = Path("/proc/sys", name.replace(".", "/"))
        now = setting.read_text().strip() if setting.exists() else value
        if now != value and not (now.isdigit() and int(now) > 1):
            commands.append(f"sysctl {name}={value}")
    allow = f"let an administrator run `{' && '.join(commands)}`" if commands else "allow unprivileged user namespaces"
    return f"{allow}, or use docker"
