"""What a world takes of a file system, counted from outside: its folders, and deleted files it still holds."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.bytes + other.bytes, self.inodes + other.inodes)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.bytes - other.bytes, self.inodes - other.inodes)

    def exceeds(self, limit: Usage) -> bool:
        return self.bytes > limit.bytes or self.inodes > limit.inodes


def count(trees: Sequence[Path], processes: Iterable[int] = (), *, stop_above: Usage | None = None) -> Usage:
    """What lies below these folders, and what these processes (numbered as this process sees them) hold of deleted
    files on the same file systems.

    Blocks count, not lengths, and a file with several names counts once. What vanishes meanwhile does not count. Once
    it is more than `stop_above` the rest is not counted.
    """
    total_bytes = inodes = 0
    seen = set[tuple[int, int]]()
    for facts in itertools.chain(_below(trees), _held(trees, processes)):
        if facts.st_nlink != 1 and not stat.S_ISDIR(facts.st_mode):
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
        total_bytes += facts.st_blocks * 512
        inodes += 1
        if stop_above is not None and (total_bytes > stop_above.bytes or inodes > stop_above.inodes):
            break
    return Usage(total_bytes, inodes)


def regular_files(trees: Iterable[Path]) -> Iterator[os.stat_result]:
    """What is known of each file below these folders."""
    return (facts for facts in _below(list(trees)) if stat.S_ISREG(facts.st_mode))


def _below(trees: Sequence[Path]) -> Iterator[os.stat_result]:
    folders = [str(tree) for tree in trees]
    while folders:
        for entry in _entries(folders.pop()):
            with suppress(OSError):
                yield entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError:
        return _entries_of_a_closed(folder)
    except OSError:  # it vanished, or lies deeper than a path can name
        return []


def _entries_of_a_closed(folder: str) -> list[os.DirEntry[str]]:
    """Those of a folder whose owner, which is who counts, took away their own right to read it."""
    with suppress(OSError):
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            itself = f"/proc/self/fd/{fd}"
            if mode & 0o500 != 0o500:
                os.chmod(itself, mode | 0o500)  # noqa: PTH101
                try:
                    with os.scandir(folder) as entries:
                        return list(entries)
                finally:
                    os.chmod(itself, mode)  # noqa: PTH101
        finally:
            os.close(fd)
    return []


def _held(trees: Sequence[Path], processes: Iterable[int]) -> Iterator[os.stat_result]:
    """Deleted files that are still open or mapped. What lies in memory (other file systems) is counted as memory."""
    disks = set[tuple[int, int]]()
    for tree in trees:
        with suppress(OSError):
            disks.add(_size(str(tree)))
    for process in processes:
        for path in (*_open_files(process), *_mapped_files(process)):
            with suppress(OSError):
                facts = os.stat(path)  # noqa: PTH116
                if facts.st_nlink == 0 and stat.S_ISREG(facts.st_mode) and _size(path) in disks:
                    yield facts


def _size(path: str) -> tuple[int, int]:
    """Of the file system: an overlay is as large as what it lies on, and has a device number of its own."""
    facts = os.statvfs(path)
    return facts.f_blocks * facts.f_frsize, facts.f_files


def _open_files(process: int) -> list[str]:
    try:
        return [f"/proc/{process}/fd/{name}" for name in os.listdir(f"/proc/{process}/fd")]  # noqa: PTH208
    except OSError:
        return []


def _mapped_files(process: int) -> list[str]:
    try:
        with open(f"/proc/{process}/maps", errors="replace") as maps:  # noqa: PTH123
            fields = [line.split(maxsplit=5) for line in maps if line.endswith("(deleted)\n")]
    except OSError:
        return []
    return [f"/proc/{process}/map_files/{line[0]}" for line in fields if not line[-1].startswith("/memfd:")]
