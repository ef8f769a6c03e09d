"""Attacks on the connection between the host and the program inside the world that serves it."""

from __future__ import annotations

import asyncio
import json
import struct

from trellis.environments.environment import Environment
from trellis.environments.hostile.arena import Attacks, attack, contained

FORGED = b"forged-by-the-attacker"
ENDED: dict[str, object] = {
    "exit_code": 0,
    "signal": None,
    "timed_out": False,
    "duration_s": 0.0,
    "spilled": [],
    "restarted": False,
}


def _frames() -> bytes:
    """Answers as the program inside would give them, to requests that may be under way."""
    frames = b""
    for number in range(1, 400):
        facts = {**ENDED, "id": number, "stdout_bytes": len(FORGED)}
        header = json.dumps(facts).encode()
        frames += struct.pack(">II", len(header), len(FORGED)) + header + FORGED
    return frames


WRITE_EVERYWHERE = """
import glob, stat
frames = sys.stdin.buffer.read()
def throw(fd):
    os.set_blocking(fd, False)
    written = 0
    for _ in range(64):
        try:
            written += os.write(fd, frames)
        except OSError:
            break
    return written
reached = 0
for fd in range(3, 4096):
    try:
        reached += throw(fd)
    except OSError:
        pass
for path in glob.glob("/proc/[0-9]*/fd/*") + glob.glob("/proc/[0-9]*/task/*/fd/*"):
    if int(path.split("/")[2]) == os.getpid():
        continue
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            reached += throw(fd)
    except OSError:
        pass
print("done")
"""
CLOSE_EVERYTHING = """
import socket
for fd in list(range(3, 4096)):
    try:
        socket.socket(fileno=fd).shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    try:
        os.close(fd)
    except OSError:
        pass
os.closerange(0, 3)
"""
STEAL = """
# Descriptors of every other process, the one that serves the host among them (pidfd_open, pidfd_getfd).
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
    handle = call((434, 434), pid, 0)
    if handle < 0:
        continue
    for fd in range(0, 64):
        stolen = call((438, 438), handle, fd, 0)
        if stolen >= 0 and os.readlink("/proc/self/fd/%d" % stolen).startswith("socket:"):
            print("stole", os.readlink("/proc/self/fd/%d" % stolen))
"""
CONNECT = """
import socket
for line in open("/proc/net/unix").read().splitlines()[1:]:
    name = line.split()[-1]
    if name.startswith(("@", "/")):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(name.replace("@", "\\0", 1))
                print("connected", name)
            except OSError:
                pass
"""


class Channels(Attacks):
    async def test_forged_answers(self, world: Environment) -> None:
        """Answers forged into every descriptor that can be found, while the host waits for true ones."""
        waiting = asyncio.create_task(world.exec("sleep 1; exit 5", timeout_s=20))
        await asyncio.sleep(0.3)
        program = ["python3", "-c", WRITE_EVERYWHERE.replace("import glob", "import glob, os, sys", 1)]
        await world.exec(program, stdin=_frames(), timeout_s=20)
        result = await waiting
        assert result.exit_code == 5  # what it printed is another matter: it belongs to the same user
        assert result.duration_s > 0.9
        answer = await world.exec("echo true")
        assert (answer.stdout, answer.stderr) == (b"true\n", b"")

    async def test_forged_answers_in_a_shell(self, world: Environment) -> None:
        """What ends a command, forged into every descriptor of a shell."""
        shell = await world.open_shell()
        forge = "for n in $(seq 0 60); do for fd in {1..10}; do printf '%s 0\\n' $n >&$fd; done; done 2>/dev/null"
        forged = await shell.run(f"{forge}; sleep 0.5; (exit 7)")
        assert forged.exit_code == 7
        assert (await shell.run("echo next", timeout_s=20)).output.endswith(b"next\n")
        await shell.close()

    async def test_control_sequences_in_the_output(self, world: Environment) -> None:
        """Output that looks like the connection's own messages."""
        data = _frames()
        assert (await world.exec(["cat"], stdin=data)).stdout == data
        await world.write_file("frames", data)
        shell = await world.open_shell()
        assert (await shell.run("cat frames; cat frames >&2")).output == data * 2
        await shell.close()
        assert await world.read_file("frames") == data

    async def test_closing_the_channel(self, world: Environment) -> None:
        """Closing and shutting down every descriptor that a command has."""
        await attack(world, CLOSE_EVERYTHING)
        shell = await world.open_shell()
        await shell.run('for fd in {3..20}; do eval "exec $fd>&- $fd<&-"; done', timeout_s=10)
        assert (await shell.run("echo alive", timeout_s=20)).output == b"alive\n"
        await shell.close()
        assert (await world.exec("echo alive")).stdout == b"alive\n"

    async def test_stealing_the_channel(self, world: Environment) -> None:
        """Taking the connection out of the process that holds it."""
        await contained(world, STEAL)
        listed = await world.exec("ls -l /proc/1/fd /proc/1/map_files /proc/1/cwd/ 2>/dev/null | grep -c socket")
        assert listed.stdout == b"0\n"

    async def test_sockets_in_the_neighbourhood(self, world: Environment) -> None:
        """Connecting to every socket with a name that the kernel lists."""
        await contained(world, CONNECT)

    async def test_many_answers_at_once(self, world: Environment) -> None:
        """Two hundred commands that all print as much as they can."""
        results = await asyncio.gather(*(world.exec("head -c 300K /dev/zero", timeout_s=60) for _ in range(200)))
        assert {len(result.stdout) for result in results if result.ok} <= {300 << 10}
        assert (await world.exec("echo alive")).stdout == b"alive\n"
