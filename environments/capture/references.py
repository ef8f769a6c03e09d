"""Who uses a shared folder of the store: worlds from start to close, snapshots until they are released.

A user is an empty file in the folder's `users`: `<pid>.<beginning>` for the worlds of a process, however many, and
`snapshot.<id>`. So every process sees the others' users, and those of dead processes do not count. Whoever takes away
the last one removes the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from trellis.environments import store
from trellis.environments.environment import EnvironmentFault

_held: Counter[str] = Counter()
"""How often this process holds a folder."""
_thread = threading.Lock()


@contextlib.contextmanager
def _alone() -> Iterator[Path]:
    """No other thread or process counts users meanwhile."""
    folder = store.store_folder()
    with _thread:
        fd = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(fd)


def new_shared_folder(label: str) -> Path:
    """A new folder that this process holds once."""
    folder = store.new_folder(label)
    (folder / store.USERS).mkdir()
    hold([folder.name])
    return folder


def hold(names: Iterable[str]) -> None:
    """Hold folders once more, for a world of this process.

    Raises:
        EnvironmentFault: one is gone, and none is held.
    """
    done = []
    try:
        with _alone() as folder:
            for name in names:
                _add(folder / name, _this_process())
                _held[name] += 1
                done.append(name)
    except OSError as error:
        drop(done)
        raise _gone(error) from None


@contextlib.contextmanager
def holding(names: Sequence[str]) -> Iterator[None]:
    """`hold`, and `drop` at the end.

    Raises:
        EnvironmentFault: one is gone, and none is held.
    """
    hold(names)
    try:
        yield
    finally:
        drop(names)


def drop(names: Iterable[str]) -> None:
    """Undo one `hold` of each; what has no user left is removed."""
    with _alone() as folder:
        unused = []
        for name in names:
            _held[name] -= 1
            if not _held[name]:
                del _held[name]
                unused += _take_away(folder / name, _this_process())
    _remove(unused)


def keep(names: Sequence[str], snapshot: str) -> None:
    """Let a snapshot use folders, which this process holds, until `release`, even after the end of this process.

    Raises:
        EnvironmentFault: one is gone, and none is kept.
    """
    try:
        with _alone() as folder:
            for name in names:
                _add(folder / name, f"snapshot.{snapshot}")
    except OSError as error:
        release(names, snapshot)
        raise _gone(error) from None


def release(names: Iterable[str], snapshot: str) -> None:
    """Undo `keep`; what has no user left is removed. Nothing happens the second time."""
    with _alone() as folder:
        unused = [each for name in names for each in _take_away(folder / name, f"snapshot.{snapshot}")]
    _remove(unused)


def kept(names: Iterable[str], snapshot: str) -> bool:
    """Does this snapshot, of whatever process, still use all these folders?"""
    folder = store.store_folder()
    return all((folder / name / store.USERS / f"snapshot.{snapshot}").exists() for name in names)


def _gone(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"the files of this snapshot are gone; it was released, or its label was reaped: {error.filename}"
    )


def _this_process() -> str:
    return f"{os.getpid()}.{store.process_start(os.getpid())}"


def _add(folder: Path, user: str) -> None:
    os.close(os.open(folder / store.USERS / user, os.O_WRONLY | os.O_CREAT, 0o600))


def _take_away(folder: Path, user: str) -> list[Path]:
    """The folder, if that was its last user: then nobody can become one."""
    users = folder / store.USERS
    with contextlib.suppress(OSError):  # it was reaped
        (users / user).unlink()
        living = any(store.in_use(pid, began, dead_only=True) for pid, began in store.processes_that_use(folder))
        if not living and not any(users.glob("snapshot.*")):
            store.remove_tree(users)
            return [folder]
    return []


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        store.remove(folder)
