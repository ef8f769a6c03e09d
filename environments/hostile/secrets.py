"""Attacks on what others know: the host's files, keys and processes, and other worlds."""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import shared_memory
from pathlib import Path

import pytest

from trellis.environments import store
from trellis.environments.environment import Environment
from trellis.environments.hostile.arena import Arena, Attacks, contained

IPC_CREAT, IPC_RMID = 0o1000, 0

LOOK_AT_PROCESSES = """
import glob
wanted = sys.argv[1].encode()
for path in [path for name in ("environ", "cmdline", "task/*/environ") for path in glob.glob("/proc/[0-9]*/" + name)]:
    if path.split("/")[2] in (str(os.getpid()), "self"):
        continue
    try:
        if wanted in open(path, "rb").read():
            print("found in", path)
    except OSError:
        pass
"""
LOOK_AT_MEMORY = """
import glob
reached = 0
for path in glob.glob("/proc/[0-9]*/mem"):
    pid = path.split("/")[2]
    if pid == str(os.getpid()):
        continue
    try:
        first = open("/proc/%s/maps" % pid).readline().split("-")[0]
        memory = open(path, "rb")
        memory.seek(int(first, 16))
        memory.read(16)
        print("read the memory of", pid)
    except (OSError, ValueError):
        pass
"""


@dataclass(frozen=True, slots=True)
class Host:
    """What the host has that nobody inside may learn; everybody on the host may read these files."""

    token: str
    folder: Path
    files: tuple[Path, ...]


@contextmanager
def host_with_secrets() -> Iterator[Host]:
    token = f"secret-{secrets.token_hex(12)}"
    with tempfile.TemporaryDirectory(prefix="trellis-hostile-") as name:
        folder = Path(name)
        files = (folder / ".ssh/id_ed25519", folder / ".aws/credentials", folder / f"named-{token}")
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text(token)
        folder.chmod(0o755)
        command = [sys.executable, "-c", "import time; time.sleep(600)", token]
        process = subprocess.Popen(command, env={"SOME_API_KEY": token})
        try:
            yield Host(token, folder, files)
        finally:
            process.kill()
            process.wait()


class Secrets(Attacks):
    @pytest.fixture(scope="class")
    @classmethod
    def host(cls) -> Iterator[Host]:
        with host_with_secrets() as host:
            yield host

    async def test_files_of_the_host(self, world: Environment, host: Host) -> None:
        """The host's files, keys as in ~/.ssh among them, by their paths and by searching for them."""
        for file in host.files:
            assert file.read_text() == host.token
            assert host.token.encode() not in (await world.exec(["cat", str(file)])).stdout
        found = await world.exec(f"find / -name '*{host.token}*' -not -path '/proc/*' 2>/dev/null", timeout_s=60)
        assert found.stdout == b""
        home = await world.exec("cat ~/.ssh/id* ~/.aws/* ~/.netrc ~/.docker/config.json ~/.config/gcloud/* 2>/dev/null")
        assert home.stdout == b""

    async def test_through_the_kernel_s_doors(self, world: Environment, host: Host) -> None:
        """The same by the roots, folders and descriptors of processes, and by handles of files."""
        roots = "for p in /proc/[0-9]*; do cat $p/root{0} $p/cwd{0} $p/fd/*{0}; done 2>/dev/null"
        assert host.token.encode() not in (await world.exec(roots.format(host.files[0]))).stdout
        by_handle = """
handle = ctypes.create_string_buffer(b"\\x08\\0\\0\\0\\x01\\0\\0\\0\\x02\\0\\0\\0\\0\\0\\0\\0", 136)
for folder in ("/", "/tmp", "/usr", os.getcwd()):
    fd = os.open(folder, os.O_RDONLY)
    if call((304, 265), fd, handle, os.O_RDONLY) >= 0:
        print("opened the root of a file system by its handle")
"""
        await contained(world, by_handle)

    async def test_variables_of_processes(self, world: Environment, host: Host) -> None:
        """The variables and command lines of the host's processes, a key among them."""
        await contained(world, LOOK_AT_PROCESSES, host.token[7:-1])

    async def test_memory_of_processes(self, world: Environment) -> None:
        """The memory of every process but one's own children, the one that serves the host first."""
        await contained(world, LOOK_AT_MEMORY)

    async def test_processes_of_the_host(self, world: Environment, host: Host) -> None:
        """Seeing the host's processes, and sending them signals by their numbers."""
        victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        try:
            await world.exec(f"kill -9 {victim.pid} {os.getpid()}; kill -STOP {victim.pid} {os.getppid()}; true")
            assert victim.poll() is None
            seen = (await world.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout
            assert b"time.sleep(600)" not in seen
        finally:
            victim.kill()
            victim.wait()

    async def test_other_worlds(self, world: Environment, arena: Arena) -> None:
        """The files of another world, and the place where the host keeps those of all."""
        found = await world.exec(f"find / -name '*{arena.token}*' -not -path '/proc/*' 2>/dev/null", timeout_s=60)
        assert found.stdout == b""
        places = f"{store.store_folder()} /var/lib/docker /var/lib/containers /run/containerd"
        assert (await world.exec(f"ls -A {places} 2>/dev/null | grep -v :$")).stdout.strip() == b""
        layers = "grep -oE '(upperdir|lowerdir|workdir)=[^,: ]*' /proc/self/mountinfo | cut -d= -f2"
        assert (await world.exec(f"for d in $({layers}); do ls $d/.. $d/files $d; done 2>/dev/null")).stdout == b""

    async def test_processes_of_other_worlds(self, world: Environment, arena: Arena) -> None:
        """Seeing and killing the processes of another world."""
        marker = f"neighbour-{time.time_ns()}"
        begun = await arena.bystander.exec(f"(exec -a {marker} sleep 600) >/dev/null 2>&1 & echo $!")
        await world.exec("for p in $(seq 2 3000); do kill -9 $p; done 2>/dev/null", timeout_s=10)
        assert (await arena.bystander.exec(["kill", begun.stdout.decode().strip()])).ok
        await contained(world, LOOK_AT_PROCESSES, marker[1:])

    async def test_shared_memory(self, world: Environment) -> None:
        """Shared memory of the host, by System V keys and by name."""
        libc = ctypes.CDLL(None, use_errno=True)
        key = secrets.randbelow(1 << 30) + 1
        segment = libc.shmget(key, 4096, IPC_CREAT | 0o666)
        named = shared_memory.SharedMemory(create=True, size=4096)
        try:
            assert segment >= 0
            await contained(world, f"if libc.shmget({key}, 0, 0) >= 0: print('got it')")
            assert not (await world.exec(["ls", f"/dev/shm/{named.name.lstrip('/')}"])).ok
        finally:
            libc.shmctl(segment, IPC_RMID, None)
            named.close()
            named.unlink()

    async def test_the_kernel_s_log(self, world: Environment) -> None:
        """What the kernel says about the whole machine: its log, its memory, its symbols' places."""
        shown = "dmesg; head -c 100 /dev/kmsg /proc/kmsg /proc/kcore /dev/mem /dev/kmem /dev/port"
        assert (
            await world.exec(f"({shown}) 2>/dev/null | grep -v '^==>' | head -c 100", timeout_s=10)
        ).stdout.strip() == b""
        symbols = await world.exec("grep -cvE '^0+ ' /proc/kallsyms")
        assert symbols.stdout.strip() in (b"", b"0")
