"""Linux namespaces over a minimal read-only root, without any external program.

`enter` runs in a process that was forked for one world and returns in the world's first process (pid 1 inside): no
capability, no way to gain one, no other user namespace, no network but a loopback, no system call that seccomp.py
refuses, and of the host's files only what the `Jail` names. It works for an ordinary user, and for root, in which case
the inside is not root either: the mounts are made as root, then the process becomes an unprivileged user in a user
namespace of its own.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from trellis.environments.guest import seccomp
from trellis.environments.guest.processes import PR_SET_DUMPABLE, prctl
from trellis.environments.sandbox.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    JailError,
    bind,
    check,
    is_real_root,
    libc,
    mount,
    unshare,
)

INSIDE_UID = 1000
ROOTS_AGENT_UID = 1_934_281_000
"""Who agents are on the host when it is root that starts the world: nobody's number."""

SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

DEVICES = ("null", "zero", "full", "random", "urandom")
ETC = (
    "alternatives", "chromium", "chromium.d", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "mime.types",
    "nsswitch.conf", "protocols", "services", "ssl/certs", "ssl/openssl.cnf",
)  # fmt: skip
TERMINALS = 128
"""Pseudo-terminals of one world; the kernel has some thousands for all."""
PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
PROC_MASKED = ("acpi", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list")
OOM_SCORE_ADJ = 200
"""When the host runs out of memory, worlds go before what else runs there. No process inside can lower it below what
it is when it is set by root."""
NO_SUCH_MODULE = "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)\n"


@dataclass(frozen=True, slots=True)
class Jail:
    """One world's view of the machine. Paths are the host's and absolute unless they say otherwise."""

    store: str
    """The folder in which layers and worlds lie; `upper`, `work` and `layers` are relative to it."""
    root: str
    """An empty folder, where the new root is mounted."""
    upper: str
    work: str
    layers: tuple[str, ...]
    """What lies below the writable places, the topmost first; each has the folders work, home and tmp."""
    workdir: str
    visible: tuple[str, ...]
    """Folders that appear inside at the same path, read-only, besides the system's."""
    masked: tuple[str, ...]
    """Folders and files below the visible ones that are empty inside."""
    masked_packages: tuple[str, ...]
    """Python packages below the visible ones that cannot be imported inside."""
    network: bool
    nameserver: str
    """Who answers questions for names, of a world without a network; empty for nobody."""
    pids: int
    memory_bytes: int
    memory_by_cgroup: bool
    disk_bytes: int
    inodes: int


# --- entering ------------------------------------------------------------------------------------------------------


def enter(jail: Jail, held: int) -> None:
    """Return inside, as pid 1. The calling process stays outside as its parent, holds the descriptor `held` open and
    nothing else, and ends when all processes inside have ended.

    Raises:
        JailError: a step was refused (in the calling process or in the child).
    """
    rooted = is_real_root()
    uid, gid = os.geteuid(), os.getegid()
    be_killed_first()
    unshare(
        (0 if rooted else CLONE_NEWUSER)
        | CLONE_NEWNS
        | CLONE_NEWPID
        | CLONE_NEWIPC
        | CLONE_NEWUTS
        | (0 if jail.network else CLONE_NEWNET)
    )
    if not rooted:
        _map_ids(uid, gid)
    child = os.fork()
    if child:
        _wait_for(child, held)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _build_root(jail)
    if not jail.network:
        _raise_loopback()
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
    check(libc.sethostname(b"trellis", 7), "sethostname")
    user_sysctls = os.open("/proc/sys/user", os.O_PATH)
    for name in PROC_READ_ONLY:
        if Path("/proc", name).exists():
            bind(f"/proc/{name}", f"/proc/{name}", attributes=MS_RDONLY)
    mount("", "/", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    if rooted:
        os.setgroups([])
        os.setresgid(ROOTS_AGENT_UID, ROOTS_AGENT_UID, ROOTS_AGENT_UID)
        os.setresuid(ROOTS_AGENT_UID, ROOTS_AGENT_UID, ROOTS_AGENT_UID)
        prctl(PR_SET_DUMPABLE, 1)
        unshare(CLONE_NEWUSER)
        _map_ids(ROOTS_AGENT_UID, ROOTS_AGENT_UID)
    set_limits(jail)  # after the user namespace: processes are then counted in it, and not over all worlds
    _forbid_user_namespaces(user_sysctls)
    drop_privileges()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # changing the user cleared it


def be_killed_first() -> None:
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ))


def _wait_for(child: int, held: int) -> NoReturn:
    os.closerange(0, held)
    os.closerange(held + 1, 4096)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.waitpid(child, 0)[0] != child:
        pass
    os._exit(0)


def _map_ids(uid: int, gid: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INSIDE_UID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{INSIDE_UID} {gid} 1")


def _build_root(jail: Jail) -> None:
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", jail.root, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    root = Path(jail.root)
    for folder in ("dev/pts", "dev/shm", "etc/ssl", "proc", "run", "tmp", "var/tmp", "home/agent", ".masked/empty"):
        (root / folder).mkdir(parents=True)
    (root / jail.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
    _show_system(root)
    _mount_writable(jail, root)
    _show_etc(root, jail)
    for path in jail.visible:
        _show(root, path)
    _mask(root, jail)
    _make_devices(root, jail)
    mount("proc", str(root / "proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in PROC_MASKED:
        _cover(root / "proc" / name, root)
    os.chdir(root)
    check(libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def _show_system(root: Path) -> None:
    _show(root, "/usr")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            (root / name).symlink_to(path.readlink())
        elif path.is_dir():
            _show(root, str(path))


def _show(root: Path, path: str) -> None:
    target = root / path.lstrip("/")
    if Path(path).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    bind(path, str(target))


def _show_etc(root: Path, jail: Jail) -> None:
    etc = root / "etc"
    (etc / "passwd").write_text(
        f"root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:{INSIDE_UID}:{INSIDE_UID}::/home/agent:/bin/bash\n"
    )
    (etc / "group").write_text(f"root:x:0:\nagent:x:{INSIDE_UID}:\n")
    (etc / "hosts").write_text("127.0.0.1 localhost trellis\n::1 localhost\n")
    (etc / "hostname").write_text("trellis\n")
    if jail.nameserver:
        (etc / "resolv.conf").write_text(f"nameserver {jail.nameserver}\n")
    for name in (*ETC, "resolv.conf") if jail.network else ETC:
        if Path("/etc", name).exists():
            _show(root, f"/etc/{name}")


def _mount_writable(jail: Jail, root: Path) -> None:
    """One overlay for all that can be written, so that one folder holds all that was changed."""
    merged = root / ".merged"
    merged.mkdir()
    mount_overlay(jail, str(merged))
    for target, source in writable_places(jail).items():
        bind(str(merged / source), str(root / target.lstrip("/")), attributes=MS_NOSUID | MS_NODEV)
    check(libc.umount2(str(merged).encode(), MNT_DETACH), "umount2")
    merged.rmdir()


def writable_places(jail: Jail) -> dict[str, str]:
    """Where the folders of the overlay are seen."""
    return {jail.workdir: "work", "/home/agent": "home", "/tmp": "tmp", "/var/tmp": "tmp"}


def mount_overlay(jail: Jail, target: str) -> None:
    """Mount the world's layers on `target`. What a layer may contain is the same whatever the kernel's defaults are."""
    os.chdir(jail.store)  # with relative paths, more layers fit into the one page that mount options may fill
    options = f"lowerdir={':'.join(jail.layers)},upperdir={jail.upper},workdir={jail.work},volatile"
    options += ",index=off,metacopy=off"
    options += ",redirect_dir=off" if is_real_root() else ",userxattr"  # which has no redirects
    mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, options)
    os.chdir("/")


def _mask(root: Path, jail: Jail) -> None:
    (root / ".masked/package").mkdir()
    (root / ".masked/package/__init__.py").write_text(NO_SUCH_MODULE)
    (root / ".masked/file").touch()
    for path in jail.masked:
        _cover(root / path.lstrip("/"), root)
    for path in jail.masked_packages:
        bind(str(root / ".masked/package"), str(root / path.lstrip("/")))


def _cover(target: Path, root: Path) -> None:
    if target.is_dir():
        bind(str(root / ".masked/empty"), str(target))
    elif target.exists():
        bind(str(root / ".masked/file"), str(target))


def _make_devices(root: Path, jail: Jail) -> None:
    dev = root / "dev"
    for name in DEVICES:
        (dev / name).touch()
        bind(f"/dev/{name}", str(dev / name), attributes=MS_NOSUID | MS_NOEXEC)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)
    size = jail.memory_bytes // 2
    options = f"size={size},nr_inodes={jail.inodes},mode=1777"
    mount("tmpfs", str(dev / "shm"), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    with suppress(JailError):  # pseudo-terminals are a convenience
        options = f"newinstance,ptmxmode=0666,mode=620,max={TERMINALS}"
        mount("devpts", str(dev / "pts"), "devpts", MS_NOSUID | MS_NOEXEC, options)
        (dev / "ptmx").symlink_to("pts/ptmx")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", 0) + bytes(22)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP) + bytes(22))


def _forbid_user_namespaces(user_sysctls: int) -> None:
    """A user namespace is the way to capabilities, and so to most of the kernel's attack surface."""
    fd = os.open("max_user_namespaces", os.O_WRONLY, dir_fd=user_sysctls)
    os.write(fd, b"0\n")
    os.close(fd)
    os.close(user_sysctls)


def set_limits(jail: Jail) -> None:
    """Limits that the kernel keeps per process or user; memory only where no cgroup does it better."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: jail.pids,
        resource.RLIMIT_FSIZE: jail.disk_bytes,
        resource.RLIMIT_NOFILE: 16384,
    }
    if not jail.memory_by_cgroup:
        limits[resource.RLIMIT_DATA] = jail.memory_bytes
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


def drop_privileges() -> None:
    """Give up every capability in this user namespace and the system calls that nobody needs, for ever."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # past the last one, the kernel says EINVAL
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    check(libc.capset(struct.pack("Ii", CAPABILITY_VERSION_3, 0), bytes(24)), "capset")
    seccomp.install()


# --- joining -------------------------------------------------------------------------------------------------------

NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts")


def namespaces() -> list[int]:
    """Descriptors of this process's namespaces, for `join`."""
    return [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]


def join(jail: Jail, descriptors: list[int]) -> None:
    """Return as an unprivileged process inside the world whose `namespaces` these are; the caller ends.

    Raises:
        JailError: the kernel refused.
    """
    user, *others = descriptors
    rooted = is_real_root()
    be_killed_first()
    if rooted:
        os.setgroups([])
    for descriptor in [*others, user] if rooted else [user, *others]:
        check(libc.setns(descriptor, 0), "setns")
        os.close(descriptor)
    if os.fork():
        os._exit(0)  # only a child is in the process namespace
    os.chdir("/")
    set_limits(jail)
    os.setresgid(INSIDE_UID, INSIDE_UID, INSIDE_UID)
    os.setresuid(INSIDE_UID, INSIDE_UID, INSIDE_UID)
    drop_privileges()
