"""Giving a running world a fresh upper layer, so that the old one becomes part of a snapshot without being copied.

`swap` runs in a process that was forked for it on the host and joins the world's mounts. While the world stands still,
a new overlay takes the place of the old one. Whoever holds something of the old one would go on seeing and writing
that, so the swap is only done if nobody does; and the old one is made read-only first, which the kernel refuses while
anything is open for writing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path

from trellis.environments.sandbox.jail import Jail, mount_overlay, writable_places
from trellis.environments.sandbox.syscalls import (
    AT_FDCWD,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    JailError,
    check,
    is_real_root,
    libc,
    mount,
    unshare,
)

SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
NS_GET_USERNS = 0xB701


def swap(jail: Jail, mounts: int, own: Container[int]) -> str:
    """Put an overlay as `jail` describes it in the place of that of the world whose mount namespace is `mounts`.

    `own` are the pids, inside, of Trellis's processes: they hold nothing, and need not allow being looked into. The
    world must stand still. Returns why it cannot be done, and then nothing has been changed; "" when it is done.

    Raises:
        JailError: the kernel refused a step in the middle of it; the world has lost its files.
    """
    try:
        if not is_real_root():
            user = fcntl.ioctl(mounts, NS_GET_USERNS)
            check(libc.setns(user, 0), "setns user")
        fresh = _fresh_trees(jail)
        check(libc.setns(mounts, 0), "setns mnt")
        if holder := _holder(tuple(fresh), own):
            return holder
        # The kernel's own word on it: this fails if anything is open for writing.
        mount("", jail.workdir, flags=MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    except (JailError, OSError) as error:
        return str(error)
    for place, tree in fresh.items():
        check(libc.umount2(place.encode(), MNT_DETACH), f"umount2 {place}")
        to_place = AT_FDCWD, place.encode(), ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH)
        check(libc.syscall(SYS_MOVE_MOUNT, tree, b"", *to_place), f"move_mount {place}")
    return ""


def _fresh_trees(jail: Jail) -> dict[str, int]:
    """Folders of a new overlay that are mounted nowhere yet, by the places where they are to be seen."""
    unshare(CLONE_NEWNS)
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    mount_overlay(jail, jail.root)
    trees = {}
    for place, folder in writable_places(jail).items():
        source = f"{jail.root}/{folder}".encode()
        trees[place] = libc.syscall(SYS_OPEN_TREE, AT_FDCWD, source, ctypes.c_uint(OPEN_TREE_CLONE))
        check(min(trees[place], 0), f"open_tree {folder}")
    return trees


def _holder(places: tuple[str, ...], own: Container[int]) -> str:
    """A process that holds something below the places: an open file, a folder, mapped code, a socket, a watch."""
    device = os.stat(places[0]).st_dev  # noqa: PTH116
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                held = next(_holds(f"/proc/{name}", device, places), "")
            except PermissionError:  # only whoever has made itself impossible to look into
                held = "" if int(name) in own else "something that cannot be seen"
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended
            if held:
                return f"process {name} holds {held}"
    return ""


def _holds(process: str, device: int, places: tuple[str, ...]) -> Iterator[str]:
    for task in os.listdir(f"{process}/task"):  # noqa: PTH208
        for link in ("cwd", "root"):
            if os.stat(f"{process}/task/{task}/{link}").st_dev == device:  # noqa: PTH116
                yield os.readlink(f"{process}/task/{task}/{link}")  # noqa: PTH115
        yield from _open_files(f"{process}/task/{task}/fd", process, device)
    yield from _mapped_files(process, device, places)


def _open_files(folder: str, process: str, device: int) -> Iterator[str]:
    sockets: set[str] | None = None
    for number in os.listdir(folder):  # noqa: PTH208
        with suppress(FileNotFoundError):
            path = f"{folder}/{number}"
            leads_to = os.readlink(path)  # noqa: PTH115
            if leads_to.startswith("socket:"):
                sockets = sockets if sockets is not None else _named_sockets(process)
                if leads_to[8:-1] in sockets:
                    yield "a named socket"
            elif "inotify" in leads_to or "fanotify" in leads_to or os.stat(path).st_dev == device:  # noqa: PTH116
                yield leads_to


def _named_sockets(process: str) -> set[str]:
    """The inodes of Unix sockets that have a path."""
    lines = [line.split() for line in Path(f"{process}/net/unix").read_text("utf-8", "replace").splitlines()[1:]]
    return {fields[6] for fields in lines if len(fields) > 7 and not fields[7].startswith("@")}


def _mapped_files(process: str, device: int, places: tuple[str, ...]) -> Iterator[str]:
    shown = f"{os.major(device):02x}:{os.minor(device):02x}"
    inside = tuple(f"{place}/" for place in places)
    for line in Path(f"{process}/maps").read_text("utf-8", "replace").splitlines():
        fields = line.split(maxsplit=5)
        if fields[3] == shown or (len(fields) > 5 and fields[5].startswith(inside)):
            yield fields[-1]
