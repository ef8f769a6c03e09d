"""Attacks that try to outlive what should have ended them: a timeout, a signal, the world's close."""

from __future__ import annotations

import asyncio
import time

import pytest

from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, Shell
from trellis.environments.hostile.arena import Arena, Attacks, StartWorld, attack, host_processes

DEADLINE_S = 15.0
"""By when a command that does not want to end has been ended, after its timeout."""

FOUND = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '[{first}]{rest}'"
RESPAWN = """
import signal, time
marker = sys.argv[1]
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
end = time.time() + 60
while time.time() < end:
    # A new process every few milliseconds, and the old one leaves: whoever kills by number comes too late.
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.003)
"""
HANG_UP = """
import signal
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
    if pid != os.getpid():
        for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except OSError:
                pass
"""


def _marker() -> str:
    return f"outlives-{time.time_ns()}"


async def _left(world: Environment, marker: str) -> int:
    """How many processes of the world have the marker in their command line, once all had time to die."""
    for _ in range(50):
        found = await world.exec(FOUND.format(first=marker[0], rest=marker[1:]))
        if found.stdout.strip() == b"0":
            return 0
        await asyncio.sleep(0.1)
    return int(found.stdout or b"-1")


async def _begun(world: Environment, marker: str, number: int) -> bool:
    """Have so many processes with the marker begun?"""
    for _ in range(100):
        if int((await world.exec(FOUND.format(first=marker[0], rest=marker[1:]))).stdout) >= number:
            return True
        await asyncio.sleep(0.05)
    return False


STOP_ALL = """
import signal
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
    if pid != os.getpid():
        try:
            os.kill(pid, signal.SIGSTOP)
        except OSError:
            pass
"""


async def _comes_back(shell: Shell) -> bool:
    """Whoever was to start the next bash may have been killed or stopped as well, which is only seen then."""
    for _ in range(5):
        if (await shell.run("echo alive", timeout_s=3)).output == b"alive\n":
            return True
    return False


class Persistence(Attacks):
    @pytest.mark.parametrize("stream", ["exec", "shell"])
    async def test_ignoring_signals(self, world: Environment, stream: str) -> None:
        """A command that ignores every signal that can be ignored."""
        marker = _marker()
        deaf = f'bash -c \'trap "" TERM INT HUP QUIT PIPE USR1 USR2 TSTP; exec -a {marker} python3 -c "{_DEAF}"\''
        began_s = time.monotonic()
        if stream == "exec":
            assert (await world.exec(deaf, timeout_s=1)).timed_out
        else:
            shell = await world.open_shell()
            assert (await shell.run(deaf, timeout_s=1)).timed_out
            await shell.close()
        assert time.monotonic() - began_s < DEADLINE_S
        assert await _left(world, marker) == 0

    async def test_stopped_trees(self, world: Environment) -> None:
        """A tree of processes that are all stopped."""
        marker = _marker()
        tree = f"for i in 1 2 3 4; do bash -c 'bash -c \"kill -STOP \\$\\$\" {marker} & kill -STOP $$' {marker} & done"
        began_s = time.monotonic()
        assert (await world.exec(f"{tree}; kill -STOP $$", timeout_s=1)).timed_out
        assert time.monotonic() - began_s < DEADLINE_S
        assert await _left(world, marker) == 0

    async def test_daemons_after_a_timeout(self, world: Environment) -> None:
        """Daemons, forked twice into sessions of their own, of a command that ran into its timeout."""
        marker = _marker()
        nested = f"trap : TERM HUP INT; exec -a {marker} sleep 600"
        hide = f"setsid bash -c 'setsid bash -c \"{nested}\" & disown' & setsid setsid bash -c '{nested}' &"
        assert (await world.exec(f"{hide} sleep 60", timeout_s=1)).timed_out
        assert await _left(world, marker) == 0

    async def test_respawning(self, world: Environment) -> None:
        """A process that is another every few milliseconds."""
        marker = _marker()
        respawn = await world.exec(
            ["bash", "-c", f"for i in 1 2 3; do python3 -c '{_one_line(RESPAWN)}' {marker} & done; sleep 60"],
            timeout_s=2,
        )
        assert respawn.timed_out
        assert await _left(world, marker) == 0

    async def test_daemons_after_close(self, start: StartWorld, limited: EnvironmentSpec) -> None:
        """Daemons that ignore signals, stop themselves or respawn while the world is closed."""
        world, marker = await start(limited), _marker()
        await world.exec(f"setsid bash -c 'trap \"\" TERM HUP INT; exec -a {marker} sleep 600' >/dev/null 2>&1 &")
        await world.exec(f"setsid bash -c 'kill -STOP $$; sleep 600' {marker} >/dev/null 2>&1 &")
        await world.exec(f"setsid python3 -c '{_one_line(RESPAWN)}' {marker} >/dev/null 2>&1 &")
        assert await _begun(world, marker, 3)
        began_s = time.monotonic()
        await world.close()
        assert time.monotonic() - began_s < 30
        assert host_processes(marker) == []

    async def test_killing_the_overseers(self, world: Environment) -> None:
        """Every signal to every process of the world that is not the attacker's own, the first one included."""
        await attack(world, HANG_UP, timeout_s=10)
        await self._answers(world)
        assert (await world.exec("kill -9 -1; sleep 60", timeout_s=10)).exit_code == 137
        await self._answers(world)

    async def test_stopping_the_overseers(self, world: Environment) -> None:
        """Stopping every process of the world that is not the attacker's own, those of later commands included."""
        await asyncio.gather(*(world.exec("sleep 0.2") for _ in range(8)))  # whoever waits for the next command
        shell = await world.open_shell()
        await shell.run("true")
        await attack(world, STOP_ALL, timeout_s=3)
        for _ in range(10):
            if (await world.exec("echo alive", timeout_s=3)).stdout == b"alive\n":
                break
        else:
            pytest.fail("the world neither works nor is a fault")
        assert await _comes_back(shell)
        await shell.close()

    async def test_killing_the_overseer_of_a_shell(self, arena: Arena) -> None:
        """The same from within a shell, which has to be replaced."""
        shell = await arena.world.open_shell()
        killed = await shell.run("kill -9 $PPID 1; kill -STOP $PPID; kill -9 -1; sleep 60", timeout_s=10)
        assert killed.restarted or killed.timed_out
        assert await _comes_back(shell)
        await shell.close()

    @staticmethod
    async def _answers(world: Environment) -> None:
        """It works, or is a fault at once."""
        began_s = time.monotonic()
        try:
            assert (await world.exec("echo alive", timeout_s=10)).stdout == b"alive\n"
        except EnvironmentFault:
            assert time.monotonic() - began_s < 5


_DEAF = "import time, signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 15)]; time.sleep(600)"


def _one_line(program: str) -> str:
    """A program as one argument in single quotes."""
    assert "'" not in program
    return "import os, sys" + program
