"""What the attacks share: a world to attack, an innocent one beside it, and the check that follows every attack."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
import pytest_asyncio

from trellis.environments.environment import (
    Environment,
    EnvironmentFault,
    EnvironmentSpec,
    ExecResult,
    OnEvent,
    Resources,
    ignore,
)

LABEL = f"hostile-{os.getpid()}"
LIMITS = Resources(cpus=1, memory_mb=256, disk_mb=64, inodes=3000, pids=60)
PROMPTLY_S = 15.0
"""How long a trivial command may take in a world that is unharmed: the machine may be busy with other things."""
RECOVERY_S = 20.0
"""How long an attacked world may take to work again, or to be a fault."""

PRELUDE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ARM = os.uname().machine == "aarch64"
def call(numbers, *arguments):
    '''Make a system call, by its numbers on x86_64 and aarch64; what it returned, or minus the error.'''
    number = numbers[ARM]
    if number is None:
        return -errno.ENOSYS
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return -ctypes.get_errno() if result == -1 else result
"""
"""What every Python program of an attacker begins with."""


class StartWorld(Protocol):
    async def __call__(self, spec: EnvironmentSpec, on_event: OnEvent = ignore, label: str = LABEL) -> Environment: ...


async def attack(world: Environment, program: str, *arguments: str, timeout_s: float = 30.0) -> ExecResult:
    """Run an attacker's Python program in a world."""
    return await world.exec(["python3", "-c", PRELUDE + program, *arguments], timeout_s=timeout_s)


async def contained(world: Environment, program: str, *arguments: str) -> None:
    """Fail if an attacker's Python program, which prints what it reaches, reaches anything, or breaks before it has
    tried everything."""
    result = await attack(world, program, *arguments)
    assert (result.stdout, result.exit_code) == (b"", 0), result.text


def host_processes(marker: str) -> list[int]:
    """The processes that this machine shows whose command line has `marker`, whatever world they are in."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if marker.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def host_settings() -> dict[str, object]:
    """What an attack could change of this machine."""
    settings: dict[str, object] = {"name": socket.gethostname()}
    for name in ("kernel/core_pattern", "kernel/sysrq", "kernel/modprobe", "vm/overcommit_memory", "fs/file-max"):
        with suppress(OSError):
            settings[name] = Path("/proc/sys", name).read_text()
    return settings


def host_clock_s() -> float:
    """What the clock was set to, apart from its going."""
    return time.time() - time.monotonic()


class Arena:
    """The world under attack and the innocent one."""

    def __init__(self, start: StartWorld, spec: EnvironmentSpec) -> None:
        self._start, self._spec = start, spec
        self.token = secrets.token_hex(16)
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        """What the attacked world reported unasked."""
        self._settings, self._clock_s = host_settings(), host_clock_s()

    async def open(self) -> Arena:
        await self._renew()
        self.bystander = await self._start(self._spec)
        await self.bystander.write_file(f"guarded-{self.token}", self.token.encode())
        return self

    async def check(self) -> None:
        """Fail unless the host and the innocent world are unharmed and the attacked one is usable or a fault."""
        await self.check_bystander()
        assert host_settings() == self._settings, "the attack changed the host"
        assert abs(host_clock_s() - self._clock_s) < 600, "the attack changed the host's clock"
        if not await self._is_usable():
            with suppress(EnvironmentFault):
                await self.world.close()
            await self._renew()

    async def _renew(self) -> None:
        self.world = await self._start(self._spec, lambda kind, facts: self.events.append((kind, facts)))

    async def check_bystander(self) -> None:
        began_s = time.monotonic()
        answer = await self.bystander.exec("ls; cat guarded-*", timeout_s=PROMPTLY_S)
        assert answer.stdout.decode() == f"guarded-{self.token}\n{self.token}", "the attack reached another world"
        assert time.monotonic() - began_s < PROMPTLY_S, "the attack slowed another world down"

    async def _is_usable(self) -> bool:
        """Sweep away what is left of the attack; False if the world is a fault."""
        deadline = time.monotonic() + RECOVERY_S
        clean = "cd / && chmod -R u+rwx $OLDPWD; rm -rf $OLDPWD/* /dev/shm/* /tmp/*; echo alive; kill -9 -1 $$"
        while time.monotonic() < deadline:
            try:
                if b"alive\n" in (await self.world.exec(clean, timeout_s=30)).stdout:
                    return True
            except EnvironmentFault:
                return False
            await asyncio.sleep(0.2)
        pytest.fail(f"the attacked world is neither usable nor a fault after {RECOVERY_S:g} s")


@pytest.mark.hostile
@pytest.mark.asyncio(loop_scope="class")
class Attacks:
    """The base of all groups of attacks: `world` is attacked, and `arena.bystander` must not notice."""

    spec: ClassVar[EnvironmentSpec]
    """The kind that is attacked; its limits are set by the suite."""

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def start(cls) -> AsyncIterator[StartWorld]:
        """Starts worlds and closes them after the class."""
        started: list[Environment] = []

        async def start(spec: EnvironmentSpec, on_event: OnEvent = ignore, label: str = LABEL) -> Environment:
            world = await spec.start(label=label, on_event=on_event)
            started.append(world)
            return world

        yield start
        for world in started:
            with suppress(EnvironmentFault):
                await world.close()

    @pytest.fixture(scope="class")
    @classmethod
    def limited(cls) -> EnvironmentSpec:
        return replace(cls.spec, resources=LIMITS)

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def arena(cls, start: StartWorld, limited: EnvironmentSpec) -> Arena:
        return await Arena(start, limited).open()

    @pytest_asyncio.fixture(loop_scope="class", autouse=True)
    async def harm(self, arena: Arena) -> AsyncIterator[None]:
        """Checks the arena after every attack."""
        yield
        await arena.check()

    @pytest.fixture
    def world(self, arena: Arena) -> Environment:
        return arena.world


def attacks(suite: type) -> Sequence[tuple[str, str]]:
    """The name and the docstring of every attack of a suite, in order."""
    found = {}
    for group in suite.__mro__:
        for name, member in vars(group).items():
            if name.startswith("test_") and name not in found:
                found[name] = (member.__doc__ or "").strip()
    return list(found.items())
