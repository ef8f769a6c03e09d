"""What a world must keep in, and what it must keep out. The targets are this test's own: files, a listener, memory."""

from __future__ import annotations

import asyncio
import os
import socket
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
        world = await EnvironmentSpec(kind=cls.kind, resources=limits).start(label=f"{LABEL}/isolation")  # type: ignore[arg-type]
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

    async def test_the_system_cannot_be_changed(self, world: Environment) -> None:
        kernel = ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger")
        for path in ("/x", "/usr/x", "/etc/x", "/etc/passwd", "/bin/x", *kernel):
            assert not (await world.exec(f"echo x >> {path}")).ok, path
        library = "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')"
        assert not (await world.exec(f"touch {library}/x")).ok
        for path in ("/proc/kcore", "/dev/mem", "/dev/kmsg"):
            assert (await world.exec(f"dd if={path} bs=1 count=8 2>/dev/null")).stdout == b""

    async def test_the_network_is_a_loopback_of_its_own(self, world: Environment) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            reach = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)"
            outside = await world.exec(["python3", "-c", reach])
            assert b"ConnectionRefusedError" in outside.stderr
        inside = (
            "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
            "c = socket.create_connection(s.getsockname())\ns.accept()[0].send(b'hi')\nprint(c.recv(2))"
        )
        assert (await world.exec(["python3", "-c", inside])).stdout == b"b'hi'\n"
        assert (await world.exec("tail -n +3 /proc/net/dev | cut -d: -f1")).stdout.split() == [b"lo"]
        assert not (await world.exec("ls /var/run/docker.sock /run/docker.sock /run/dbus")).ok

    async def test_processes_of_the_host_cannot_be_seen(self, world: Environment) -> None:
        seen = (await world.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout
        assert b"pytest" not in seen
        assert int((await world.exec("ls /proc | grep -c '^[0-9]'")).stdout) < 20

    async def test_the_channel_cannot_be_reached(self, world: Environment) -> None:
        everything = "for fd in /proc/[0-9]*/fd/*; do readlink $fd; done | grep -c socket"
        assert (await world.exec(f"ls /proc/1/fd; {everything}")).stdout == b"0\n"
        forge = (
            "import glob, os\n"
            "for path in glob.glob('/proc/[0-9]*/fd/*'):\n"
            "    if path.split('/')[2] != str(os.getpid()):\n"
            "        try: os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), b'forged')\n"
            "        except OSError: pass\n"
        )
        await world.exec(["python3", "-c", forge])
        assert not (await world.exec('python3 -c \'open("/proc/1/mem", "rb")\'')).ok
        assert (await world.exec("echo fine")).stdout == b"fine\n"

    async def test_the_number_of_processes_is_limited(self, world: Environment) -> None:
        bomb = (
            "import os, time\nstarted = 0\n"
            "for _ in range(400):\n"
            "    try:\n        pid = os.fork()\n    except BlockingIOError:\n        break\n"
            "    if pid == 0:\n        time.sleep(60)\n        os._exit(0)\n"
            "    started += 1\n"
            "print(started, flush=True)\ntime.sleep(60)"
        )
        result = await world.exec(["python3", "-c", bomb], timeout_s=3)
        assert result.timed_out
        assert 20 < int(result.stdout) < 80
        assert (await world.exec("echo alive")).stdout == b"alive\n"

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

    async def test_memory_is_limited(self, world: Environment) -> None:
        hog = "x = bytearray(700 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint('got it')"
        result = await world.exec(["python3", "-c", hog])
        assert b"got it" not in result.stdout
        assert not result.ok
        for _ in range(50):  # the kernel takes the dead one's memory back a moment later
            if (await world.exec("echo alive")).stdout == b"alive\n":
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("the world does not recover")

    async def test_a_file_is_limited(self, world: Environment) -> None:
        result = await world.exec("dd if=/dev/zero of=big bs=1M count=100 2>&1")
        assert not result.ok
        assert int((await world.exec("stat -c %s big; rm -f big")).stdout) <= 64 << 20

    async def test_tools_cannot_be_replaced_from_a_bad_path(self, world: Environment) -> None:
        """The guest looks up `bash` and `python3` in the PATH of the command, not in the workdir."""
        await world.exec("printf '#!/bin/sh\\necho fake' > bash; chmod +x bash; cp bash python3")
        assert (await world.exec("echo real")).stdout == b"real\n"
        assert (await world.exec(["python3", "-c", "print('real')"])).stdout == b"real\n"
        await world.exec("rm bash python3")

    async def test_killing_everything_kills_only_the_world_s_own(self, world: Environment) -> None:
        result = await world.exec("kill -9 -1; echo unreachable")
        assert result.exit_code == 137
        assert (await world.exec("echo alive")).stdout == b"alive\n"
        shell = await world.open_shell()
        assert (await shell.run("kill -9 -1; sleep 1")).restarted
        assert (await shell.run("echo alive")).output == b"alive\n"
        await shell.close()


@pytest.mark.usefixtures("sandbox")
class TestSandbox(Isolation):
    kind = "sandbox"

    async def test_links_to_the_host_are_not_followed_by_copies(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret of the host")
        secret.chmod(0o600)
        tmp_path.chmod(0o755)
        world = await EnvironmentSpec(kind="sandbox").start(label=f"{LABEL}/links")
        await world.exec(f"ln -s {secret} file; ln -s {tmp_path} folder; mkdir closed; chmod 0 closed")
        fork = await world.fork()
        assert (await fork.exec("cat file folder/secret; readlink file folder")).stdout == (
            f"{secret}\n{tmp_path}\n".encode()
        )
        await fork.close()
        await world.close()
        assert secret.read_text() == "secret of the host"
        assert tmp_path.stat().st_mode & 0o777 == 0o755

    async def test_the_disk_is_watched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trellis.environments.sandbox.world.DISK_CHECK_S", 0.2)
        spec = EnvironmentSpec(kind="sandbox", resources=Resources(disk_mb=20))
        world = await spec.start(label=f"{LABEL}/disk")
        filler = "i=0; while :; do i=$((i+1)); head -c 1M /dev/zero > fill$i || sleep 0.1; sleep 0.01; done"
        result = await world.exec(filler, timeout_s=30)
        assert (result.exit_code, result.timed_out) == (137, False)
        assert (await world.exec("rm fill*; echo alive")).stdout == b"alive\n"
        await world.close()

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
