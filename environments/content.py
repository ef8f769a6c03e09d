"""What files are, by their content: the hashes that name what was built from them."""
# Plain calls: every start looks at every file.
# ruff: noqa: PTH115, PTH116, PTH118, PTH123

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from trellis.environments.environment import EnvironmentFault, Files

PIECE_BYTES = 1 << 20
SETTLED_NS = 2_000_000_000
"""A file that changed later than this ago may change again without its times telling: it is read each time."""


def digest(*parts: object) -> str:
    """A SHA-256 over anything that can be written as JSON, independent of the order of mappings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def files_digest(files: Iterable[Files]) -> str:
    """Of the files of a spec: where they go, their contents, modes and links; not their owners, times or sources.

    Raises:
        EnvironmentFault: one cannot be read.
    """
    return digest([(os.path.normpath(entry.target), source_digest(entry.source)) for entry in files])


def source_digest(source: str) -> str:
    """Of one file or folder.

    Raises:
        EnvironmentFault: it does not exist or cannot be read.
    """
    try:
        facts = os.stat(source)
        if not stat.S_ISDIR(facts.st_mode):
            return digest(_entry(source, facts))
        return digest(sorted(_below(source, len(os.path.join(source, "")))))
    except OSError as error:
        raise EnvironmentFault(f"cannot copy {source} into a world: {error}") from None


def tree_digest(root: Path, names: Iterable[str]) -> str:
    """Of what lies below a folder under these names. Raises OSError."""
    paths = ((name, str(root / name)) for name in sorted(names))
    return digest([(name, *_entry(path, os.lstat(path))) for name, path in paths])


def _below(folder: str, prefix: int) -> Iterator[tuple[str, str, int, str]]:
    """Everything in a folder, however deep: its path without the first `prefix` characters, and what it is."""
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry.path[prefix:], *_entry(entry.path, entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def _entry(path: str, facts: os.stat_result) -> tuple[str, int, str]:
    """Type, mode and content."""
    mode = stat.S_IMODE(facts.st_mode)
    if stat.S_ISREG(facts.st_mode):
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        settled = time.time_ns() - facts.st_ctime_ns > SETTLED_NS
        return "file", mode, (_remembered if settled else _file_digest)(path, *stamp)
    if stat.S_ISLNK(facts.st_mode):
        return "link", 0, os.readlink(path)
    return ("folder" if stat.S_ISDIR(facts.st_mode) else "special"), mode, ""


def _file_digest(path: str, *stamp: int) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            sha.update(piece)
    return sha.hexdigest()


_remembered = functools.lru_cache(maxsize=100_000)(_file_digest)
"""The same content under the same stamp need not be read again: every start asks."""
