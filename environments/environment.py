"""The worlds that tools act in: the protocol, its value types and its exceptions.

An `EnvironmentSpec` is the recipe of a world and also its factory: it is frozen, can be written as JSON, and
`await spec.start(label=...)` gives a started, isolated `Environment`. Which code that takes is looked up when it is
first needed, so importing this module costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["auto", "sandbox", "docker", "local"]

DEFAULT_TIMEOUT_S = 120.0


class EnvironmentFault(Exception):
    """The world broke: it died, its channel closed, its engine failed.

    Never shown to a model and never scored; the episode is retried.
    """


class EnvironmentUnavailable(EnvironmentFault):
    """This kind of world cannot be had on this machine. One line says why and what to do about it."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How one command ended.

    `exit_code` follows the shell's convention (128 + signal number when a signal ended it); `signal` and `timed_out`
    tell the three ways of ending apart. Output past the cap of `OUTPUT_CAP_BYTES` per stream is cut in the middle;
    `spilled` then names files in the environment that hold the whole.
    """

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    signal: int | None = None
    timed_out: bool = False
    duration_s: float = 0.0
    spilled: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.timed_out

    @property
    def text(self) -> str:
        """Both streams as text, standard output first; undecodable bytes become U+FFFD."""
        return (self.stdout + self.stderr).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class ShellResult:
    """How one command in a persistent shell ended; `output` is standard output and error in their order.

    `restarted` is true when the shell itself died or had to be killed: a new one has taken its place and the old
    one's folder, variables and functions are gone.
    """

    exit_code: int
    output: bytes = b""
    timed_out: bool = False
    restarted: bool = False
    duration_s: float = 0.0
    spilled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What a world may use at most."""

    cpus: float = 2.0
    memory_mb: int = 4096
    disk_mb: int = 8192
    pids: int = 512


@dataclass(frozen=True, slots=True)
class Files:
    """A file or folder of the host, copied into the world before set-up. `target` is relative to the workdir."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a world at one moment, from which others can be forked.

    Captured: files, folders, symlinks and their modes below the world's writable places. Not captured: processes.
    `data` belongs to the kind of environment that made it.
    """

    kind: str
    id: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Shell(Protocol):
    """A bash whose working folder, variables, functions and background jobs last between commands."""

    async def run(self, command: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ShellResult:
        """Run `command`; after `timeout_s` its whole process tree is killed and what it printed is returned.

        Raises:
            EnvironmentFault: the world is gone.
        """
        ...

    async def close(self) -> None: ...


class Environment(Protocol):
    """A started, isolated world. Relative paths are relative to `workdir`."""

    spec: EnvironmentSpec
    workdir: str

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stdin: bytes = b"",
        env: Mapping[str, str] = {},
        cwd: str | None = None,
    ) -> ExecResult:
        """Run a command (a string runs in bash, a sequence runs as it is) and wait until it ends.

        On timeout the whole process tree of the command is killed inside the world; this call returns in any case.

        Raises:
            EnvironmentFault: the world is gone or does not answer.
        """
        ...

    async def open_shell(self) -> Shell: ...

    async def read_file(self, path: str) -> bytes:
        """Raises FileNotFoundError, IsADirectoryError or PermissionError, as `open` does."""
        ...

    async def write_file(self, path: str, data: bytes) -> None:
        """Write a whole file; missing parent folders are made. Raises PermissionError or IsADirectoryError."""
        ...

    async def snapshot(self) -> Snapshot:
        """Capture the files as they are now; costs in proportion to what changed since the world started."""
        ...

    async def fork(self, snapshot: Snapshot | None = None) -> Environment:
        """A new world from a snapshot (from now, if none is given) that shares nothing with this one."""
        ...

    async def close(self) -> None:
        """Leaves no process, mount, container or file. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """The recipe of a world."""

    kind: Kind = "auto"
    """`auto` takes docker if an engine and the image are there, else sandbox; `local` only when asked for by name."""
    image: str = ""
    """Docker image; empty means the Trellis base image."""
    resources: Resources = field(default_factory=Resources)
    network: Literal["none", "full"] = "none"
    files: tuple[Files, ...] = ()
    setup: str = ""
    """A bash script run once, in the workdir, after the files are in place; a failure is a fault."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of every command in the world."""
    hidden: tuple[str, ...] = ()
    """Folders of the interpreter's prefix that must be empty inside, relative to its site-packages: a benchmark
    made from a library's bundled data hides that data here. The base image leaves them out when it is built."""
    preload: tuple[str, ...] = ()
    """Modules worth holding loaded for commands `python3 script.py ...`; a hint that changes speed, never results."""

    async def start(self, *, label: str, snapshot: Snapshot | None = None) -> Environment:
        """Start a world, from a snapshot if one is given (files and set-up are then already in it).

        `label` ("run/episode") is attached to all it creates, so that `reap(label)` can remove what was left behind.

        Raises:
            EnvironmentUnavailable: this machine cannot provide the kind.
            EnvironmentFault: starting or set-up failed.
        """
        from trellis.environments.kinds import resolve_kind

        module = importlib.import_module(f"trellis.environments.{await resolve_kind(self)}")
        environment: Environment = await module.start(self, label=label, snapshot=snapshot)
        return environment
