"""What the parts of the suite have in common: the world under test, and how others are started."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator
from typing import ClassVar, Protocol

import pytest
import pytest_asyncio

from trellis.environments.environment import Environment, EnvironmentSpec

ME = os.getpid()
"""In the name of whatever could be taken for that of another process that runs this suite beside this one."""
LABEL = f"conformance-{ME}"


class Start(Protocol):
    """Starts a world: the one under test, or another."""

    async def __call__(self, spec: EnvironmentSpec | None = None) -> Environment: ...


async def gone(world: Environment, marker: str, *, within_s: float = 5.0) -> bool:
    """Is no process left in the world whose command line has `marker`?"""
    deadline = time.monotonic() + within_s
    pattern = f"[{marker[0]}]{marker[1:]}"  # does not find itself
    while time.monotonic() < deadline:
        if not (
            await world.exec(f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q {shlex.quote(pattern)}")
        ).ok:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.conformance
@pytest.mark.asyncio(loop_scope="class")
class Base:
    spec: ClassVar[EnvironmentSpec]

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def start(cls) -> AsyncIterator[Start]:
        """Starts worlds and closes them after the class."""
        started: list[Environment] = []

        async def start(spec: EnvironmentSpec | None = None) -> Environment:
            world = await (spec or cls.spec).start(label=LABEL)
            started.append(world)
            return world

        yield start
        for world in started:
            await world.close()

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def world(cls, start: Start) -> Environment:
        return await start()
