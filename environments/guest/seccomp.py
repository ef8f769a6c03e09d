"""A filter of system calls for worlds: what no agent's program needs and the kernel's holes lie behind is refused.

The list follows Docker's default profile (its documentation, "Seccomp security profiles for Docker", names what that
blocks for a container without capabilities), plus the calls of later kernels that belong to the same families: the new
mount interface and io_uring. Other than there everything else is allowed: a world has no capability, and a list of what
is allowed would break programs of tomorrow.

A refused call fails with EPERM, or with ENOSYS where programs fall back on an older call; nothing is killed. Calls of
another architecture (32-bit programs, x32) fail altogether, so that none of this can be bypassed by renumbering.

Part of the guest (see program.py): Python 3.8, standard library only. In a container it comes on top of the engine's
own filter, which with older engines lets io_uring through.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Tuple  # noqa: UP035

NUMBERS = {
    # name: (x86_64, aarch64); None where the architecture has no such call
    "_sysctl": (156, None), "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51),
    "clock_adjtime": (305, 266), "clock_settime": (227, 112), "create_module": (174, None),
    "delete_module": (176, 106), "fanotify_init": (300, 262), "finit_module": (313, 273), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fsopen": (430, 430), "fspick": (433, 433), "get_kernel_syms": (177, None),
    "get_mempolicy": (239, 236), "init_module": (175, 105), "ioperm": (173, None), "iopl": (172, None),
    "kcmp": (312, 272), "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219),
    "lookup_dcookie": (212, 18), "mbind": (237, 235), "migrate_pages": (256, 238), "mount": (165, 40),
    "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239), "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241), "pivot_root": (155, 41), "query_module": (178, None), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "reboot": (169, 142), "request_key": (249, 218), "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450), "setdomainname": (171, 162), "sethostname": (170, 161), "setns": (308, 268),
    "settimeofday": (164, 170), "swapoff": (168, 225), "swapon": (167, 224), "sysfs": (139, None),
    "syslog": (103, 116), "umount2": (166, 39), "unshare": (272, 97), "uselib": (134, None),
    "userfaultfd": (323, 282), "ustat": (136, None), "vhangup": (153, 58),
}  # fmt: skip
FALL_BACK = {"io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
             "clone3": (435, 435)}  # fmt: skip
"""Refused with ENOSYS. The flags of clone3 lie in memory, where a filter cannot look; libraries fall back on clone."""
ABSENT = {"fallocate": (285, 47)}
"""Refused with EOPNOTSUPP, as by file systems that have it not: with it gigabytes are taken in a moment, before anybody
can count them. C libraries then write zeros."""
BY_ARGUMENT = {"clone": (56, 220), "ioctl": (16, 29), "personality": (135, 92), "socket": (41, 198)}

NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
"""Typing on somebody else's terminal."""
FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE = 0x40305828, 0x4030582A, 0x40305839
"""Other names of fallocate."""
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
X32_BIT = 0x40000000
NR_AT, ARCH_AT, ARGUMENT_AT = 0, 4, 16
LOAD, JUMP, JUMP_EQ, JUMP_GE, JUMP_SET, RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38

_libc = ctypes.CDLL(None, use_errno=True)

Instruction = Tuple[int, int, int, int]  # noqa: UP006
"""Operation, how many to skip if true, how many if false, operand."""


def _load(at: int) -> Instruction:
    return (LOAD, 0, 0, at)


def _fail(number: int) -> Instruction:
    return (RETURN, 0, 0, FAIL | number)


_ALLOW: Instruction = (RETURN, 0, 0, ALLOW)


def _only(values: Sequence[int], error: int) -> list[Instruction]:
    """Allow these values of the first argument."""
    return [_load(ARGUMENT_AT), *_find(values), _fail(error), _ALLOW]


def _none_of(values: Sequence[int], error: int) -> list[Instruction]:
    """Allow all but these values of the second argument."""
    return [_load(ARGUMENT_AT + 8), *_find(values), _ALLOW, _fail(error)]


def _find(values: Sequence[int]) -> list[Instruction]:
    """Skip what follows if the value is among these."""
    return [(JUMP_EQ, len(values) - index, 0, value) for index, value in enumerate(values)]


def _checks() -> dict[str, list[Instruction]]:
    """What is asked of the arguments, as programs that end by themselves. The kernel looks at their low halves only,
    which come first on both architectures."""
    return {
        "ioctl": _none_of((TIOCSTI, TIOCLINUX, FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE), errno.EPERM),
        "clone": [_load(ARGUMENT_AT), (JUMP_SET, 1, 0, NEW_NAMESPACES), _ALLOW, _fail(errno.EPERM)],
        "socket": _only((AF_UNIX, AF_INET, AF_INET6, AF_NETLINK), errno.EAFNOSUPPORT),
        "personality": _only(PERSONALITIES, errno.EPERM),
    }  # fmt: skip


def program(machine: str) -> bytes:
    """The filter for an architecture (as `uname -m` names it), as the kernel takes it.

    Raises:
        KeyError: it is another than x86_64 and aarch64.
    """
    column, architecture = ARCHITECTURES[machine]
    code: list[Instruction] = [
        _load(ARCH_AT), (JUMP_EQ, 1, 0, architecture), _fail(errno.ENOSYS),
        _load(NR_AT), (JUMP_GE, 0, 1, X32_BIT), _fail(errno.ENOSYS),
    ]  # fmt: skip
    for name, check in _checks().items():
        code += [(JUMP_EQ, 0, len(check), BY_ARGUMENT[name][column]), *check]  # a check leaves; the number stays loaded
    refused = [(number[column], errno.EPERM) for number in NUMBERS.values()]
    refused += [(number[column], errno.ENOSYS) for number in FALL_BACK.values()]
    refused += [(number[column], errno.EOPNOTSUPP) for number in ABSENT.values()]
    for nr, error in refused:
        if nr is not None:
            code += [(JUMP_EQ, 0, 1, nr), _fail(error)]
    code.append(_ALLOW)
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def install() -> None:
    """Filter the calls of this process and of all that come of it, for ever; and no program can give it privileges.

    Raises:
        OSError: the kernel has no such filters, or this is another architecture.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter of system calls for {machine}")
    code = program(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"the system calls cannot be filtered: {os.strerror(number)}")
