"""Attacks on the disk: more bytes and more files than a world may have, in every way to hide them."""

from __future__ import annotations

from trellis.environments.environment import Environment, EnvironmentFault
from trellis.environments.hostile.arena import LIMITS, Arena, Attacks, attack

RUN_AWAY_MB = 1024
"""Beyond its limit a world may get as far as its speed takes it in the moment until it is stopped, but never this."""

WRITE = """
def fill(fd, megabytes=48, block=bytes(1 << 20)):
    for _ in range(megabytes):
        os.write(fd, block)
"""


class Disk(Attacks):
    async def test_one_big_file(self, world: Environment) -> None:
        """One file larger than the world's disk."""
        result = await world.exec("dd if=/dev/zero of=big bs=1M count=200", timeout_s=60)
        assert not result.ok
        await world.exec("sleep 1")  # it may be stopped for having reached the limit: that is later than the error
        assert int((await world.exec("stat -c %s big")).stdout) <= LIMITS.disk_mb << 20

    async def test_many_files(self, arena: Arena) -> None:
        """Many files, none of them too large."""
        fast = "for n in range(4000):\n    fill(os.open('f%d' % n, os.O_CREAT | os.O_WRONLY))\nprint('all')"
        await self._is_stopped(arena, fast)

    async def test_deleted_files(self, arena: Arena) -> None:
        """Files that are deleted at once and held open, so that no folder shows them."""
        hidden = """
for n in range(4000):
    fd = os.open("f", os.O_CREAT | os.O_WRONLY)
    os.unlink("f")
    fill(fd)
print("all")
"""
        await self._is_stopped(arena, hidden)

    async def test_mapped_files(self, arena: Arena) -> None:
        """Files that are deleted and closed, and written through memory."""
        hidden = """
import mmap
held = []
for n in range(4000):
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.unlink("f")
    os.ftruncate(fd, 48 << 20)
    held.append(mmap.mmap(fd, 48 << 20))
    os.close(fd)
    for at in range(0, 48 << 20, 1 << 20):
        held[-1][at : at + (1 << 20)] = bytes(1 << 20)
    held[-1].flush()
print("all")
"""
        await self._is_stopped(arena, hidden)

    async def test_allocated_but_not_written(self, arena: Arena) -> None:
        """Disk taken with fallocate, beyond the ends of files."""
        hidden = """
KEEP_SIZE = 1
for n in range(4000):
    fd = os.open("f%d" % n, os.O_CREAT | os.O_WRONLY)
    if libc.fallocate(fd, KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(48 << 20)):
        fill(fd)
print("all")
"""
        await self._is_stopped(arena, hidden)

    async def test_by_a_daemon(self, world: Environment) -> None:
        """A process in the background that fills the disk after its command has ended."""
        fill = "i=0; while :; do i=$((i+1)); head -c 8M /dev/zero > daemon$i; done"
        await world.exec(f"setsid bash -c '{fill}' >/dev/null 2>&1 & echo begun")
        await world.exec("sleep 4", timeout_s=20)
        used = (await world.exec("du -sm .")).stdout.split()
        assert int(used[0]) < LIMITS.disk_mb + RUN_AWAY_MB
        before = (await world.exec("ls | wc -l")).stdout
        await world.exec("sleep 1", timeout_s=20)
        assert (await world.exec("ls | wc -l")).stdout == before, "the daemon is not stopped"

    async def test_in_every_writable_place(self, world: Environment) -> None:
        """Filling the disk outside the workdir: home, /tmp, /var/tmp and wherever else it can be written."""
        places = "for d in ~ /tmp /var/tmp /run /var/lib /opt /mnt /srv /etc; do"
        fill = f"for i in $(seq 400); do {places} head -c 8M /dev/zero > $d/fill$i; done; done 2>/dev/null; echo all"
        result = await world.exec(fill, timeout_s=60)
        print("written before it was stopped:", (await world.exec("du -smc ~ /tmp /var/tmp | tail -1")).stdout)
        assert b"all" not in result.stdout
        assert b"disk limit" in result.stderr
        await world.exec("rm -f ~/fill* /tmp/fill* /var/tmp/fill*")

    async def test_many_small_files(self, world: Environment) -> None:
        """More files and folders than the world may have."""
        fill = """
for n in range(200_000):
    os.close(os.open("f%d" % n, os.O_CREAT | os.O_WRONLY))
print("all")
"""
        result = await attack(world, fill, timeout_s=60)
        made = int((await world.exec("ls -f | wc -l", timeout_s=30)).stdout)
        print(f"made {made} of {LIMITS.inodes} files before it was stopped in {result.duration_s:.2f} s")
        assert b"all" not in result.stdout
        assert b"files and folders" in result.stderr
        assert made < 200_000

    async def test_sparse_files(self, world: Environment) -> None:
        """Files that are large only in name, which no copy may make real; and one that is larger than any may be."""
        assert not (await world.exec("truncate -s 1T huge && echo made")).ok
        await world.exec("for i in $(seq 10); do truncate -s 60M sparse$i; done")
        try:
            fork = await world.fork()
        except EnvironmentFault:  # that it is refused is as good
            return
        try:
            assert (await fork.exec("ls sparse* | wc -l")).stdout == b"10\n"
            assert int((await fork.exec("du -sm .")).stdout.split()[0]) < LIMITS.disk_mb
        finally:
            await fork.close()

    async def test_cleaning_up_is_possible(self, world: Environment) -> None:
        """A world that was stopped at its limit is no trap: deleting is possible, and so is writing afterwards."""
        await world.exec("for i in $(seq 100); do head -c 8M /dev/zero > fill$i; done", timeout_s=60)
        assert (await world.exec("rm fill*; echo removed", timeout_s=60)).stdout == b"removed\n"
        assert (await world.exec("head -c 30M /dev/zero > fits; sleep 1; stat -c %s fits")).stdout == b"31457280\n"

    @staticmethod
    async def _is_stopped(arena: Arena, program: str) -> None:
        arena.events.clear()
        result = await attack(arena.world, WRITE + program, timeout_s=60)
        left = (await arena.world.exec("du -sm .", timeout_s=60)).stdout.split()[0].decode()
        found = [facts["used_mb"] for kind, facts in arena.events if kind == "limit.disk"]
        print(
            f"over {LIMITS.disk_mb} MB: found at {found} MB, dead after {result.duration_s:.2f} s; {left} MB are left"
        )
        assert b"all" not in result.stdout
        assert (result.exit_code, result.timed_out) == (137, False)
        assert b"disk limit" in result.stderr
        assert max(found, default=0) < LIMITS.disk_mb + RUN_AWAY_MB
        assert int(left) < LIMITS.disk_mb + RUN_AWAY_MB
