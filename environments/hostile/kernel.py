"""Attacks on the kernel that all worlds and the host share: settings, devices, mounts, clock, and its lesser doors."""

from __future__ import annotations

import json
from pathlib import Path

from trellis.environments.environment import Environment
from trellis.environments.guest.seccomp import FALL_BACK, NUMBERS
from trellis.environments.hostile.arena import Attacks, contained, host_settings

REFUSED = (
    "acct", "add_key", "bpf", "chroot", "clock_adjtime", "clock_settime", "fsopen", "init_module", "finit_module",
    "delete_module", "io_uring_setup", "kexec_load", "kexec_file_load", "keyctl", "mount", "move_mount", "open_tree",
    "open_by_handle_at", "perf_event_open", "pivot_root", "quotactl", "reboot", "request_key", "setns", "settimeofday",
    "swapon", "swapoff", "syslog", "umount2", "unshare", "userfaultfd", "vhangup", "fanotify_init", "ioperm", "iopl",
)  # fmt: skip
CALL_IT = """
import json
page = ctypes.create_string_buffer(4096)
for name, numbers in json.loads(sys.argv[1]).items():
    for arguments in ((0, 0, 0, 0, 0, 0), (page, page, page, 0, 0, 0), (0, page, 0, page, 0, 0), (1, page, 0, 0, 0, 0),
                      (page, page, page, page, page, 0), (page, 0, 0, 0, 0, 0), (0xfee1dead, 672274793, 0, 0, 0, 0)):
        result = call(numbers, *arguments)
        if result not in (-errno.EPERM, -errno.ENOSYS, -errno.EACCES):
            print(name, "answered", result)
"""
"""Refused outright, before the kernel looks at the arguments: no mistake in how it does can be reached."""

MOUNT = """
NONE, PAGE = 0, ctypes.create_string_buffer(b"x", 4096)
os.makedirs("m", exist_ok=True)
kinds = (b"tmpfs", b"proc", b"sysfs", b"cgroup", b"cgroup2", b"overlay", b"debugfs", b"devtmpfs", b"mqueue")
for kind in kinds:
    if libc.mount(b"none", b"m", kind, ctypes.c_ulong(0), b"") == 0:
        print("mounted", kind)
for source in (b"/", b"/proc", b"/tmp", b"/usr"):
    for flags in (4096, 4096 | 16384, 32 | 4096, 1 << 18, 1 << 20):
        if libc.mount(source, b"m", None, ctypes.c_ulong(flags), None) == 0:
            print("bound", source, flags)
for target in (b"/proc/sys", b"/proc", b"/dev/shm", b"/tmp", b"/", b"/proc/keys", b"/sys"):
    if libc.umount2(target, 2) == 0:
        print("unmounted", target)
if call((155, 41), b".", b".") == 0 or call((161, 51), b"m") == 0:
    print("changed the root")
for fd in (call((428, 428), -100, b"/", 1), call((430, 430), b"tmpfs", 0), call((433, 433), -100, b"/", 0)):
    if fd >= 0:
        print("has a mount by the new calls")
"""
DEVICES = """
import stat
made = 0
BLOCK, CHAR = stat.S_IFBLK, stat.S_IFCHR
for major, minor, kind in ((8, 0, BLOCK), (254, 0, BLOCK), (259, 0, BLOCK), (1, 1, CHAR), (1, 2, CHAR), (1, 11, CHAR),
                           (10, 229, CHAR), (10, 200, CHAR)):
    for folder in (".", "/tmp", "/dev/shm", os.path.expanduser("~")):
        path = os.path.join(folder, "device")
        try:
            os.mknod(path, 0o666 | kind, os.makedev(major, minor))
            open(path, "rb").close()
            print("has a device", major, minor)
        except OSError:
            pass
        try:
            os.unlink(path)
        except OSError:
            pass
allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
for folder, _, names in os.walk("/dev"):
    for name in names:
        path = os.path.join(folder, name)
        mode = os.stat(path).st_mode if os.path.exists(path) else 0
        if name in allowed or folder.endswith("pts") or os.path.islink(path):
            continue
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                print("opened", path)
            except OSError:
                pass
"""
SETTINGS = """
for top in ("/proc/sys", "/sys"):
    for folder, folders, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
            print("can write", path)
            os.close(fd)
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/mtrr",
             "/proc/acpi/wakeup", "/proc/irq/0/smp_affinity", "/proc/bus/pci/00/00.0", "/proc/timer_list", "/proc/keys",
             "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/sys/power/state"):
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        if os.write(fd, b"|/tmp/attacker\\n") > 0 and os.read(os.open(path, os.O_RDONLY), 4):
            print("wrote", path)
    except OSError:
        pass
"""
CLOCK = """
import time
before = time.time()
for attempt in (lambda: time.clock_settime(time.CLOCK_REALTIME, 1e9), lambda: time.clock_settime(time.CLOCK_TAI, 1e9)):
    try:
        attempt()
        print("set")
    except OSError:
        pass
timeval = (ctypes.c_long * 2)(1_000_000_000, 0)
timex = (ctypes.c_long * 32)(0x0001 | 0x4000, 3_600_000_000)
if call((164, 170), timeval, 0) == 0 or call((159, 171), timex) >= 0 or call((305, 266), 0, timex) >= 0:
    print("set")
if abs(time.time() - before) > 600:
    print("moved")
"""
OTHER_ARCHITECTURE = """
# The same kernel by the numbers of x32 and of 32-bit programs, where a filter may look elsewhere.
import mmap
mount = (b"none", b"/tmp", b"tmpfs", 0, 0)
for number, arguments in ((272, (0x10000000,)), (56, (0x10000000 | 17, 0, 0, 0, 0)), (165, mount)):
    result = call((number | 0x40000000, None), *arguments)
    if result == 0 and number == 56:
        os._exit(0)
    if result >= 0:
        print("x32 reaches", number)
if not ARM:
    code = mmap.mmap(-1, 4096, prot=7)
    # push rbx; mov eax, edi; mov ebx, esi; xor ecx, ecx; int 0x80; pop rbx; ret
    code.write(bytes.fromhex("5389f889f331c9cd805bc3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    enter = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)
    pid = os.fork()
    if pid == 0:
        os._exit(1 if enter(310, 0x10000000) == 0 else 0)  # unshare, as a 32-bit program calls it
    if os.WIFEXITED(status := os.waitpid(pid, 0)[1]) and os.WEXITSTATUS(status):
        print("a 32-bit call reaches unshare")
"""
KEYS = """
SESSION, USER = -3, -4
for ring in (SESSION, USER, -5):
    if call((248, 217), b"user", b"attacker", b"x", 1, ring) > 0:
        print("added a key to", ring)
    if call((250, 219), 0, ring, 1) > 0:
        print("reaches the ring", ring)
if call((249, 218), b"user", b"attacker", 0, SESSION) > 0:
    print("requested a key")
"""
TERMINAL = """
import fcntl
master, slave = os.openpty()
for request, argument in ((0x5412, b"x"), (0x541C, b"\\x03")):
    try:
        fcntl.ioctl(slave, request, argument)
        print("typed")
    except OSError:
        pass
"""


class Kernel(Attacks):
    async def test_refused_calls(self, world: Environment) -> None:
        """System calls that no program of an agent needs: bpf, perf, keyrings, modules, kexec, io_uring, userfaultfd,
        reboot, swap, mounts and others."""
        numbers = {**NUMBERS, **FALL_BACK}
        await contained(world, CALL_IT, json.dumps({name: numbers[name] for name in REFUSED}))

    async def test_mounts(self, world: Environment) -> None:
        """Mounting, unmounting, binding, and other roots."""
        await contained(world, MOUNT)

    async def test_devices(self, world: Environment) -> None:
        """Disks, memory and other devices, by what is there and by mknod."""
        await contained(world, DEVICES)

    async def test_settings(self, world: Environment) -> None:
        """Writing any setting of the kernel in /proc and /sys: core_pattern, sysrq, modprobe, uevent_helper."""
        await contained(world, SETTINGS)

    async def test_clock(self, world: Environment) -> None:
        """Setting the clock, or its speed."""
        await contained(world, CLOCK)

    async def test_keyrings(self, world: Environment) -> None:
        """The kernel's keyrings, which know no worlds."""
        await contained(world, KEYS)

    async def test_core_dumps(self, world: Environment) -> None:
        """Core dumps: files of any size, written by the kernel."""
        dump = "ulimit -c unlimited; python3 -c 'import os; x = bytearray(50 << 20); os.kill(os.getpid(), 11)'; true"
        where = Path(str(host_settings().get("kernel/core_pattern", ""))).parent
        before = set(where.glob("*")) if where.is_absolute() else set()
        await world.exec(dump)
        assert (await world.exec("ls core* /tmp/core* /var/crash/* 2>/dev/null; ulimit -Hc")).stdout == b"0\n"
        assert not where.is_absolute() or set(where.glob("*")) <= before

    async def test_personality(self, world: Environment) -> None:
        """Switching off address randomisation, or making all memory executable."""
        change = (
            "for value in (0x0040000, 0x0400000, 0x0100000):\n"
            "    if call((135, 92), value) >= 0: print('changed', hex(value))"
        )
        await contained(world, change)

    async def test_other_architectures(self, world: Environment) -> None:
        """System calls by the numbers of another architecture."""
        await contained(world, OTHER_ARCHITECTURE)

    async def test_typing_on_terminals(self, world: Environment) -> None:
        """Putting input into a terminal that somebody else reads (TIOCSTI, TIOCLINUX)."""
        await contained(world, TERMINAL)
