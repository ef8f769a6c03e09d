"""What this machine can provide; tests that need more are skipped, with the reason that `trellis doctor` gives."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from trellis.environments import built, kinds
from trellis.environments.environment import Kind

pytest.register_assert_rewrite("trellis.environments.conformance", "trellis.environments.hostile")


@functools.cache
def _reasons() -> dict[str, str]:
    with ThreadPoolExecutor(1) as thread:  # a fixture may ask from within an event loop
        found = thread.submit(lambda: asyncio.run(kinds.doctor())).result()
    return {facts.kind: "" if facts.available else facts.reason for facts in found}


def need(kind: str) -> None:
    if reason := _reasons()[kind]:
        pytest.skip(f"{kind} is not to be had here: {reason}")


@pytest.fixture(scope="session")
def sandbox() -> None:
    need("sandbox")


@pytest.fixture(scope="session")
def docker() -> None:
    need("docker")


@pytest.fixture(params=["local", "sandbox", pytest.param("docker", marks=pytest.mark.docker)])
def kind(request: pytest.FixtureRequest) -> Kind:
    need(request.param)
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="session", autouse=True)
def _no_traces() -> Iterator[None]:
    """Snapshots stay until their label is reaped; labels name the process, because others may test beside this one.
    What was built for these tests is of no use to anybody else."""
    before = asyncio.run(_built())
    yield
    for label in ("conformance", "hostile", "test"):
        asyncio.run(kinds.reap(f"{label}-{os.getpid()}"))
    asyncio.run(_remove_built(before))


async def _built() -> set[str]:
    return {found.key for cache in await kinds.caches() for found in await cache.find()}


async def _remove_built(before: set[str]) -> None:
    for cache in await kinds.caches():
        new = [found for found in await cache.find() if found.key not in before]
        await built.evict(_Part(cache, new), 0)


class _Part:
    """A cache of which only a part may be evicted."""

    def __init__(self, cache: built.Cache, part: list[built.Built]) -> None:
        self.what, self.has, self.remove = cache.what, cache.has, cache.remove
        self._part = part

    async def find(self) -> list[built.Built]:
        return self._part
