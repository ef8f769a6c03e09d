"""What a world shows of the host and of Trellis, beside what the hostile suite asks of every kind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from trellis.environments.environment import Environment, EnvironmentSpec, Resources

LABEL = f"test-{os.getpid()}"
CHECKOUT = Path(__file__).parents[2]


@pytest.mark.hostile
@pytest.mark.asyncio(loop_scope="class")
class Isolation:
    kind: ClassVar[str]

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def world(cls) -> AsyncIterator[Environment]:
        limits = Resources(pids=60, memory_mb=256, cpus=1, disk_mb=64)
        world = await EnvironmentSpec(kind=cls.kind, resources=limits).start(label=f"{LABEL}/isolation")
        yield world
        await world.close()

    async def test_files_of_the_host_are_not_there(self, world: Environment, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret of the host")
        for path in (secret, CHECKOUT / "pyproject.toml", CHECKOUT / "benchmarks", Path.home() / ".bashrc"):
            assert not (await world.exec(["ls", "-d", str(path)])).ok, path
            with pytest.raises(OSError, match=r"No such file|Permission denied"):
                await world.read_file(str(path))
        assert (await world.exec("ls -A /home")).stdout.split() == [b"agent"]
        assert (await world.exec("ls -A /tmp /var/tmp | grep -c pytest")).stdout == b"0\n"
        assert (await world.exec("ls -A /root | grep -v pyenv")).stdout == b""

    async def test_trellis_is_not_there(self, world: Environment) -> None:
        code = (
            "import importlib, sys\nfor name in ('trellis', 'trellis.benchmarks'):\n    importlib.import_module(name)"
        )
        await world.write_file("look.py", code.encode())
        result = await world.exec(["python3", "look.py"])
        assert b"ModuleNotFoundError: No module named 'trellis'" in result.stderr
        names = f"'{CHECKOUT}|bench.*answers|trellis/benchmarks'"
        assert (await world.exec(f"find / -xdev 2>/dev/null | grep -E {names} | grep -v '/.venv'")).stdout.split() in (
            [],
            [str(CHECKOUT).encode()],
        )
        site = "python3 -c 'import site; print(site.getsitepackages()[0])'"
        assert (await world.exec(f"cat $({site})/*trellis* 2>/dev/null | grep -c {CHECKOUT}")).stdout == b"0\n"

    async def test_nobody_is_root(self, world: Environment) -> None:
        status = (await world.exec("id -u; grep -E 'CapPrm|CapEff|CapBnd|NoNewPrivs' /proc/self/status")).stdout.split()
        assert status == [b"1000", *b"CapPrm: 0000000000000000 CapEff: 0000000000000000".split(),
                          *b"CapBnd: 0000000000000000 NoNewPrivs: 1".split()]  # fmt: skip
        for command in ("mount -t tmpfs none /tmp", "unshare --user true", "unshare --mount true", "chroot / true",
                        "mknod /tmp/sda b 8 0", "hostname other", "nsenter -t 1 -m true"):  # fmt: skip
            assert not (await world.exec(command)).ok, command

    async def test_who_ends_python_ends_only_their_own(self, world: Environment) -> None:
        shell = await world.open_shell()
        await shell.run("x=kept; python3 -c 'import time; time.sleep(600)' & sleep 0.3")
        ended = await shell.run("pkill -9 -x 'python.*'; sleep 0.2; jobs -r; echo $x")
        assert (ended.output.splitlines()[-1], ended.restarted) == (b"kept", False)
        assert b"Running" not in ended.output
        assert (await world.exec("echo alive")).stdout == b"alive\n"
        await shell.close()

    async def test_a_world_full_of_processes_still_answers(self, world: Environment) -> None:
        fill = (
            "import os, time\n"
            "try:\n    while os.fork(): pass\nexcept BlockingIOError:\n    os._exit(0)\n"
            "time.sleep(1.5)"
        )
        assert (await world.exec(["python3", "-c", fill], timeout_s=20)).ok
        shell = await world.open_shell()
        for refused in (await world.exec(["true"]), await shell.run("true", timeout_s=1)):
            assert refused.exit_code in (0, 126, 137, 254)
        for _ in range(100):
            answers = (await world.exec("echo alive")).stdout, (await shell.run("echo alive")).output
            if all(answer.endswith(b"alive\n") for answer in answers):
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("the world does not recover")
        await shell.close()


@pytest.mark.usefixtures("sandbox")
class TestSandbox(Isolation):
    kind = "sandbox"

    async def test_nobody_on_the_host_is_root_either(self) -> None:
        world = await EnvironmentSpec(kind="sandbox").start(label=f"{LABEL}/uid")
        running = asyncio.create_task(world.exec(["bash", "-c", "exec -a who-am-i-on-the-host sleep 60"]))
        for _ in range(200):
            await asyncio.sleep(0.02)
            owners = [
                process.stat().st_uid
                for process in Path("/proc").glob("[0-9]*")
                if b"who-am-i-on-the-host" in _cmdline(process)
            ]
            if owners:
                break
        assert len(owners) == 1
        assert owners != [0]
        assert os.getuid() in (0, *owners)
        running.cancel()
        await world.close()


@pytest.mark.docker
@pytest.mark.usefixtures("docker")
class TestDocker(Isolation):
    kind = "docker"


def _cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.usefixtures("sandbox")
async def test_hidden_folders_are_not_there(tmp_path: Path) -> None:
    spec = EnvironmentSpec(kind="sandbox", hidden=("pytest", "no/such/folder"))
    world = await spec.start(label=f"{LABEL}/hidden")
    shown = await world.exec("python3 -c 'import pytest; print(pytest.__file__)'; python3 -c 'import pluggy; print(1)'")
    assert shown.stdout == b"None\n1\n"
    await world.close()
    other = await replace(spec, hidden=()).start(label=f"{LABEL}/hidden")
    assert (await other.exec("python3 -c 'import pytest; print(pytest.__file__)'")).stdout.endswith(b"__init__.py\n")
    await other.close()
