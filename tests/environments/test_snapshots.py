"""What a snapshot holds and what not, that forks share nothing, and that all goes with its last user."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from trellis.environments import store
from trellis.environments.channel import ChannelEnvironment, Reply
from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, Kind, Snapshot

LABEL = f"test-{os.getpid()}"

MAKE = r"""
mkdir -p d/empty 'odd name' $'line\nbreak' $'\xff'; echo text > d/plain; chmod 640 d/plain; chmod 3711 d
touch -d @1234567 d/plain
ln -s nowhere//at/./all/ d/link; ln d/plain d/second; mkfifo -m 620 d/pipe; : > $'odd name/\t"'
printf begin > d/sparse; truncate -s 40M d/sparse; printf end >> d/sparse
echo none > d/unreadable; chmod 000 d/unreadable; mkdir d/closed; touch d/closed/in; chmod 500 d/closed
touch -h -d @7654321 d/link; touch -d @1111111 d/empty
"""
LIST = """
import hashlib, json, os, sys
found, inodes = [], {}
for parent, folders, files in os.walk(b".", followlinks=False):
    for name in sorted(folders + files):
        path = os.path.join(parent, name)
        facts = os.lstat(path)
        first = inodes.setdefault(facts.st_ino, path) if facts.st_nlink > 1 and name in files else path
        link = os.fsdecode(os.readlink(path)) if os.path.islink(path) else ""
        data = ""
        if os.path.isfile(path) and not link and os.access(path, os.R_OK):
            data = hashlib.sha256(open(path, "rb").read()).hexdigest()
        time = facts.st_mtime_ns if "xattr" in sys.argv else int(facts.st_mtime)
        entry = [path, oct(facts.st_mode), facts.st_uid, facts.st_gid, time, link, first, data]
        if name in files:
            entry.append(facts.st_size)
        if "blocks" in sys.argv and name in files:
            entry.append(facts.st_blocks)
        if "xattr" in sys.argv:
            entry += sorted((name, os.getxattr(path, name, follow_symlinks=False).hex())
                            for name in os.listxattr(path, follow_symlinks=False))
        found.append([part if not isinstance(part, bytes) else os.fsdecode(part) for part in entry])
print(json.dumps(sorted(found)))
"""
WATCH = (
    'import ctypes,time; l=ctypes.CDLL(None); l.inotify_add_watch(l.inotify_init(), b"/tmp", 2); '
    'open("/dev/shm/ready", "w"); time.sleep(600)'
)
NAMED_SOCKET = 'import socket,time; s=socket.socket(1); s.bind("/tmp/s"); open("/dev/shm/ready", "w"); time.sleep(600)'


def start(kind: Kind, name: str) -> Awaitable[Environment]:
    return EnvironmentSpec(kind=kind).start(label=f"{LABEL}/{name}-{kind}")


async def listing(world: Environment, kind: Kind) -> list[object]:
    """docker's layers are archives, which know neither holes nor attributes nor parts of seconds."""
    known = () if kind == "docker" else ("blocks", "xattr")
    shown = await world.exec(["python3", "-c", LIST, *known])
    assert shown.ok, shown.text
    found: list[object] = json.loads(shown.stdout)
    return found


async def nothing_left(name: str, kind: Kind) -> bool:
    label = f"{LABEL}/{name}-{kind}"
    if kind != "docker":
        return list(store.labelled(label, dead_only=False)) == []
    from trellis.environments.docker import engine

    return await engine.labelled(label, dead_only=False) == []


async def layers_of(world: Environment) -> int:
    """How many layers lie below a sandbox, as the kernel says."""
    mounts = (await world.exec(["cat", "/proc/self/mounts"])).stdout.decode()
    return mounts.split("lowerdir=")[1].split(",")[0].count(":") + 1


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_files_are_exactly_the_same_in_a_fork(kind: Kind, busy: bool) -> None:
    world = await start(kind, "exact")
    assert (await world.exec(MAKE)).ok
    if kind != "docker":
        mark = "import os; os.setxattr('d/second', 'user.mark', bytes([0, 255])); os.setxattr('d', 'user.x', b'y')"
        assert (await world.exec(["python3", "-c", mark])).ok
    if busy:  # what it holds open cannot be taken from it, so that files are copied where they else would not be
        await world.exec("exec 3> held; sleep 600 & sleep 0.1")
    before = await listing(world, kind)
    snapshot = await world.snapshot()
    fork = await world.fork(snapshot)
    assert await listing(world, kind) == before
    assert await listing(fork, kind) == before
    second = await fork.fork()
    assert await listing(second, kind) == before
    for each in (world, fork, second):
        await each.close()
    await snapshot.release()
    assert await nothing_left("exact", kind)


async def test_what_comes_later_is_not_in_it(kind: Kind) -> None:
    world = await start(kind, "later")
    await world.exec("mkdir -p keep gone again; echo 1 > keep/a; echo 1 > gone/b; echo 1 > again/c; ln -s keep l")
    snapshot = await world.snapshot()
    await world.exec("echo 2 >> keep/a; rm -r gone again; mkdir again; echo 2 > again/d; rm l; mkdir l; echo 3 > l/x")
    later = await world.snapshot()
    await world.exec("rm -rf ./*; echo last > z")
    first, second = await world.fork(snapshot), await world.fork(later)
    show = "find . ! -name . | LC_ALL=C sort | tr '\\n' ' '; cat keep/a"
    assert (await first.exec(show)).stdout == b"./again ./again/c ./gone ./gone/b ./keep ./keep/a ./l 1\n"
    assert (await second.exec(show)).stdout == b"./again ./again/d ./keep ./keep/a ./l ./l/x 1\n2\n"
    assert (await world.exec("find . -type f")).stdout == b"./z\n"
    for each in (world, first, second):
        await each.close()
    await later.release()
    await snapshot.release()
    assert await nothing_left("later", kind)


async def test_what_runs_is_left_out_and_said(kind: Kind) -> None:
    world = await start(kind, "running")
    shell = await world.open_shell()
    await shell.run("true")
    assert (await world.snapshot()).left_out == ()
    number = int((await world.exec("sleep 611 >&- 2>&- & echo $!")).stdout)
    process = await world.open_process(["cat"])
    said = (await world.snapshot()).left_out
    assert f"process {number}: sleep 611" in said
    assert sum(line.endswith(": cat") for line in said) == 1
    assert len(said) == 2
    await process.close()
    await world.close()


async def test_a_process_goes_on_writing_where_it_was(kind: Kind) -> None:
    world = await start(kind, "appending")
    await world.exec("(i=0; while :; do i=$((i+1)); echo $i; done) > log 2>&1 & echo other > file; sleep 0.3")
    snapshot = await world.snapshot()
    await world.exec("echo later >> file; sleep 0.3")
    fork = await world.fork(snapshot)
    then = (await fork.exec(["cat", "log"])).stdout
    fork_size = (await fork.exec("stat -c %s log; cat file")).stdout
    now = (await world.exec("head -c 2000000000 log | wc -c; cat file")).stdout
    assert then[: 1 << 16].startswith(b"1\n2\n3\n")
    assert int(now.split()[0]) > int(fork_size.split()[0]) > 0
    assert now.split()[1:] == [b"other", b"later"]
    assert fork_size.split()[1:] == [b"other"]
    assert (await fork.exec("sleep 0.2; stat -c %s log; cat file")).stdout == fork_size
    same = "import sys; a = open('log').read().split('\\n')[:-1]; print(a == [str(i + 1) for i in range(len(a))])"
    for each in (world, fork):
        await each.exec("kill -9 -1" if kind != "local" else "true")
    assert (await fork.exec(["python3", "-c", same.replace("[:-1]", "[:1000]")])).stdout == b"True\n"
    for each in (world, fork):
        await each.close()
    await snapshot.release()
    assert await nothing_left("appending", kind)


async def test_a_shell_goes_on_in_its_folder(kind: Kind) -> None:
    world = await start(kind, "shell")
    shell, other = await world.open_shell(), await world.open_shell()
    await shell.run(
        "mkdir -p sub/deep; ln -s sub way; cd way/deep; cd ..; x=kept; set -x; set -u; (sleep 0.1; echo job) &"
    )
    await other.run("cd /usr; set -e")
    for number in range(3):
        snapshot = await world.snapshot()
        await shell.run(f"echo {number} >> file")
        fork = await world.fork(snapshot)
        assert (await fork.exec("cat sub/file 2>/dev/null | wc -l")).stdout == b"%d\n" % number
        await fork.close()
        await snapshot.release()
    said = (
        await shell.run("set +x 2>/dev/null; echo $x; pwd; pwd -P; echo $OLDPWD; declare -p | grep -c __trellis; jobs")
    ).output
    assert said.decode().replace(world.workdir, "W").splitlines()[-5:] == ["kept", "W/way", "W/sub", "W/way/deep", "0"]
    assert (await world.exec("cat sub/file")).stdout == b"0\n1\n2\n"
    assert (await other.run("pwd; echo $OLDPWD")).output.decode() == f"/usr\n{world.workdir}\n"
    assert (await shell.run("rm -r ../sub/deep; cd ..; pwd")).output.decode() == f"{world.workdir}\n"
    await world.close()


async def test_a_job_s_output_between_commands_is_kept(kind: Kind) -> None:
    world = await start(kind, "job")
    shell = await world.open_shell()
    await shell.run("(sleep 0.2; echo from the job) &")
    await asyncio.sleep(0.5)
    await world.snapshot()
    assert (await shell.run("echo and more")).output == b"from the job\nand more\n"
    await world.close()


async def test_a_shell_whose_folder_is_gone(kind: Kind) -> None:
    world = await start(kind, "gone")
    shell = await world.open_shell()
    await shell.run("mkdir sub; cd sub; rmdir ../sub")
    await (await world.snapshot()).release()
    assert (await shell.run("echo ok; cd ..; pwd")).output.decode() == f"ok\n{world.workdir}\n"
    await world.close()


@pytest.mark.usefixtures("sandbox")
async def test_a_sandbox_gives_its_files_away_or_copies_them() -> None:
    """The first is free, the second is for a world in which something holds what was written."""
    world = await start("sandbox", "swap")
    shell = await world.open_shell()
    await shell.run("cd /tmp; echo 1 > a")
    assert await layers_of(world) == 1
    await world.snapshot()
    assert await layers_of(world) == 2
    await world.snapshot()
    assert await layers_of(world) == 2  # nothing was written
    ready = "touch /dev/shm/ready"
    holders = {
        "an open file": f"exec 3< a; {ready}; cd /; sleep 600",
        "a folder": f"{ready}; exec sleep 600",
        "a mapped program": f"cp $(command -v sleep) mine; cd /; {ready}; exec /tmp/mine 600",
        "a watch": f"cd /; exec python3 -c '{WATCH}'",
        "a named socket": f"cd /; exec python3 -c '{NAMED_SOCKET}'",
    }  # fmt: skip
    for what, command in holders.items():
        job = (await shell.run(f"rm -f s /dev/shm/ready; ({command}) >/dev/null 2>&1 & echo $!; echo 2 > b")).output
        await shell.run("until [ -e /dev/shm/ready ]; do sleep 0.05; done; sleep 0.2")
        snapshot = await world.snapshot()
        assert await layers_of(world) == 2, what
        fork = await world.fork(snapshot)
        assert (await fork.exec("cat /tmp/a /tmp/b")).stdout == b"1\n2\n"
        await fork.close()
        await shell.run(f"kill {job.split()[0].decode()}; wait")
    process = await world.open_process(["cat"], cwd="/")  # holds nothing
    await world.snapshot()
    assert await layers_of(world) == 3
    await process.close()
    await world.close()


@pytest.mark.usefixtures("sandbox")
async def test_long_output_across_a_snapshot() -> None:
    world = await start("sandbox", "spill")
    shell = await world.open_shell()
    running = asyncio.create_task(shell.run("seq 1 300000; sleep 1; seq 300001 600000"))
    await asyncio.sleep(0.7)
    snapshot = await world.snapshot()
    result = await running
    assert (await world.read_file(result.spilled[0])).split() == [b"%d" % number for number in range(1, 600_001)]
    await world.snapshot()
    assert len(await world.read_file(result.spilled[0])) > 3_000_000
    fork = await world.fork(snapshot)
    assert (await fork.exec("echo fine")).stdout == b"fine\n"
    await fork.close()
    await world.close()


@pytest.mark.usefixtures("sandbox")
async def test_commands_and_snapshots_at_once() -> None:
    world = await start("sandbox", "at-once")

    async def work(number: int) -> None:
        shell = await world.open_shell()
        await shell.run(f"mkdir -p w{number}; cd w{number}")
        for turn in range(12):
            done = await shell.run(f"echo {turn} >> turns; wc -l < turns; pwd")
            assert done.output.decode() == f"{turn + 1}\n{world.workdir}/w{number}\n"
            await world.write_file(f"files/{number}-{turn}", b"x")
            assert (await world.exec(f"cat files/{number}-{turn}; tail -n 1 w{number}/turns")).stdout == b"x%d\n" % turn

    async def capture() -> list[Snapshot]:
        return [await world.snapshot() for _ in range(8)]

    captured = asyncio.gather(capture(), capture())
    await asyncio.gather(*map(work, range(4)))
    first, second = await captured
    assert (await world.exec("cat w*/turns | wc -l; ls files | wc -l")).stdout == b"48\n48\n"
    for snapshot in (*first, *second):
        await snapshot.release()
    await world.close()
    assert await nothing_left("at-once", "sandbox")


async def test_a_cancelled_snapshot_leaves_the_world_as_it_was(kind: Kind) -> None:
    world = await start(kind, "cancelled")
    shell = await world.open_shell()
    await shell.run("mkdir sub; cd sub; echo x > a")
    began = time.monotonic()
    await (await world.snapshot()).release()
    took_s = time.monotonic() - began
    for part in range(10):
        await shell.run(f"echo {part} > b")  # something to capture
        task = asyncio.create_task(world.snapshot())
        await asyncio.sleep(took_s * part / 8)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await release_unless_cancelled(task)
        assert (await shell.run("pwd; cat a", timeout_s=20)).output.decode() == f"{world.workdir}/sub\nx\n"
        assert (await world.exec("cat sub/a", timeout_s=20)).stdout == b"x\n"
    await world.close()
    assert await nothing_left("cancelled", kind)


async def test_a_snapshot_cancelled_at_each_of_its_requests(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await start(kind, "requests")
    assert isinstance(world, ChannelEnvironment)
    shell = await world.open_shell()
    request = world.channel.request

    async def cancelled_at(number: int) -> None:
        asked = itertools.count(1)

        async def cancelling(op: str, **fields: Any) -> Reply:
            if next(asked) == number:
                task.cancel()
            return await request(op, **fields)

        monkeypatch.setattr(world.channel, "request", cancelling)
        task = asyncio.create_task(world.snapshot())
        await release_unless_cancelled(task)
        monkeypatch.setattr(world.channel, "request", request)

    for number in range(1, 5):
        await shell.run(f"echo {number} > file")
        await cancelled_at(number)
        assert (await shell.run("cat file", timeout_s=20)).output == b"%d\n" % number
    await world.close()
    assert await nothing_left("requests", kind)


async def release_unless_cancelled(task: asyncio.Task[Snapshot]) -> None:
    with suppress(asyncio.CancelledError):
        await (await task).release()


async def test_a_snapshot_that_is_cancelled_while_it_waits_for_another(kind: Kind) -> None:
    world = await start(kind, "waits")
    for delay_s in (0, 0.002, 0.005, 0.01, 0.02, 0.04):
        await world.exec("head -c 20000000 /dev/zero > file; echo x > a")
        first, second = asyncio.create_task(world.snapshot()), asyncio.create_task(world.snapshot())
        await asyncio.sleep(delay_s)
        second.cancel()
        await release_unless_cancelled(first)
        await release_unless_cancelled(second)
        assert (await world.exec("cat a", timeout_s=20)).stdout == b"x\n"
    await world.close()
    assert await nothing_left("waits", kind)


async def test_a_world_that_is_closed_while_it_is_captured(kind: Kind) -> None:
    for delay_s in (0, 0.002, 0.005, 0.01, 0.02, 0.04):
        world = await start(kind, "closed")
        await world.exec("head -c 20000000 /dev/zero > file")
        captured = asyncio.create_task(world.snapshot())
        await asyncio.sleep(delay_s)
        await world.close()
        with suppress(EnvironmentFault):  # that it is gone
            await (await captured).release()
    assert await nothing_left("closed", kind)


@pytest.mark.parametrize("kind", ["local", "sandbox"], indirect=True)
async def test_nothing_is_left_of_a_cancelled_fork(kind: Kind) -> None:
    world = await start(kind, "forked")
    await world.exec("head -c 20000000 /dev/zero > file")
    snapshot = await world.snapshot()
    began = time.monotonic()
    await (await world.fork(snapshot)).close()
    took_s = time.monotonic() - began
    for part in range(10):
        for given in (snapshot, None):
            task = asyncio.create_task(world.fork(given))
            await asyncio.sleep(took_s * part / 6)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await (await task).close()
    await world.close()
    await snapshot.release()
    assert await nothing_left("forked", kind)


async def test_shells_travel_in_a_snapshot(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    async def states(_: ChannelEnvironment) -> dict[str, str]:
        return {"main": "cd /usr"}

    monkeypatch.setattr(ChannelEnvironment, "shell_states", states)
    world = await start(kind, "shells")
    snapshot = await world.snapshot()
    assert snapshot.data["shells"] == {"main": "cd /usr"}
    fork = await world.fork(
        Snapshot(**json.loads(json.dumps({"kind": kind, "id": snapshot.id, "data": snapshot.data})))
    )
    assert isinstance(fork, ChannelEnvironment)
    assert fork.shell_state_of_snapshot == {"main": "cd /usr"}
    await fork.close()
    await world.close()
    await snapshot.release()


# --- the last user ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_nothing_is_left_in_whatever_order(kind: Kind, order: tuple[int, ...]) -> None:
    name = f"order-{''.join(map(str, order))}"
    world = await start(kind, name)
    await world.exec("echo kept > file")
    snapshot = await world.snapshot()
    fork = await world.fork(snapshot)
    ends: list[Callable[[], Awaitable[None]]] = [world.close, fork.close, snapshot.release]
    for index, number in enumerate(order):
        await ends[number]()
        left = order[index + 1 :]
        if 1 in left:
            assert (await fork.exec(["cat", "file"])).stdout == b"kept\n"
        if 2 in left:
            again = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/{name}-{kind}", snapshot=snapshot)
            assert (await again.exec(["cat", "file"])).stdout == b"kept\n"
            await again.close()
    assert await nothing_left(name, kind)
    await snapshot.release()
    with pytest.raises(EnvironmentFault):
        await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/{name}-{kind}", snapshot=snapshot)
    assert await nothing_left(name, kind)


async def test_a_tree_of_forks(kind: Kind) -> None:
    root = await start(kind, "tree")
    await root.exec("echo root > file")
    children = [await root.fork() for _ in range(2)]
    for number, child in enumerate(children):
        await child.exec(f"echo child {number} >> file")
    grandchildren = [await child.fork() for child in children for _ in range(2)]
    await root.close()
    await children[0].close()
    for number, each in enumerate(grandchildren):
        assert (await each.exec(["cat", "file"])).stdout == b"root\nchild %d\n" % (number // 2)
        await each.exec(f"echo {number} > own")
    late = await grandchildren[3].fork()
    for each in (grandchildren[3], children[1], grandchildren[0], grandchildren[1], grandchildren[2]):
        await each.close()
    assert (await late.exec("cat file own")).stdout == b"root\nchild 1\n3\n"
    await late.close()
    assert await nothing_left("tree", kind)


@pytest.mark.parametrize("kind", ["local", "sandbox"], indirect=True)
async def test_set_up_and_files_go_with_the_last_world(kind: Kind, tmp_path: os.PathLike[str]) -> None:
    """Docker's images with files and set-up in them are kept for later starts; see test_images.py."""
    label = f"{LABEL}/set-up-{kind}"
    world = await EnvironmentSpec(kind=kind, setup="echo made > file").start(label=label)
    fork = await world.fork()
    await world.close()
    assert (await fork.exec(["cat", "file"])).stdout == b"made\n"
    await fork.close()
    assert await nothing_left("set-up", kind)


OTHER = """
import asyncio, json, sys
from trellis.environments.environment import EnvironmentSpec, Snapshot

async def main():
    facts = json.loads(sys.argv[1])
    world = await EnvironmentSpec(kind=facts["kind"]).start(label=sys.argv[2], snapshot=Snapshot(**facts))
    print("ready", flush=True)
    sys.stdin.readline()
    print((await world.exec("cat file; echo more >> file; cat file")).stdout.decode(), flush=True)
    fork = await world.fork()
    await world.close()
    print((await fork.exec("cat file")).stdout.decode(), flush=True)
    await fork.close()

asyncio.run(main())
"""


async def test_another_process_s_world_keeps_its_files(kind: Kind) -> None:
    world = await start(kind, "process")
    await world.exec("echo kept > file")
    snapshot = await world.snapshot()
    facts = json.dumps({"kind": kind, "id": snapshot.id, "data": dict(snapshot.data)})
    label = f"{LABEL}/process-{kind}"
    other = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", OTHER, facts, label],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None
    with other.stdout:
        assert await asyncio.to_thread(other.stdout.readline) == "ready\n"
        await snapshot.release()
        await world.close()
        from trellis.environments import kinds

        await kinds.reap(label)
        assert other.stdin is not None
        with other.stdin:
            other.stdin.write("\n")
        said = await asyncio.to_thread(other.stdout.read)
    assert said.split() == ["kept", "kept", "more", "kept", "more"]
    assert await asyncio.to_thread(other.wait) == 0
    assert await nothing_left("process", kind)
