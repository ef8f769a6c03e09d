"""The worlds that tools act in: the protocol, its value types and its exceptions.

An `EnvironmentSpec` is the recipe of a world and also its factory: it is frozen, can be written as JSON, and
`await spec.start(label=...)` gives a started, isolated `Environment`. Which code that takes is looked up when it is
first needed, so importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Kind = Literal["auto", "sandbox", "docker", "local"]

DEFAULT_TIMEOUT_S = 120.0

OnEvent = Callable[[str, Mapping[str, Any]], None]
"""Is told what happened in a world without having been asked for: `on_event("network.denied", {"host": ...})`."""


def ignore(kind: str, facts: Mapping[str, Any]) -> None:
    """The `OnEvent` of those who do not want to know."""


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
    one's folder, variables and functions are gone. `waiting` is true when the command has not ended and waits for
    input (only of interactive commands); `exit_code` is then -1, and `send` or `interrupt` go on with it.
    """

    exit_code: int
    output: bytes = b""
    timed_out: bool = False
    restarted: bool = False
    waiting: bool = False
    duration_s: float = 0.0
    spilled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What a world may use at most."""

    cpus: float = 2.0
    memory_mb: int = 4096
    disk_mb: int = 8192
    inodes: int = 1_000_000
    """Files and folders that a world may add."""
    pids: int = 512


@dataclass(frozen=True, slots=True)
class Files:
    """A file or folder of the host, copied into the world before set-up. `target` is relative to the workdir."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a world at one moment, from which others can be forked.

    Captured: files, folders, symlinks, their modes and owners below the world's writable places, deletions, holes in
    sparse files (docker's layers fill them); and of each open shell that is not running a command its working folder,
    variables, functions, aliases and options: `open_shell` with the same name goes on with them in a fork.
    Not captured: processes and what they hold in memory. `data` belongs to the kind of environment that made it and
    can be written as JSON.
    """

    kind: str
    id: str
    data: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """What ran when the snapshot was taken and is not in it, one line each ("process 41: python3 server.py")."""

    def to_json(self) -> dict[str, Any]:
        """What it takes to find it again, also from another process: see `exists`."""
        return {"kind": self.kind, "id": self.id, "data": self.data, "left_out": list(self.left_out)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        return cls(data["kind"], data["id"], data["data"], tuple(data["left_out"]))

    async def exists(self) -> bool:
        """Is it on this machine, whole and not released, so that worlds can be started from it? A snapshot outlives the
        process that took it until it is released or reaped.

        Raises:
            EnvironmentFault: the engine could not be asked.
        """
        from trellis.environments.kinds import exists

        return await exists(self)

    async def release(self) -> None:
        """Say that no further fork will be made from this snapshot. What it holds is removed once no world that was
        forked from it runs; until then, or if this is never called, the label's `reap` removes it.

        Raises:
            EnvironmentFault: the engine could not remove it.
        """
        from trellis.environments.kinds import release

        await release(self)


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs, relative to the workdir."""

    path: str
    kind: Literal["added", "modified", "deleted"]


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs in the workdir between a snapshot and now."""

    changes: tuple[Change, ...] = ()
    """Sorted by path."""
    patch: bytes = b""
    """What `git apply` needs to make the snapshot's workdir this one: text, binary files, modes and symlinks."""
    left_out: tuple[str, ...] = ()
    """What is not in the patch although it changed, one line each ("model.bin: too large for a patch")."""


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file of the workdir that changed; links and pipes are files, folders are not."""

    path: str
    """Relative to the workdir; bytes that are not UTF-8 are lone surrogates."""
    kind: Literal["added", "modified", "deleted"]
    mode: int
    """Type and permissions, as `stat` gives them; of what was deleted, those that it had."""
    size: int
    """Bytes; of what was deleted, those that it had."""
    sha256: str
    """Of its content, or of where a link leads; "" where it was deleted, could not be read, or is very large."""
    text: bytes | None = None
    """The content, if it is UTF-8 text of moderate size."""
    before: bytes | None = None
    """The content that it had when changes began to be followed, with its first change, where that was kept."""


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """What changed in the workdir since it was last looked at."""

    files: tuple[ChangedFile, ...] = ()
    """Sorted by path."""
    more: int = 0
    """How many changed besides: there are too many to be told."""


class Shell(Protocol):
    """A bash whose working folder, variables, functions and background jobs last between commands."""

    async def run(
        self, command: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, interactive: bool = False
    ) -> ShellResult:
        """Run `command`; after `timeout_s` its whole process tree is killed and what it printed is returned.

        The command's standard input is empty, unless it is `interactive`: then it is a terminal, and this returns, with
        `waiting`, as soon as something in it waits for input.

        Raises:
            ValueError: the command before has not ended: it waits for input.
            EnvironmentFault: the world is gone.
        """
        ...

    async def send(self, data: bytes, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ShellResult:
        """Give input to the interactive command that waits for it, and go on as `run` does. It arrives as it is: what
        reads lines goes on waiting for the line feed. b"" is the end of input for the program that waits.

        Raises:
            ValueError: no command waits for input.
            EnvironmentFault: the world is gone.
        """
        ...

    async def wait(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ShellResult:
        """Let the interactive command that waits for input go on without any, until it ends; after `timeout_s` it is
        left as it is, and the result says `waiting`.

        Raises:
            ValueError: no command waits for input.
            EnvironmentFault: the world is gone.
        """
        ...

    async def interrupt(self) -> ShellResult:
        """End the interactive command that waits for input, as Ctrl-C does; the shell keeps its state if it can.

        Raises:
            ValueError: no command waits for input.
            EnvironmentFault: the world is gone.
        """
        ...

    async def close(self) -> None: ...


class Process(Protocol):
    """A program that runs on while the world is used otherwise: a server, a kernel, a driver."""

    async def read(self) -> bytes:
        """The next piece of its standard output, as soon as there is one; b"" at the end.

        Unread output holds the program up, as a full pipe does.

        Raises:
            EnvironmentFault: the world is gone.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Give it standard input; waits while the program does not take it. What comes after its end is thrown away.

        Raises:
            EnvironmentFault: the world is gone.
        """
        ...

    async def close_stdin(self) -> None: ...

    async def signal(self, number: int) -> None:
        """Send a signal to the program itself (SIGINT is Ctrl-C); nothing happens if it has ended."""
        ...

    async def wait(self) -> ExecResult:
        """How it ended; `stderr` holds the end of its standard error, `stdout` is empty (see `read`).

        Raises:
            EnvironmentFault: the world is gone.
        """
        ...

    async def close(self) -> None:
        """Kill it and everything it started. Safe to call twice."""
        ...


class StartWorld(Protocol):
    """Starts a world from its recipe: `EnvironmentSpec.start`, or a `Pool` that does it."""

    async def __call__(
        self, spec: EnvironmentSpec, /, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore
    ) -> Environment: ...


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

    async def open_process(
        self, command: Sequence[str], *, env: Mapping[str, str] = {}, cwd: str | None = None
    ) -> Process:
        """Start a program whose standard input and output are read and written while it runs.

        A program that cannot be started ends at once with the exit code that a shell would give.

        Raises:
            EnvironmentFault: the world is gone.
        """
        ...

    async def open_shell(self, name: str = "main") -> Shell:
        """A new bash. In a fork it goes on with what the snapshot holds of the shell of that name; one more under the
        name of an open one is `name#2`, and so on, there as well."""
        ...

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

    async def diff(self, snapshot: Snapshot) -> Changes:
        """What changed in the workdir since a snapshot of this world, or of one that it was forked from."""
        ...

    async def adopt(self, label: str, on_event: OnEvent) -> None:
        """Belong to `label` from now on, and tell this `on_event`: a world that was started ahead gets its user."""
        ...

    async def close(self) -> None:
        """Leaves no process, mount, container or file. Safe to call twice."""
        ...


@runtime_checkable
class TellsChanges(Protocol):
    """An environment that can tell which files change in its workdir, cheaply enough to be asked after every use."""

    async def changed_files(self) -> ChangedFiles | None:
        """What changed since this was last asked; the first time, nothing. What is in folders that tools keep for
        themselves (`.git`, `node_modules`, `__pycache__`, ...) is not told.

        None: it cannot be followed, because there is too much in it. That is final, and was told once as the event
        `changes.not_followed`.

        Raises:
            EnvironmentFault: the world is gone.
        """
        ...


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """The recipe of a world."""

    kind: str = "auto"
    """`auto` takes docker if an engine and the image are there, else sandbox; `local` only when asked for by name, and
    so are the kinds of other packages."""
    image: str = ""
    """Docker image; empty means the Trellis base image."""
    resources: Resources = field(default_factory=Resources)
    network: Literal["none", "full"] = "none"
    """`full` is whatever the host has."""
    allow: tuple[str, ...] = ()
    """With network "none": "host:port" that can be reached all the same, through a proxy that is the only way out."""
    setup_network: Literal["none", "full"] | None = None
    """While `setup` runs; None means as afterwards."""
    setup_allow: tuple[str, ...] | None = None
    """While `setup` runs; None means as afterwards."""
    dockerfile: str = ""
    """docker only: a folder of the host with a Dockerfile, built into the image unless that has been done."""
    compose: str = ""
    """docker only: a Compose file of the host; its services run beside the world, on a private network."""
    service: str = ""
    """Which service of the Compose file is the world; empty means the only one, or the one called "agent"."""
    runtime: str = ""
    """docker only: the engine's runtime, for example "runsc"; empty means its default."""
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

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: an entry of an allow-list is malformed, or it contradicts the network; one line says what.
        """
        if self.allow or self.setup_allow:
            from trellis.environments.network.allow import check_policy

            check_policy(self.network, self.allow)
            check_policy(self.setup_network or self.network, self.setup_allow or (), setting="setup_")

    async def start(self, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore) -> Environment:
        """Start a world, from a snapshot if one is given (files and set-up are then already in it).

        `label` ("run/episode") is attached to all it creates, so that `reap(label)` can remove what was left behind.
        `on_event` is told of what happens unasked, for example of a denied connection.

        Raises:
            EnvironmentUnavailable: this machine cannot provide the kind.
            EnvironmentFault: starting or set-up failed.
        """
        from trellis.environments.kinds import module_of, resolve_kind

        module = module_of(await resolve_kind(self))
        environment: Environment = await module.start(self, label=label, snapshot=snapshot, on_event=on_event)
        return environment
