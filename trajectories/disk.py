"""Files that are never half there: held by one process, and replaced whole or not at all.

A trajectory lies in one of two files: plain (`trajectory.jsonl`) or packed (`trajectory.jsonl.zst`). Where a crash
while packing or unpacking has left both, they hold the same, and the plain one counts; an empty plain one is none.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOG = "trajectory.jsonl"
_PACKED = ".zst"


def packed(path: Path) -> Path:
    """What a log is called when it is packed."""
    return path if is_packed(path) else path.with_name(path.name + _PACKED)


def plain(path: Path) -> Path:
    """What a log is called when it is not packed."""
    return path.with_name(path.name.removesuffix(_PACKED))


def is_packed(path: Path) -> bool:
    return path.name.endswith(_PACKED)


def existing(path: Path) -> Path:
    """The file that holds a log, whichever of its two names `path` is; `path` itself where there is none."""
    sizes = {file: size for file in (plain(path), packed(path)) if (size := _size(file)) is not None}
    return next((file for file, size in sizes.items() if size), next(iter(sizes), path))


def log_in(folder: Path) -> Path | None:
    """The trajectory in an episode's folder, plain or packed."""
    file = existing(folder / LOG)
    return file if file.is_file() else None


def hold(path: Path, *, create: bool = False) -> int:
    """Open a file for appending, and hold it until the descriptor is closed, however the process ends.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be opened.
    """
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        fd = os.open(path, flags, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was replaced while this process waited for it


def is_held(path: Path) -> bool:
    """Does a process hold it just now?"""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that then stands at `path`, on stable storage: a crash leaves this one or the one before."""
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync([path.parent])


def remove(path: Path) -> None:
    """Remove a file, also from stable storage."""
    path.unlink(missing_ok=True)
    sync([path.parent])


def sync(paths: Iterable[Path]) -> None:
    """Wait until these files and folders are on stable storage; what is gone meanwhile needs none."""
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):  # below a file there is none either
        return None


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
