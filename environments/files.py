"""Copying file trees on the host: the files of a spec, and captured worlds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from trellis.environments.environment import EnvironmentFault, Files

FICLONE = 0x40049409


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
    """An exact copy: modes, owners, times, extended attributes, and the device nodes that mark deletions in overlays.

    Sockets are left out. Blocks are shared with the original where the file system can.
    """
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            _copy_entry(Path(entry.path), target / entry.name)
    _copy_attributes(source, target)


def _copy_entry(source: Path, target: Path) -> None:
    facts = source.lstat()
    if stat.S_ISDIR(facts.st_mode):
        copy_tree(source, target)
        return
    if stat.S_ISSOCK(facts.st_mode):
        return
    if stat.S_ISLNK(facts.st_mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISREG(facts.st_mode):
        _copy_content(source, target)
    else:
        os.mknod(target, facts.st_mode, facts.st_rdev)
    _copy_attributes(source, target)


def _copy_content(source: Path, target: Path) -> None:
    try:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    except PermissionError:  # its owner took away their own right to read it
        mode = source.lstat().st_mode
        source.chmod(mode | stat.S_IRUSR)
        try:
            reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        finally:
            source.chmod(mode)
    with open(reading, "rb") as original, target.open("wb") as copy:  # noqa: PTH123
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, reading)
        except OSError:
            shutil.copyfileobj(original, copy, 1 << 20)


def _copy_attributes(source: Path, target: Path) -> None:
    facts = source.lstat()
    if os.geteuid() == 0:
        os.lchown(target, facts.st_uid, facts.st_gid)
    for name in os.listxattr(source, follow_symlinks=False):
        with contextlib.suppress(OSError):  # security labels are the file system's own
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    if not stat.S_ISLNK(facts.st_mode):
        target.chmod(stat.S_IMODE(facts.st_mode))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns), follow_symlinks=False)
