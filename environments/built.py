"""What was built once and is kept for later starts: images with files and set-up in them, layers of a sandbox.

Each has a key, the hash of all that went into it, and two lock files in the store's folder `built`. `<key>.build` is
locked by whoever builds it, so that many starts, in this process and in others, build once. `<key>.use` is locked,
shared, by every process that uses it, until the label it is used under is reaped; its time is that of the last use.
What nobody uses is evicted, least recently used first, when a cache is larger than its budget. The kernel drops the
locks of a process that dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from trellis.environments import store
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, EnvironmentUnavailable

BUDGET = "TRELLIS_BUILT_GB"
DEFAULT_BUDGET_GB = 20.0
BUILD_TIMEOUT_S = 3600.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Built:
    """One thing in a cache."""

    key: str
    name: str
    """What people know it by."""
    bytes: int
    """What removing it gives back."""
    last_used: float
    """Seconds since the epoch."""


class Cache(Protocol):
    """Where built things of one kind lie."""

    what: str
    """ "built image", "built layer"."""

    async def has(self, key: str) -> bool: ...

    async def find(self) -> list[Built]: ...

    async def remove(self, key: str) -> bool:
        """False where something still needs it after all."""
        ...


def setup_phase(spec: EnvironmentSpec) -> EnvironmentSpec:
    """The recipe of the world in which set-up runs: with the network of that phase."""
    network = spec.network if spec.setup_network is None else spec.setup_network
    allow = spec.allow if spec.setup_allow is None else spec.setup_allow
    return replace(spec, network=network, allow=() if network == "full" else allow)


def budget_bytes() -> int:
    """How large each cache may be.

    Raises:
        EnvironmentUnavailable: TRELLIS_BUILT_GB is no number.
    """
    text = os.environ.get(BUDGET) or str(DEFAULT_BUDGET_GB)
    try:
        gigabytes = float(text)
        if not 0 <= gigabytes < float("inf"):
            raise ValueError
    except ValueError:
        raise EnvironmentUnavailable(f"{BUDGET}={text}: expected a number of gigabytes, such as 20") from None
    return int(gigabytes * 1e9)


async def ensure(cache: Cache, key: str, label: str, make: Callable[[], Awaitable[None]]) -> None:
    """Have `make` build what has this key unless it is there, and keep it until `let_go` of the label.

    Raises:
        EnvironmentFault: it could not be built; whoever waited for it tries again.
    """
    budget = budget_bytes()
    await _hold(key, label)
    made = False
    if not await cache.has(key):
        async with _building(key):
            if not await cache.has(key):
                await make()
                made = True
    os.utime(_file(key, "use"))
    if made:
        await evict(cache, budget)


async def evict(cache: Cache, budget: int, *, dry_run: bool = False) -> list[Built]:
    """Remove what was used least recently until the cache fits into `budget` bytes; what is in use stays."""
    found = sorted(await cache.find(), key=lambda built: built.last_used)
    total, gone = sum(built.bytes for built in found), []
    for built in found:
        if total <= budget:
            break
        with _unused(built) as unused:
            if unused and (dry_run or await cache.remove(built.key)):
                total -= built.bytes
                gone.append(built)
                if not dry_run:
                    for kind in ("use", "build"):
                        _file(built.key, kind).unlink(missing_ok=True)
    return gone


def last_used(key: str, otherwise: float) -> float:
    """Seconds since the epoch; `otherwise` where this store knows nothing of it."""
    try:
        return _file(key, "use").stat().st_mtime
    except OSError:
        return otherwise


# --- use ---

_held: dict[str, tuple[int, set[str]]] = {}
"""Key -> the descriptor that holds its lock, and the labels that use it. A lock is the process's, and so is this."""


async def _hold(key: str, label: str) -> None:
    if key not in _held:
        lock = await _lock(key, "use", fcntl.LOCK_SH)
        if key in _held:  # another start of this process was faster
            os.close(lock)
        else:
            _held[key] = (lock, set())
    _held[key][1].add(label)


def let_go(label: str) -> None:
    """What is used under `label` or `label/...` (all for "") may be evicted, unless others use it."""
    for key, (lock, labels) in list(_held.items()):
        labels -= {used for used in labels if not label or used == label or used.startswith(f"{label}/")}
        if not labels:
            del _held[key]
            os.close(lock)


@contextlib.contextmanager
def _unused(built: Built) -> Iterator[bool]:
    """Does nobody use it? Nobody begins to, meanwhile."""
    known = _file(built.key, "use").exists()
    lock = _try_lock(built.key, "use", fcntl.LOCK_EX)
    if not known:
        os.utime(_file(built.key, "use"), (built.last_used, built.last_used))  # looking is not using
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


@contextlib.asynccontextmanager
async def _building(key: str) -> AsyncIterator[None]:
    lock = await _lock(key, "build", fcntl.LOCK_EX)
    try:
        yield
    finally:
        _file(key, "build").unlink(missing_ok=True)
        os.close(lock)


async def _lock(key: str, kind: str, how: int) -> int:
    """Without a thread: hundreds may wait for one build.

    Raises:
        EnvironmentFault: it was not to be had in time.
    """
    deadline = time.monotonic() + BUILD_TIMEOUT_S
    while (lock := _try_lock(key, kind, how)) is None:
        if time.monotonic() > deadline:
            raise EnvironmentFault(f"another process has been building {key} for {BUILD_TIMEOUT_S:g} s")
        await asyncio.sleep(POLL_S)
    return lock


def _try_lock(key: str, kind: str, how: int) -> int | None:
    path = _file(key, kind)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):  # FileNotFoundError: it was unlinked between opening and locking
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def being_built(key: str) -> bool:
    return _file(key, "build").exists() and not _free(_file(key, "build"))


def folder() -> Path:
    """Where the locks, and the layers of sandboxes, lie."""
    return store.store_folder() / "built"


def _file(key: str, kind: str) -> Path:
    return folder() / f"{key}.{kind}"


def forgotten(known: set[str]) -> list[Path]:
    """Lock files of things that are in no cache any more and that nobody uses or builds."""
    if not folder().is_dir():
        return []
    return [
        path
        for path in folder().iterdir()
        if path.suffix in (".use", ".build") and path.stem not in known and _free(path)
    ]


def forget(path: Path) -> None:
    """Remove a lock file unless somebody has come to use or build meanwhile."""
    lock = _try_lock(path.stem, path.suffix[1:], fcntl.LOCK_EX)
    if lock is not None:
        path.unlink(missing_ok=True)
        os.close(lock)


def _free(path: Path) -> bool:
    lock = _try_lock(path.stem, path.suffix[1:], fcntl.LOCK_EX)
    if lock is not None:
        os.close(lock)
    return lock is not None
