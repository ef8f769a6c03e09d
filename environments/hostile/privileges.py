"""Attempts to become more than an ordinary user of one's own world."""

from __future__ import annotations

from trellis.environments.environment import Environment
from trellis.environments.hostile.arena import Attacks, contained

BECOME_ROOT = """
for name, attempt in {
    "setuid": lambda: os.setuid(0), "setgid": lambda: os.setgid(0), "setreuid": lambda: os.setreuid(0, 0),
    "setresuid": lambda: os.setresuid(0, 0, 0), "setgroups": lambda: os.setgroups([0]),
    "seteuid": lambda: os.seteuid(0),
}.items():
    if os.getuid() == 0 and name not in ("setgroups",):
        continue
    try:
        attempt()
        print("did", name)
    except OSError:
        pass
caps = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
if any(int(value, 16) for value in caps):
    print("has capabilities", caps)
if "NoNewPrivs:\\t1" not in open("/proc/self/status").read():
    print("could gain privileges by running a program")
if libc.prctl(47, 2, 21, 0, 0) == 0:
    print("raised an ambient capability")
header, data = b"\\x22\\x05\\x08\\x20\\0\\0\\0\\0", b"\\xff" * 24
if libc.capset(header, data) == 0:
    print("set capabilities")
if libc.prctl(38, 0, 0, 0, 0) == 0:
    print("took no_new_privs back")
"""
SETUID_COPY = """
import shutil, stat, subprocess
shutil.copy("/bin/cat", "mine")
try:
    os.chmod("mine", 0o6755)
except OSError:
    pass
try:
    shown = subprocess.run(["./mine", "/proc/self/status"], capture_output=True).stdout.decode()
except OSError:
    shown = ""
ids = [number for line in shown.splitlines() if line.startswith("Uid") for number in line.split()[1:]]
if os.getuid() != 0 and "0" in ids:
    print("became root by a copy")
try:
    os.setxattr("mine", "security.capability", bytes.fromhex("0100000200002000000000000000000000000000"))
    print("gave a file capabilities")
except OSError:
    pass
try:
    os.chown("mine", 0, 0)
    if os.getuid() != 0:
        print("gave a file to root")
except OSError:
    pass
"""
RUN_SETUID = """
found=$(find / -xdev -perm /6000 -type f -not -path '/proc/*' 2>/dev/null)
for program in $found /usr/bin/su /usr/bin/sudo /usr/bin/passwd /usr/bin/newgrp /usr/bin/pkexec /bin/mount; do
    [ -x $program ] || continue
    cp $program suspect 2>/dev/null
    timeout 2 $program -c 'id -u' </dev/null 2>/dev/null | grep -x 0
    timeout 2 $program id -u </dev/null 2>/dev/null | grep -x 0
done
true
"""
NEW_NAMESPACES = """
flags = {"mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
         "pid": 0x20000000, "net": 0x40000000, "time": 0x80}
for name, flag in flags.items():
    for extra in (0, 0x10000000):
        pid = os.fork()
        if pid == 0:
            os._exit(1 if call((272, 97), flag | extra) == 0 else 0)
        if os.waitpid(pid, 0)[1]:
            print("unshared", name)
        if flag != 0x80:
            got = call((56, 220), flag | extra | 17, 0, 0, 0, 0)
            if got == 0:
                os._exit(0)
            if got > 0:
                print("cloned into a new", name)
        arguments = (ctypes.c_uint64 * 11)(flag | extra, 0, 0, 0, 17)
        got = call((435, 435), arguments, 88)
        if got == 0:
            os._exit(0)
        if got > 0:
            print("clone3 into a new", name)
for name in ("mnt", "pid", "net", "user", "ipc", "uts", "cgroup"):
    for pid in ("1", "self"):
        try:
            fd = os.open("/proc/%s/ns/%s" % (pid, name), os.O_RDONLY)
        except OSError:
            continue
        if call((308, 268), fd, 0) == 0:
            print("entered", name, "of", pid)
"""
TRACE = """
import struct
ATTACH, SEIZE, PEEK = 16, 0x4206, 1
mine = {os.getpid()}
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
    if pid in mine:
        continue
    for request in (SEIZE, ATTACH):
        if call((101, 117), request, pid, 0, 0) == 0:
            print("traces", pid)
    local, remote = ctypes.create_string_buffer(8), 0
    for number in ((310, 270), (311, 271)):
        one = struct.pack("QQ", ctypes.addressof(local), 8)
        other = struct.pack("QQ", 0x400000, 8)
        got = call(number, pid, one, 1, other, 1, 0)
        if got > 0 or got == -errno.EFAULT:
            print("reaches the memory of", pid)
"""


class Privileges(Attacks):
    async def test_becoming_root(self, world: Environment) -> None:
        """Other user numbers, groups and capabilities, by asking for them."""
        await contained(world, BECOME_ROOT)

    async def test_setuid_programs(self, world: Environment) -> None:
        """The setuid programs that the system has."""
        result = await world.exec(RUN_SETUID, timeout_s=60)
        inside = (await world.exec(["id", "-u"])).stdout
        assert result.stdout == b"" or inside == b"0\n"

    async def test_setuid_files_of_one_s_own(self, world: Environment) -> None:
        """Files with setuid bits, capabilities or root as their owner."""
        await contained(world, SETUID_COPY)

    async def test_new_namespaces(self, world: Environment) -> None:
        """New namespaces of every kind, and joining those of others: the way to capabilities."""
        await contained(world, NEW_NAMESPACES)
        for command in ("unshare --user true", "unshare -r --mount true", "nsenter -t 1 -m true"):
            assert not (await world.exec(command)).ok

    async def test_tracing(self, world: Environment) -> None:
        """ptrace, process_vm_readv and process_vm_writev on what serves the host and what oversees commands."""
        await contained(world, TRACE)

    async def test_host_name(self, world: Environment) -> None:
        """Changing the name of the machine and of its domain."""
        rename = "for number in ((170, 161), (171, 162)):\n    if call(number, b'attacker', 8) == 0: print('renamed')"
        await contained(world, rename)
        assert not (await world.exec("hostname attacker")).ok

    async def test_control_groups(self, world: Environment) -> None:
        """Leaving or widening one's control groups, and the program that the kernel runs when one empties."""
        names = "release_agent cgroup.procs notify_on_release memory.limit_in_bytes memory.max pids.max devices.allow"
        escape = f"""
            for name in {names}; do
                for file in $(find /sys/fs/cgroup /cgroup -name $name 2>/dev/null); do
                    for value in 1 /tmp/x 'a *:* rwm' max $$; do echo $value > $file && echo wrote $file; done
                done
            done 2>/dev/null
            mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made
            true
        """
        assert (await world.exec(escape)).stdout == b""
