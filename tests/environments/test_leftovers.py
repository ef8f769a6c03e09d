"""Nothing stays behind: not after `close`, not after `reap`, and no process after `kill -9` of the host process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trellis.environments import kinds, store
from trellis.environments.environment import EnvironmentSpec, Files, Kind, Snapshot
from trellis.environments.sandbox.jail import ROOTS_AGENT_UID

LABEL = f"test-{os.getpid()}"
HOST = """
import asyncio, json, sys
from trellis.environments.environment import EnvironmentSpec

async def main():
    world = await EnvironmentSpec(kind=sys.argv[1], preload=("json",)).start(label=sys.argv[2])
    await world.exec("setsid bash -c 'exec -a " + sys.argv[3] + " sleep 600' & echo begun")
    shell = await world.open_shell()
    await shell.run("echo kept > file")
    snapshot = await world.snapshot()
    print(json.dumps(snapshot.to_json()), flush=True)
    await shell.run("exec -a " + sys.argv[3] + " sleep 600", timeout_s=900)

asyncio.run(main())
"""


def processes(marker: str) -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                found.append(process)
        except OSError:
            continue
    return found


def folders(label: str) -> list[Path]:
    return list(store.labelled(label, dead_only=False))


async def containers_and_images(label: str) -> int:
    from trellis.environments.docker import engine

    return len(await engine.labelled(label, dead_only=False))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("of", ["sandbox", "local"])
async def test_half_a_snapshot_does_not_exist(of: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever removes it may be killed."""
    label = f"{LABEL}/half-{of}"
    world = await EnvironmentSpec(kind=of).start(label=label)
    await world.write_file("a.txt", b"x")
    snapshot = await world.snapshot()
    await world.close()
    assert await snapshot.exists()
    with monkeypatch.context() as patch:
        entries = Path.iterdir

        def killed(folder: Path) -> None:
            next(path for path in folder.rglob("*") if not path.is_dir()).unlink()
            raise KeyboardInterrupt

        patch.setattr(store, "remove_tree", killed)
        patch.setattr(Path, "iterdir", lambda folder: iter(sorted(entries(folder))))  # its files come first
        for folder in folders(label):
            with contextlib.suppress(KeyboardInterrupt):
                store.remove(folder)
    assert not await snapshot.exists()
    await kinds.reap(label)


@pytest.mark.kill
@pytest.mark.usefixtures("nobody_else_cleans")
async def test_a_killed_host_leaves_no_process_and_reap_no_file(kind: Kind) -> None:
    label, marker = f"{LABEL}/killed-{kind}", f"left-behind-{os.getpid()}"
    command = [sys.executable, "-c", HOST, kind, label, marker]
    host = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert host.stdout is not None
    with host.stdout:
        snapshot = Snapshot.from_json(json.loads(await asyncio.to_thread(host.stdout.readline)))
    for _ in range(100):
        if len(processes(marker)) >= 3:  # the daemon, the shell's command, and the host
            break
        await asyncio.sleep(0.05)
    assert await kinds.reap(label, dead_only=True) == 0  # its owner lives
    host.send_signal(signal.SIGKILL)
    host.wait()
    deadline = time.monotonic() + 15
    while processes(marker) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert processes(marker) == []
    assert await kinds.reap(f"{LABEL}/other", dead_only=True) == 0

    await kinds.reap(label, sparing=[snapshot])  # the world itself, where it has not gone already
    assert await kinds.reap(label, sparing=[snapshot]) == 0
    assert await snapshot.exists()
    world = await EnvironmentSpec(kind=kind).start(label=f"{label}/on", snapshot=snapshot)
    assert await world.read_file("file") == b"kept\n"
    await world.write_file("file", b"changed")
    again = await world.fork(snapshot)
    assert await again.read_file("file") == b"kept\n"
    await again.close()
    await world.close()
    assert await snapshot.exists()
    assert await kinds.reap(label) >= 1
    assert not await snapshot.exists()
    assert await kinds.reap(label) == 0
    assert folders(label) == []
    if kind == "docker":
        assert await containers_and_images(label) == 0


async def test_close_and_reap_leave_nothing(kind: Kind) -> None:
    label = f"{LABEL}/closed-{kind}"
    spec = EnvironmentSpec(kind=kind, setup="mkdir d && touch d/f && chmod 000 d/f && chmod 500 d", preload=("json",))
    world = await spec.start(label=label)
    await world.exec(f"setsid sleep 600 & exec -a stays-{os.getpid()} sleep 600 &")
    fork = await world.fork()
    facts = [json.loads((folder / store.OWNER).read_text()) for folder in folders(label)]
    groups = [Path(group) for fact in facts for group in fact["cgroups"]]
    assert all(group.is_dir() for group in groups)
    await fork.close()
    await world.close()
    assert not any(group.exists() for group in groups)
    assert processes(f"stays-{os.getpid()}") == []
    await kinds.reap(label)
    assert folders(label) == []
    if kind == "docker":
        assert await containers_and_images(label) == 0


async def test_labels_are_prefixes_of_whole_names() -> None:
    world = await EnvironmentSpec(kind="local").start(label=f"{LABEL}/one/a")
    assert await kinds.reap(f"{LABEL}/on") == 0
    assert len(folders(f"{LABEL}/one")) == 1
    await world.close()
    assert folders(f"{LABEL}/one") == []


@pytest.mark.usefixtures("sandbox")
async def test_a_world_that_changed_nothing_is_captured_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(5_000_000))
    spec = EnvironmentSpec(kind="sandbox", files=(Files(str(tmp_path), "."),), setup="echo made > by-setup")
    world = await spec.start(label=f"{LABEL}/unchanged")
    before = len(folders(f"{LABEL}/unchanged"))
    snapshot = await world.snapshot()
    assert len(folders(f"{LABEL}/unchanged")) == before
    fork = await world.fork(snapshot)
    assert (await fork.exec("stat -c '%s %U' big; cat by-setup")).stdout == b"5000000 agent\nmade\n"
    await fork.close()
    await world.close()


def test_the_unprivileged_user_of_root_is_nobody_s() -> None:
    import pwd

    assert ROOTS_AGENT_UID not in {entry.pw_uid for entry in pwd.getpwall()}
