"""System calls that Python has no functions for: mounts and namespaces."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
SYS_MOUNT_SETATTR = 442
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

libc = ctypes.CDLL(None, use_errno=True)


class JailError(Exception):
    """The kernel refused a step; the text names it."""


def check(result: int, step: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise JailError(f"{step}: {os.strerror(number)} [{errno.errorcode.get(number, number)}]")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    arguments = [text.encode() or None for text in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None), f"mount {kind or source} {target}")


def bind(source: str, target: str, *, attributes: int = MS_RDONLY | MS_NOSUID | MS_NODEV) -> None:
    """Show `source` at `target`, with what is mounted below it."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if attributes:
        change = struct.pack("QQQQ", attributes, 0, 0, 0)  # the attributes have the values of the first MS_ flags
        result = libc.syscall(
            SYS_MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, change, ctypes.c_size_t(len(change))
        )
        check(result, f"mount_setattr {target} (needs Linux 5.12)")


def unshare(flags: int) -> None:
    check(libc.unshare(flags), "unshare")


def is_real_root() -> bool:
    """Root of the machine, and not of a user namespace, where few other users exist to become."""
    everybody = ["0", "0", "4294967295"]
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == everybody
