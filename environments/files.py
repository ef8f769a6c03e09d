"""Copying file trees on the host: the files of a spec, and captured worlds."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path

from trellis.environments.environment import EnvironmentFault, Files

FICLONE = 0x40049409
PIECE_BYTES = 1 << 20


def copy_in(files: Iterable[Files], folder: Path) -> None:
    """Copy the files of a spec into a workdir.

    Raises:
        EnvironmentFault: one does not exist, cannot be read, or would land outside.
    """
    for entry in files:
        source, target = Path(entry.source), Path(os.path.normpath(folder / entry.target))
        if not target.is_relative_to(folder):
            raise EnvironmentFault(f"the target of a file must be inside the workdir: {entry.target}")
        try:
            if source.is_dir():
                _copy_folder_in(source, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        except OSError as error:
            raise EnvironmentFault(f"cannot copy {source} into a world: {error}") from None


def _copy_folder_in(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=shutil.copy2)


def give_to(folder: Path, uid: int) -> None:
    """Make `uid` the owner of a tree, and let it read and write all of it."""
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, uid, uid)
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o700 if path.is_dir() else 0o600))


def copy_tree(source: Path, target: Path) -> None:
    """An exact copy: modes, owners, times, extended attributes, holes, hard links within the tree, and the device nodes
    that mark deletions in overlays.

    Sockets are left out. Blocks are shared with the original where the file system can.

    Raises:
        EnvironmentFault: it cannot be copied.
    """
    try:
        _copy_folder(source, target, {})
    except (OSError, RecursionError) as error:
        raise EnvironmentFault(f"the files of a world cannot be copied: {error}") from None


def copy_entry(source: Path, target: Path, links: dict[tuple[int, int], Path]) -> None:
    """`copy_tree` of whatever `source` is. `links` says where files with several names have been copied to already."""
    facts = source.lstat()
    if stat.S_ISDIR(facts.st_mode):
        _copy_folder(source, target, links)
        return
    if stat.S_ISSOCK(facts.st_mode):
        return
    identity = facts.st_dev, facts.st_ino
    if identity in links:
        os.link(links[identity], target, follow_symlinks=False)
        return
    if facts.st_nlink > 1:
        links[identity] = target
    if stat.S_ISLNK(facts.st_mode):
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211  (a Path would tidy it up)
    elif stat.S_ISREG(facts.st_mode):
        _copy_content(source, target)
    else:
        os.mknod(target, facts.st_mode, facts.st_rdev)
    copy_attributes(source, target)


def _copy_folder(source: Path, target: Path, links: dict[tuple[int, int], Path]) -> None:
    target.mkdir()
    for name in names_in(source):
        copy_entry(source / name, target / name, links)
    copy_attributes(source, target)


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted, even if its owner may not look into it."""
    with _allowed(folder, stat.S_IRUSR | stat.S_IXUSR):
        return sorted(entry.name for entry in os.scandir(folder))


def read(file: Path) -> bytes:
    """The content of a regular file, even if its owner may not read it."""
    with _open(file) as content:
        return content.read()


def digest(file: Path) -> str:
    """Of the content of a regular file, even if its owner may not read it."""
    with _open(file) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _open(file: Path) -> BufferedReader:
    with _allowed(file, stat.S_IRUSR):
        return open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb")  # noqa: PTH123


@contextlib.contextmanager
def _allowed(path: Path, wanted: int) -> Iterator[None]:
    """Give the owner the rights that they have taken from themselves; root needs none."""
    mode = path.lstat().st_mode
    if os.geteuid() == 0 or mode & wanted == wanted:
        yield
        return
    path.chmod(mode | wanted)
    try:
        yield
    finally:
        path.chmod(mode)


def _copy_content(source: Path, target: Path) -> None:
    with _open(source) as original, target.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, original.fileno())
        except OSError:
            _copy_data(original.fileno(), copy.fileno())


def _copy_data(original: int, copy: int) -> None:
    """What lies between the holes."""
    size = os.fstat(original).st_size
    end = 0
    while end < size:
        try:
            begin = os.lseek(original, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole to the end
        end = os.lseek(original, begin, os.SEEK_HOLE)
        while begin < end and (data := os.pread(original, min(end - begin, PIECE_BYTES), begin)):
            begin += os.pwrite(copy, data, begin)
    os.ftruncate(copy, size)


def copy_attributes(source: Path, target: Path) -> None:
    facts = source.lstat()
    if os.geteuid() == 0:
        os.lchown(target, facts.st_uid, facts.st_gid)
    for name in os.listxattr(source, follow_symlinks=False):
        with contextlib.suppress(OSError):  # security labels are the file system's own
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    if not stat.S_ISLNK(facts.st_mode):
        target.chmod(stat.S_IMODE(facts.st_mode))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns), follow_symlinks=False)
