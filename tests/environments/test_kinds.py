"""Choosing a kind, and what is said where one cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trellis.environments import kinds, store
from trellis.environments.environment import (
    EnvironmentFault,
    EnvironmentSpec,
    EnvironmentUnavailable,
    Files,
    Kind,
    Snapshot,
)

LABEL = f"test-{os.getpid()}"
ROOM = Path(kinds.__file__).parent


async def test_auto_is_docker_where_engine_and_image_are(docker: None) -> None:
    assert await kinds.resolve_kind(EnvironmentSpec()) == "docker"


async def test_auto_is_the_sandbox_where_the_image_is_missing() -> None:
    assert await kinds.resolve_kind(EnvironmentSpec(image="no-such-image:ever")) == "sandbox"


async def test_local_only_by_name() -> None:
    assert await kinds.resolve_kind(EnvironmentSpec(kind="local")) == "local"


async def test_a_missing_image_says_what_to_do(docker: None) -> None:
    with pytest.raises(EnvironmentUnavailable, match="no-such-image:ever is not here: docker pull no-such-image:ever"):
        await EnvironmentSpec(kind="docker", image="no-such-image:ever").start(label=f"{LABEL}/image")


@pytest.mark.docker
async def test_an_image_without_python_is_named(docker: None, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("nothing else in here")
    tar = subprocess.run(["tar", "-C", tmp_path, "-c", "."], stdout=subprocess.PIPE, check=True)
    subprocess.run(
        ["docker", "import", "-", "trellis-test:empty"], input=tar.stdout, stdout=subprocess.DEVNULL, check=True
    )
    try:
        with pytest.raises(EnvironmentFault, match="trellis-test:empty has no python3"):
            await EnvironmentSpec(kind="docker", image="trellis-test:empty").start(label=f"{LABEL}/empty")
    finally:
        subprocess.run(["docker", "rmi", "trellis-test:empty"], stdout=subprocess.DEVNULL, check=True)


async def test_a_kind_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_world.py").write_text(
        """
from dataclasses import replace
from trellis.environments import local
from trellis.environments.environment import EnvironmentSpec
from trellis.environments.leftovers import Leftover

class TheirEnvironment(local.LocalEnvironment):
    async def snapshot(self):
        return replace(await super().snapshot(), kind="theirs")

    async def _fork_from(self, snapshot):
        return await start(self.spec, label=self._label, snapshot=snapshot)

async def start(spec, *, label, snapshot=None, on_event=None):
    ours = snapshot and replace(snapshot, kind="local")
    world = await local.start(spec, label=label, snapshot=ours)
    world.__class__ = TheirEnvironment
    return world

async def release(snapshot):
    await local.release(replace(snapshot, kind="local"))

crashed = ["a machine of theirs", "another"]

async def leftovers(label, *, dead_only):
    return [Leftover("world", "theirs", name, label) for name in crashed]

async def remove(left):
    crashed.remove(left.id)
"""
    )
    package = tmp_path / "their_package-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[trellis.environments]\ntheirs = their_world\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    world = await EnvironmentSpec(kind="theirs", setup="echo made > file").start(label=f"{LABEL}/theirs")
    assert type(world).__name__ == "TheirEnvironment"
    fork = await world.fork()
    assert await fork.read_file("file") == b"made\n"
    for each in (world, fork):
        await each.close()
    assert {"theirs", "docker"} <= set(kinds.places())
    with pytest.raises(EnvironmentUnavailable, match=r"no kind of world called 'thiers' \(known: docker, .*, theirs\)"):
        await EnvironmentSpec(kind="thiers").start(label=f"{LABEL}/theirs")


def test_no_engine_is_one_line() -> None:
    code = (
        "import asyncio; from trellis.environments import kinds; from trellis.environments.environment import *\n"
        "print([k.reason for k in asyncio.run(kinds.doctor()) if k.kind == 'docker'][0])\n"
        "print(asyncio.run(kinds.resolve_kind(EnvironmentSpec())), asyncio.run(kinds.reap('test/none')))"
    )
    env = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    reason, chosen = said.stdout.strip().split("\n")
    assert "no Docker engine answers" in reason
    assert chosen == "sandbox 0"


async def test_files_of_a_spec(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "folder/sub/file").write_text("content")
    (tmp_path / "folder/sub/run.sh").write_text("echo ran")
    (tmp_path / "folder/sub/run.sh").chmod(0o755)
    (tmp_path / "folder/link").symlink_to("sub/file")
    (tmp_path / "single").write_text("one")
    files = (
        Files(str(tmp_path / "folder"), "."),
        Files(str(tmp_path / "folder/sub"), "deep/er"),
        Files(str(tmp_path / "single"), "new/name"),
    )
    world = await EnvironmentSpec(kind=kind, files=files, setup="echo $PWD > where").start(label=f"{LABEL}/files")
    shown = await world.exec(
        "cat sub/file link deep/er/file new/name; sub/run.sh; readlink link; echo more >> sub/file"
    )
    assert shown.stdout == b"contentcontentcontentoneran\nsub/file\n"
    assert shown.ok
    assert (await world.exec("touch deep/x new/x sub/x x && rm -r deep")).ok
    await world.close()
    assert (tmp_path / "folder/sub/file").read_text() == "content"


@pytest.mark.parametrize("target", ["../outside", "/etc/x", "a/../../b"])
async def test_files_stay_inside(kind: Kind, target: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    spec = EnvironmentSpec(kind=kind, files=(Files(str(tmp_path / "file"), target),))
    with pytest.raises(EnvironmentFault, match="must be inside the workdir"):
        await spec.start(label=f"{LABEL}/outside")
    assert not list(store.labelled(f"{LABEL}/outside", dead_only=False))


async def test_a_missing_file_is_named(kind: Kind) -> None:
    with pytest.raises(EnvironmentFault, match="/no/such/source"):
        await EnvironmentSpec(kind=kind, files=(Files("/no/such/source", "x"),)).start(label=f"{LABEL}/missing")


async def test_a_snapshot_that_was_reaped_is_a_fault(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/reaped")
    await world.exec("echo x > file")
    snapshot = await world.snapshot()
    await world.close()
    assert await kinds.reap(f"{LABEL}/reaped") == 1
    with pytest.raises(EnvironmentFault):
        await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/reaped", snapshot=snapshot)


async def test_a_snapshot_of_another_kind_is_a_fault() -> None:
    with pytest.raises(EnvironmentFault, match="a snapshot of a docker world"):
        await EnvironmentSpec(kind="local").start(label=f"{LABEL}/kind", snapshot=Snapshot("docker", "x", {}))


def test_a_store_that_belongs_to_somebody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRELLIS_WORLDS", "/proc/self/worlds")
    with pytest.raises(EnvironmentUnavailable, match="set TRELLIS_WORLDS"):
        store.store_folder()


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare (util-linux)")
def test_a_refusal_says_what_to_do(tmp_path: Path) -> None:
    """In a user namespace that forbids others, as a hardened kernel does to everybody."""
    doctor = "import asyncio; from trellis.environments import kinds; print(asyncio.run(kinds.doctor())[1].reason)"
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -W error -c "$1"'
    said = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, sys.executable, doctor],
        env={**os.environ, "TRELLIS_WORLDS": str(tmp_path / "worlds")},
        capture_output=True,
        text=True,
        check=False,
    )
    if said.stderr.startswith("unshare:"):
        pytest.skip(f"no user namespaces here: {said.stderr}")
    assert said.stderr == ""
    assert said.stdout.startswith("this machine refuses the sandbox (unshare: ")
    assert "sysctl user.max_user_namespaces=" in said.stdout
    assert said.stdout.endswith("or use docker\n")
    assert said.stdout.count("\n") == 1


UNPRIVILEGED = """
import asyncio, os
from trellis.environments.environment import EnvironmentSpec
from trellis.environments import kinds

async def main():
    world = await EnvironmentSpec(kind="sandbox", preload=("decimal",)).start(label="test")
    look = "id -u; grep CapEff /proc/self/status; ls /home; unshare -U true || echo refused"
    print((await world.exec(look)).stdout.decode())
    await world.write_file("/tmp/first.py", b"")
    await world.exec(["python3", "/tmp/first.py"])  # the warm interpreter is there now: nothing else is starting
    await world.exec("echo one > a; mkdir d gone; touch d/x gone/y; chmod 000 a; chmod 500 d")
    before = await world.snapshot()
    await world.exec("rm -rf gone a; mkdir gone; touch gone/new")
    fork, other = await world.fork(before), await world.fork()
    count = "grep -o 'lowerdir=[^,]*' /proc/self/mounts | head -n 1 | tr ':' '\\n' | wc -l"
    shell = await world.open_shell()
    await shell.run("cd d; sleep 600 & echo held > ../held")
    await (await world.snapshot()).release()
    print("layers", (await world.exec(count)).stdout.decode())
    print((await fork.exec("stat -c %a a d; chmod 600 a; cat a; ls gone d")).stdout.decode())
    print((await other.exec("ls; ls gone; python3 -c 'import trellis' 2>&1 | tail -n 1")).stdout.decode())
    await other.write_file("warm.py", b"import sys; print('decimal' in sys.modules)")
    print((await other.exec(["python3", "warm.py"])).stdout.decode())
    hog = await other.exec(["python3", "-c", "bytearray(6 << 30)"])
    print(hog.stderr.decode().splitlines()[-1])
    for each in (world, fork, other):
        await each.close()
    await kinds.reap("test")
    print(sorted(os.listdir(os.environ["TRELLIS_WORLDS"])))

asyncio.run(main())
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="trellis-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; the other tests ran as this one")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
def test_the_sandbox_of_an_ordinary_user(sandbox: None, public_folder: Path) -> None:
    """The same without root: installed as from a wheel, under a Python that this user can read."""
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode:
        pytest.skip(f"needs a Python 3.11 or later at {python}")
    subprocess.run([python, "-m", "venv", "--without-pip", public_folder / "venv"], check=True)
    site = next((public_folder / "venv/lib").glob("python3*/site-packages"))
    shutil.copytree(ROOM, site / "trellis/environments", ignore=shutil.ignore_patterns("__pycache__"))
    (public_folder / "worlds").mkdir()
    os.chown(public_folder / "worlds", 54321, 54321)
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    command = [*become, str(public_folder / "venv/bin/python"), "-W", "error", "-c", UNPRIVILEGED]
    env = {"TRELLIS_WORLDS": str(public_folder / "worlds")}
    said = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
    assert said.stderr == ""
    expected = """
        1000 CapEff: 0000000000000000 agent refused
        layers 3
        0 500 one d: x gone: y
        d gone new ModuleNotFoundError: No module named 'trellis'
        True
        MemoryError
        ['base']
    """
    assert said.stdout.split() == expected.split()


async def test_a_runtime_is_docker_s() -> None:
    with pytest.raises(EnvironmentUnavailable, match="a world with runtime runsc needs docker, not sandbox"):
        await kinds.resolve_kind(EnvironmentSpec(kind="sandbox", runtime="runsc"))


@pytest.mark.docker
async def test_auto_knows_the_base_image_by_its_name(docker: None) -> None:
    assert await kinds.resolve_kind(EnvironmentSpec(image="trellis-base")) == "docker"
