"""Programs that run on while the world is used otherwise."""

from __future__ import annotations

import asyncio
import os
import resource
import signal

import pytest

from trellis.environments.conformance.base import Base, Start, gone
from trellis.environments.environment import Environment, EnvironmentFault, Process


async def everything(process: Process) -> bytes:
    """All that a program still prints."""
    data = b""
    while piece := await process.read():
        data += piece
    return data


class Processes(Base):
    async def test_a_conversation(self, world: Environment) -> None:
        process = await world.open_process(["bash", "-c", 'while read x; do echo "got $x"; done; echo end; exit 3'])
        await process.write(b"one\n")
        assert await process.read() == b"got one\n"
        await process.write(b"\xff\x00two\n")
        assert await process.read() == b"got \xfftwo\n"
        assert (await world.exec("echo meanwhile")).stdout == b"meanwhile\n"
        await process.close_stdin()
        assert await everything(process) == b"end\n"
        ended = await process.wait()
        assert (ended.exit_code, ended.signal, ended.stderr) == (3, None, b"")
        await process.close()

    async def test_variables_folder_and_standard_error(self, world: Environment) -> None:
        process = await world.open_process(["bash", "-c", 'echo "$X $PWD"; echo oops >&2'], env={"X": "y"}, cwd="/usr")
        assert await everything(process) == b"y /usr\n"
        assert (await process.wait()).stderr == b"oops\n"

    async def test_much_in_both_directions(self, world: Environment) -> None:
        data = os.urandom(1 << 20) * 24
        process = await world.open_process(["cat"])

        async def feed() -> None:
            await process.write(data)
            await process.close_stdin()

        feeding = asyncio.create_task(feed())
        assert await everything(process) == data
        await feeding
        assert (await process.wait()).ok

    async def test_unread_output_holds_the_program_up_and_fills_no_memory(self, world: Environment) -> None:
        process = await world.open_process(["bash", "-c", "yes | head -c 3G; echo never"])
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await asyncio.sleep(1.5)
        assert (await world.exec("echo alive")).stdout == b"alive\n"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 50_000
        await process.close()
        assert (await process.wait()).signal == signal.SIGKILL

    async def test_a_program_that_reads_nothing_holds_the_writer_up(self, world: Environment) -> None:
        process = await world.open_process(["sleep", "600"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await process.write(bytes(16 << 20))
        await process.close()

    async def test_a_writer_is_not_held_up_by_a_program_that_is_gone(self, world: Environment) -> None:
        data = bytes(4 << 20)
        ended = await world.open_process(["true"])
        assert (await ended.wait()).ok
        closing = await world.open_process(["sleep", "600"])
        closed_meanwhile = asyncio.create_task(closing.write(data))
        await asyncio.sleep(0.1)
        await closing.close()
        async with asyncio.timeout(60):
            await ended.write(data)
            await closed_meanwhile
            await closing.write(data)

    async def test_signals_reach_the_program(self, world: Environment) -> None:
        script = (
            "import os, signal, time\n"
            "signal.signal(2, lambda *_: (os.write(1, b'caught\\n'), os._exit(9)))\n"
            "print('on', flush=True)\n"
            "while True: time.sleep(0.05)"  # one long sleep could begin right after the signal
        )
        process = await world.open_process(["python3", "-c", script])
        assert await process.read() == b"on\n"
        await process.signal(signal.SIGINT)
        assert await everything(process) == b"caught\n"
        assert (await process.wait()).exit_code == 9
        await process.signal(signal.SIGINT)  # nobody there any more
        await process.write(b"nor here")

    async def test_closing_kills_what_it_started(self, world: Environment) -> None:
        marker = f"below-a-process-{os.getpid()}"
        process = await world.open_process(
            ["bash", "-c", f"setsid bash -c 'exec -a {marker} sleep 600' & echo on; wait"]
        )
        assert await process.read() == b"on\n"
        await process.close()
        await process.close()
        assert await gone(world, marker)

    async def test_what_cannot_be_started_ends_at_once(self, world: Environment) -> None:
        process = await world.open_process(["no-such-program"])
        assert await process.read() == b""
        ended = await process.wait()
        assert (ended.exit_code, b"no-such-program" in ended.stderr) == (127, True)

    async def test_the_end_of_the_world_is_a_fault(self, start: Start) -> None:
        world = await start()
        process = await world.open_process(["sleep", "600"])
        waiting = [asyncio.create_task(action) for action in (process.read(), process.wait())]
        await asyncio.sleep(0.1)
        await world.close()
        for task in waiting:
            with pytest.raises(EnvironmentFault):
                await task
        with pytest.raises(EnvironmentFault):
            await process.write(b"x")
        with pytest.raises(EnvironmentFault):
            await world.open_process(["true"])
