"""Attacks on what worlds and the host share: processes, memory, descriptors, terminals, time on the processors."""

from __future__ import annotations

import time
from contextlib import suppress

from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec
from trellis.environments.guest.streams import OUTPUT_CAP_BYTES
from trellis.environments.hostile.arena import LIMITS, Arena, Attacks, StartWorld, attack, contained, host_processes

MEMORY_SLACK_MB = 64

FORK_UNTIL_REFUSED = """
import time
started = 0
for _ in range(1000):
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    started += 1
print(started, flush=True)
time.sleep(60)
"""
TAKE_MEMORY = """
import time
ready, write = os.pipe()
children = []
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        block = bytearray(20 << 20)
        for at in range(0, len(block), 4096):
            block[at] = 1
        os.write(write, b"x")
        time.sleep(60)
        os._exit(0)
    children.append(pid)
time.sleep(3)
alive = [pid for pid in children if os.waitpid(pid, os.WNOHANG) == (0, 0)]
os.set_blocking(ready, False)
try:
    touched = len(os.read(ready, 1000))
except BlockingIOError:
    touched = 0
print(min(touched, len(alive)) * 20)
"""
OPEN_UNTIL_REFUSED = """
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    print(len(opened), flush=True)
import time
time.sleep(1)
"""
RAISE_LIMITS = """
import resource
for name in ("NPROC", "NOFILE", "FSIZE", "CORE"):
    kind = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY:
        continue
    try:
        resource.setrlimit(kind, (hard + 1, hard + 1))
        print("raised", name)
    except (ValueError, OSError):
        pass
"""
JUMP_THE_QUEUE = """
try:
    os.nice(-5)
    print("nicer")
except OSError:
    pass
for policy in (os.SCHED_FIFO, os.SCHED_RR):
    try:
        os.sched_setscheduler(0, policy, os.sched_param(1))
        print("real time")
    except OSError:
        pass
for value in (b"-1000", b"-500", b"-100", b"-1"):
    try:
        os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), value)
        print("spared when memory runs out", value)
    except OSError:
        pass
if call((251, 30), 1, 0, 1 << 13) >= 0:
    print("first at the disk")
"""


class Exhaustion(Attacks):
    async def test_fork_bomb(self, world: Environment, arena: Arena) -> None:
        """A fork bomb in bash."""
        result = await world.exec(":(){ :|:& };: ; sleep 60", timeout_s=2)
        assert result.timed_out or not result.ok
        await arena.check_bystander()

    async def test_processes_are_counted(self, world: Environment) -> None:
        """As many processes as the kernel gives."""
        result = await attack(world, FORK_UNTIL_REFUSED, timeout_s=2)
        assert 0 < int(result.stdout or b"0") < LIMITS.pids + 16

    async def test_close_during_a_fork_bomb(self, start: StartWorld, limited: EnvironmentSpec) -> None:
        """A fork bomb that goes on while the world is closed."""
        world = await start(limited)
        marker = f"bomb-{time.time_ns()}"
        bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
        await world.exec(f"python3 -c '{bomb}' {marker} >/dev/null 2>&1 & sleep 0.5; exit 0", timeout_s=10)
        began_s = time.monotonic()
        await world.close()
        assert time.monotonic() - began_s < 30
        assert host_processes(marker) == []

    async def test_memory_of_one(self, world: Environment) -> None:
        """More memory than the world has, in one process."""
        hog = "x = bytearray(700 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint('got it')"
        result = await attack(world, hog)
        assert b"got it" not in result.stdout
        assert not result.ok

    async def test_memory_of_many(self, world: Environment) -> None:
        """More memory than the world has, spread over many processes."""
        result = await attack(world, TAKE_MEMORY)
        assert not result.ok or int(result.stdout) <= LIMITS.memory_mb + MEMORY_SLACK_MB

    async def test_memory_in_shared_memory(self, world: Environment) -> None:
        """Filling /dev/shm and other file systems in memory."""
        fill = "for d in /dev/shm /run /dev /dev/mqueue; do head -c 1G /dev/zero > $d/x$i; done 2>/dev/null"
        await world.exec(f"for i in 1 2 3 4 5 6 7 8; do {fill}; done", timeout_s=30)
        shown = await world.exec("cat /dev/shm/* /run/* /dev/x* 2>/dev/null | wc -c", timeout_s=30)
        assert int(shown.stdout or b"0") >> 20 <= LIMITS.memory_mb

    async def test_memory_in_memory_files(self, world: Environment) -> None:
        """Memory held in files that have no name."""
        fill = """
files, taken = [], 0
for _ in range(24):
    fd = os.memfd_create("x")
    files.append(fd)
    for _ in range(30):
        taken += os.write(fd, b"x" * (1 << 20))
print("got it", taken)
"""
        with suppress(EnvironmentFault):  # what keeps the world alive may be taken along
            assert b"got it" not in (await attack(world, fill)).stdout

    async def test_inodes_in_memory(self, world: Environment) -> None:
        """More files than fit, where files are kept in memory."""
        fill = """
made = 0
try:
    for made in range(2_000_000):
        os.close(os.open("/dev/shm/%d" % made, os.O_CREAT | os.O_WRONLY))
except OSError:
    pass
print("all" if made == 1_999_999 else made)
"""
        result = await attack(world, fill, timeout_s=20)
        assert b"all" not in result.stdout

    async def test_descriptors(self, world: Environment, arena: Arena) -> None:
        """Every descriptor that the kernel gives."""
        result = await attack(world, OPEN_UNTIL_REFUSED)
        assert int(result.stdout) <= 1 << 16
        await arena.check_bystander()

    async def test_terminals(self, world: Environment, arena: Arena) -> None:
        """Every pseudo-terminal that the kernel gives."""
        result = await attack(
            world, "held = []\ntry:\n    while True: held.append(os.openpty())\nexcept OSError: print(len(held))"
        )
        assert int(result.stdout) < 4096
        assert (await arena.bystander.exec(["python3", "-c", "import os; os.openpty()"])).ok

    async def test_processors(self, world: Environment, arena: Arena) -> None:
        """Endless loops in all processes that the world may have."""
        spin = "for i in $(seq 50); do (while :; do :; done) & done; sleep 60"
        running = await world.exec(f"({spin}) >/dev/null 2>&1 & sleep 1")
        assert running.duration_s < 30
        await arena.check_bystander()

    async def test_limits_cannot_be_raised(self, world: Environment) -> None:
        """Raising one's own limits."""
        await contained(world, RAISE_LIMITS)

    async def test_priorities(self, world: Environment) -> None:
        """Priority on processors and disk, and being spared when the host's memory runs out."""
        await contained(world, JUMP_THE_QUEUE)

    async def test_huge_output(self, world: Environment) -> None:
        """Two gigabytes of output."""
        result = await world.exec("yes | head -c 2G", timeout_s=60)
        assert len(result.stdout) < OUTPUT_CAP_BYTES + 4096

    async def test_endless_output(self, world: Environment) -> None:
        """Output that never ends, while nothing of it may fill the disk either."""
        result = await world.exec("cat /dev/urandom", timeout_s=2)
        assert result.timed_out or not result.ok
        assert len(result.stdout) < OUTPUT_CAP_BYTES + 4096
        kept = await world.exec("cat /tmp/output-* 2>/dev/null | wc -c")
        assert int(kept.stdout) <= LIMITS.disk_mb << 20

    async def test_output_without_lines(self, world: Environment) -> None:
        """Endless output without a line end on both streams, in a shell as well."""
        flood = "tr '\\0' x </dev/zero & tr '\\0' y </dev/zero >&2"
        result = await world.exec(flood, timeout_s=1.5)
        assert max(len(result.stdout), len(result.stderr)) < OUTPUT_CAP_BYTES + 4096
        shell = await world.open_shell()
        flooded = await shell.run(flood, timeout_s=1.5)
        assert len(flooded.output) < OUTPUT_CAP_BYTES + 4096
        await shell.close()
