"""Worlds as a whole: snapshots, forks, set-up, the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from trellis.environments.conformance.base import Base, Start
from trellis.environments.environment import EnvironmentFault


class Worlds(Base):
    async def test_snapshots_and_forks_share_nothing(self, start: Start) -> None:
        origin = await start()
        await origin.exec(
            "mkdir -p keep/sub gone; echo one > keep/a; echo two > gone/b; echo three > c; "
            "chmod 700 keep/sub; chmod 755 c; ln -s c link; touch 'a name\nwith a line'"
        )
        before = await origin.snapshot()
        await origin.exec("rm -r gone c; echo changed > keep/a; mkdir gone; echo new > gone/new")
        after = await origin.snapshot()
        await origin.exec("rm -rf *")

        first = await origin.fork(before)
        listing = "find . -printf '%P %y %m %l\\n' | LC_ALL=C sort; cat keep/a"
        assert (await first.exec("cat keep/a gone/b c link; stat -c %a keep/sub c")).stdout == (
            b"one\ntwo\nthree\nthree\n700\n755\n"
        )
        assert (await first.exec(["test", "-e", "a name\nwith a line"])).ok
        second = await origin.fork(after)
        assert (await second.exec("cat keep/a; ls gone; ls c link 2>/dev/null")).stdout == b"changed\nnew\nlink\n"

        await first.exec("echo first > keep/a; rm c")
        again = await first.fork(before)
        assert (await again.exec(listing)).stdout.endswith(b"one\n")
        child = await first.fork()
        assert (await child.exec("cat keep/a; ls c 2>/dev/null")).stdout == b"first\n"
        await child.exec("echo child > keep/a")
        assert (await first.exec("cat keep/a")).stdout == b"first\n"
        for world in (child, again, second, first, origin):
            await world.close()

    async def test_a_fork_outlives_its_origin(self, start: Start) -> None:
        origin = await start()
        await origin.exec("echo kept > file")
        fork = await origin.fork()
        await origin.close()
        assert (await fork.exec("cat file")).stdout == b"kept\n"
        await fork.close()

    async def test_snapshots_do_not_end_processes(self, start: Start) -> None:
        world = await start()
        shell = await world.open_shell()
        await shell.run("x=kept; sleep 600 &")
        await world.snapshot()
        assert (await shell.run("echo $x; kill %1 && echo alive")).output == b"kept\nalive\n"
        await world.close()

    async def test_a_closed_world_is_a_fault(self, start: Start) -> None:
        world = await start()
        shell = await world.open_shell()
        waiting = asyncio.create_task(world.exec("sleep 600", timeout_s=900))
        await asyncio.sleep(0.1)
        await world.close()
        await world.close()
        with pytest.raises(EnvironmentFault):
            await waiting
        for attempt in (world.exec("true"), shell.run("true"), world.read_file("x"), world.snapshot()):
            with pytest.raises(EnvironmentFault):
                await attempt

    async def test_set_up(self, start: Start) -> None:
        world = await start(replace(self.spec, setup="pwd > where; export X=lost; echo $Y > y", env={"Y": "given"}))
        assert (await world.read_file("where")).decode().strip() == world.workdir
        assert await world.read_file("y") == b"given\n"
        await world.close()
        with pytest.raises(EnvironmentFault, match=r"(?s)ended with 3.*reason"):
            await start(replace(self.spec, setup="echo the reason >&2; exit 3"))
