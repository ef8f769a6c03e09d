"""Attacks on the host by way of files that it reads, writes and copies: links, `..`, special files, races."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from trellis.environments import kinds
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.environments.hostile.arena import LABEL, Attacks, StartWorld

SECRET = b"secret of the host: correct horse battery staple"


@contextmanager
def host_folder() -> Iterator[Path]:
    """A folder of the host that everybody may read and write, with a secret in it."""
    folder = Path(tempfile.mkdtemp(prefix="trellis-hostile-"))
    (folder / "secret").write_bytes(SECRET)
    (folder / "secret").chmod(0o666)
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


class Files(Attacks):
    @pytest.fixture(scope="class", name="host_folder")
    @classmethod
    def _host_folder(cls) -> Iterator[Path]:
        with host_folder() as folder:
            yield folder

    @pytest.mark.parametrize(
        "escape",
        [
            "{secret}", "link", "folder/secret", "chain", "../../../../../../../../..{secret}",
            "/proc/self/root{secret}", "/proc/1/root{secret}", "/proc/self/cwd/../../../../../../../../..{secret}",
            "magic", "hard",
        ],
    )  # fmt: skip
    async def test_reading_out(self, world: Environment, host_folder: Path, escape: str) -> None:
        """read_file of a host's file, through links, `..`, the roots of processes and hard links."""
        secret = host_folder / "secret"
        await world.exec(
            f"ln -sf {secret} link; ln -sfn {host_folder} folder; ln -sf link chain; ln -f {secret} hard;"
            f" ln -sf /proc/1/root{secret} magic"
        )
        assert secret.read_bytes() == SECRET
        with suppress(OSError):
            assert SECRET not in await world.read_file(escape.format(secret=secret))
        shown = await world.exec(["cat", escape.format(secret=secret)])
        assert SECRET not in shown.stdout

    @pytest.mark.parametrize(
        "escape", ["{folder}/new", "folder/new", "dangling", "/proc/1/root{folder}/new", "/proc/self/root{folder}/new"]
    )
    async def test_writing_out(self, world: Environment, host_folder: Path, escape: str) -> None:
        """write_file to a host's folder, through links and the roots of processes."""
        await world.exec(f"ln -sfn {host_folder} folder; ln -sf {host_folder}/new dangling")
        with suppress(OSError):
            await world.write_file(escape.format(folder=host_folder), b"of the attacker")
        assert sorted(path.name for path in host_folder.iterdir()) == ["secret"]
        assert (host_folder / "secret").read_bytes() == SECRET

    async def test_race_of_writing(self, world: Environment, host_folder: Path) -> None:
        """A folder that turns into a link to the host and back while the host writes into it."""
        turn = f"while :; do ln -sfn {host_folder} turn; rm -f turn; mkdir -p turn; rm -rf turn; done"
        turning = asyncio.create_task(world.exec(turn, timeout_s=2))
        for number in range(150):
            with suppress(OSError):
                await world.write_file(f"turn/{number}", b"of the attacker")
            with suppress(OSError):
                assert SECRET not in await world.read_file("turn/secret")
        await turning
        assert sorted(path.name for path in host_folder.iterdir()) == ["secret"]

    @pytest.mark.parametrize("special", ["fifo", "/dev/zero", "/dev/tty", "/dev/ptmx", "socket", "/proc/kmsg"])
    async def test_special_files(self, world: Environment, special: str) -> None:
        """Pipes, devices and sockets that never end, or never begin, for who reads and writes them."""
        sock = "import socket; socket.socket(socket.AF_UNIX).bind('socket')"
        await world.exec(f'mkfifo fifo; python3 -c "{sock}"')
        async with asyncio.timeout(10):
            with pytest.raises(OSError):
                await world.read_file(special)
            with suppress(OSError):
                await world.write_file(special, b"x" * 100_000)
        assert (await world.exec("echo alive")).stdout == b"alive\n"

    async def test_copies_follow_no_links(self, world: Environment, host_folder: Path) -> None:
        """Links to the host's files in what is captured and forked."""
        await world.exec(f"ln -s {host_folder}/secret file; ln -s {host_folder} folder; ln -s / root; mkfifo pipe")
        mode = host_folder.stat().st_mode
        fork = await world.fork()
        try:
            shown = await fork.exec(f"cat file folder/secret root{host_folder}/secret; readlink file; find . -type f")
            assert SECRET not in shown.stdout
            assert f"{host_folder}/secret\n".encode() == shown.stdout
        finally:
            await fork.close()
        assert (host_folder / "secret").read_bytes() == SECRET
        assert host_folder.stat().st_mode == mode

    async def test_removal_follows_no_links(
        self, start: StartWorld, limited: EnvironmentSpec, host_folder: Path
    ) -> None:
        """Links to the host's files, in folders without rights, in a world that is closed."""
        world = await start(limited, label=f"{LABEL}/links")
        await world.exec(
            f"mkdir -p a/b; ln -s {host_folder} a/b/folder; ln -s {host_folder}/secret a/file; chmod 000 a/b a; true"
        )
        await world.close()
        assert await kinds.reap(f"{LABEL}/links") == 0
        assert (host_folder / "secret").read_bytes() == SECRET
        assert (host_folder / "secret").stat().st_mode & 0o777 == 0o666

    async def test_deep_folders(self, start: StartWorld, limited: EnvironmentSpec) -> None:
        """Folders nested deeper than any path can name, in a world that is closed."""
        world = await start(limited, label=f"{LABEL}/deep")
        nest = "import os\nfor _ in range(1200):\n    os.mkdir('deep')\n    os.chdir('deep')\nopen('end', 'w').close()"
        assert (await world.exec(["python3", "-c", nest])).ok
        assert (await world.exec("echo alive")).stdout == b"alive\n"
        await world.close()
        assert await kinds.reap(f"{LABEL}/deep") == 0

    async def test_odd_names(self, world: Environment) -> None:
        """Names of files that are no text, or options, or lines."""
        make = (
            "import os\nfor n in (b'\\xff\\xfe', b'a\\nb', b'-rf', b' ', b'*', b'$(touch x)', b'x' * 255, b'..x'):\n"
            "    os.close(os.open(n, os.O_CREAT | os.O_WRONLY))"
        )
        assert (await world.exec(["python3", "-c", make])).ok
        fork = await world.fork()
        try:
            assert (await fork.exec("find . -type f -print0 | tr -dc '\\0' | wc -c")).stdout == b"8\n"
        finally:
            await fork.close()
