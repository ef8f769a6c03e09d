"""The parts that hold worlds to their limits: counting, the filter of system calls, the engine's settings, groups."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trellis.environments import watch
from trellis.environments.channel import ChannelEnvironment, Reply
from trellis.environments.docker import isolation
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, EnvironmentUnavailable, Kind, Resources
from trellis.environments.guest import seccomp
from trellis.environments.sandbox import cgroups
from trellis.environments.usage import Usage, count

LABEL = f"test-{os.getpid()}/limits"
MB = 1 << 20


# --- counting ---


def test_what_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/full").write_bytes(bytes(3 * MB))
    (tmp_path / "a/b/again").hardlink_to(tmp_path / "a/full")
    (tmp_path / "link").symlink_to("/usr")
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(500 * MB)
    used = count([tmp_path])
    assert 3 * MB <= used.bytes < 3 * MB + 100_000
    assert used.inodes == 5  # a, b, full, link, holes
    assert count([tmp_path / "no/such/folder"]) == Usage()
    assert count([tmp_path], stop_above=Usage(MB, 1)).exceeds(Usage(MB, 1))


def test_deleted_files_count_while_they_are_held(tmp_path: Path) -> None:
    before = count([tmp_path], [os.getpid()])
    path = tmp_path / "file"
    with path.open("w+b") as file:
        path.unlink()
        file.write(bytes(2 * MB))
        file.flush()
        assert 2 * MB <= (count([tmp_path], [os.getpid()]) - before).bytes < 3 * MB
        mapped = mmap.mmap(file.fileno(), 2 * MB)
    if os.geteuid() == 0:  # others may not look behind the maps of a process
        assert 2 * MB <= (count([tmp_path], [os.getpid()]) - before).bytes < 3 * MB
    mapped.close()
    memory = os.memfd_create("in memory")
    os.write(memory, bytes(2 * MB))
    assert (count([tmp_path], [os.getpid()]) - before).bytes < MB
    os.close(memory)


# --- worlds over their limit ---


@pytest.fixture(params=["sandbox", pytest.param("docker", marks=pytest.mark.docker)])
def isolated(request: pytest.FixtureRequest) -> Kind:
    request.getfixturevalue(request.param)
    kind: Kind = request.param
    return kind


async def test_whoever_waits_is_told_why(isolated: Kind) -> None:
    events: list[tuple[str, Mapping[str, Any]]] = []
    spec = EnvironmentSpec(kind=isolated, resources=Resources(disk_mb=20, inodes=500))
    world = await spec.start(label=LABEL, on_event=lambda kind, facts: events.append((kind, facts)))
    shell, process = await world.open_shell(), await world.open_process(["cat"])
    fill = "for i in $(seq 1000); do head -c 4M /dev/zero > fill$i; done"
    result = await world.exec(fill)
    assert (result.exit_code, result.timed_out) == (137, False)
    assert b"over its disk limit of 20 MB; delete what you do not need" in result.stderr
    ended = await process.wait()
    assert b"over its disk limit" in ended.stderr
    assert [kind for kind, _ in events][:1] == ["limit.disk"]
    assert events[0][1]["disk_mb"] == 20
    assert events[0][1]["used_mb"] >= 20
    assert (await world.exec("rm fill*; echo removed")).stdout == b"removed\n"
    many = await shell.run("mkdir many; for i in $(seq 100000); do : > many/$i; done")
    assert (many.exit_code, many.restarted) == (137, True)
    assert b"over its limit of 500 files and folders" in many.output
    await world.close()


async def test_what_is_asked_for_after_a_kill_is_not_killed_by_it(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind, resources=Resources(disk_mb=20)).start(label=LABEL)
    assert isinstance(world, ChannelEnvironment)
    shell = await world.open_shell()
    await shell.run("x=lost")
    await world.write_file("script.py", b"print('alive')")
    await asyncio.gather(*(world.exec("sleep 0.2") for _ in range(3)))  # whoever ran them waits for more
    running = asyncio.create_task(world.exec("echo begun > begun; sleep 600"))
    assert (await world.exec("until [ -s begun ]; do sleep 0.01; done")).ok
    _, killed = world.channel.send("kill_all", why="killed: why\n")
    in_shell = asyncio.create_task(shell.run("echo alive $x"))
    commands = ("echo alive", "echo alive", ["python3", "script.py"])
    after = await asyncio.gather(*(world.exec(command) for command in commands))
    assert [result.text for result in after] == ["alive\n"] * 3
    assert (await in_shell).output == b"alive\n"
    assert killed.done()
    assert ((await running).exit_code, (await running).stderr) == (137, b"killed: why\n")
    await world.close()


async def test_a_world_that_stands_still_can_be_killed(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=LABEL)
    assert isinstance(world, ChannelEnvironment)
    running = asyncio.create_task(world.exec("sleep 600"))
    assert (await world.exec("sleep 0.2")).ok
    await world.channel.request("freeze")
    await world.channel.request("kill_all", why="killed: why\n", timeout_s=1)
    assert (await running).stderr == b"killed: why\n"
    await world.channel.request("thaw")
    assert (await world.exec("echo alive")).stdout == b"alive\n"
    await world.close()


async def test_a_world_that_does_not_stop_is_ended(isolated: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "OBEY_S", 0.5)
    world = await EnvironmentSpec(kind=isolated, resources=Resources(disk_mb=20)).start(label=LABEL)
    assert isinstance(world, ChannelEnvironment)
    request = world.channel.request

    async def deaf(op: str, **fields: Any) -> Reply:
        if op == "kill_all":
            await asyncio.sleep(60)
        return await request(op, **fields)

    monkeypatch.setattr(world.channel, "request", deaf)
    began_s = time.monotonic()
    with pytest.raises(EnvironmentFault, match="gone"):
        await world.exec("for i in $(seq 1000); do head -c 4M /dev/zero > fill$i; sleep 0.02; done", timeout_s=30)
    assert time.monotonic() - began_s < 20
    await world.close()


@pytest.mark.docker
@pytest.mark.parametrize("count_after_the_stop", ["succeeds", "fails"])
async def test_a_container_whose_files_cannot_be_seen_is_counted_inside(
    docker: None, monkeypatch: pytest.MonkeyPatch, count_after_the_stop: str
) -> None:
    monkeypatch.setattr(isolation, "host_folders", lambda _: [])
    monkeypatch.setattr(isolation, "COUNT_INSIDE_S", 0.3)
    stopped, counted = asyncio.Event(), asyncio.Event()
    used_inside = isolation.DiskLimit._used_inside

    async def counting(disk: isolation.DiskLimit) -> Usage:
        if stopped.is_set() and not counted.is_set():
            counted.set()
            if count_after_the_stop == "fails":  # what was to count was killed, too
                raise IndexError
        return await used_inside(disk)

    monkeypatch.setattr(isolation.DiskLimit, "_used_inside", counting)
    spec = EnvironmentSpec(kind="docker", resources=Resources(disk_mb=20, inodes=500))
    world = await spec.start(label=LABEL, on_event=lambda kind, _: stopped.set() if kind == "limit.disk" else None)
    slow = "for i in $(seq 1000); do head -c 1M /dev/zero > fill$i; sleep 0.02; done"
    assert b"over its disk limit of 20 MB" in (await world.exec(slow, timeout_s=60)).stderr
    await counted.wait()
    removed = await world.exec("sleep 1; rm fill*; echo removed")
    assert (removed.stdout, removed.stderr) == (b"removed\n", b"")
    await world.close()


async def test_one_world_that_cannot_be_counted_does_not_end_the_watch_over_others(tmp_path: Path) -> None:
    def broken() -> list[int]:
        raise RuntimeError("cannot be counted")

    found = asyncio.Event()

    async def over(_: Usage) -> None:
        found.set()

    trees = [tmp_path / "broken", tmp_path / "other"]
    for tree in trees:
        tree.mkdir()
    limit = Usage(1 << 20, 100)
    watches = [watch.Watch([trees[0]], broken, limit, over), watch.Watch([trees[1]], tuple, limit, over)]
    async with asyncio.timeout(60):
        for number in range(1000):
            if found.is_set():
                break
            (trees[1] / f"fill{number}").write_bytes(bytes(MB // 4))
            await asyncio.sleep(0.1)
        await found.wait()
    for each in watches:
        each.close()


async def test_innocent_worlds_are_left_alone(isolated: Kind) -> None:
    """What one writes makes the others be counted, not stopped."""
    small = EnvironmentSpec(kind=isolated, resources=Resources(disk_mb=50))
    quiet, busy = (
        await small.start(label=LABEL),
        await replace(small, resources=Resources(disk_mb=900)).start(label=LABEL),
    )
    waiting = asyncio.create_task(quiet.exec("head -c 30M /dev/zero > fits; sleep 2; echo undisturbed"))
    for number in range(4):
        assert (await busy.exec(f"head -c 100M /dev/zero > fill{number}")).ok
    assert (await waiting).stdout == b"undisturbed\n"
    await quiet.close()
    await busy.close()


# --- the engine ---


@pytest.mark.docker
async def test_runtimes(docker: None) -> None:
    with pytest.raises(EnvironmentUnavailable, match=r"no runtime 'no-such-runtime', only .*runc"):
        await EnvironmentSpec(kind="docker", runtime="no-such-runtime").start(label=LABEL)
    world = await EnvironmentSpec(kind="docker", runtime="runc").start(label=LABEL)
    assert (await world.exec("echo hi")).stdout == b"hi\n"
    await world.close()


def test_which_engines_limit_the_size_of_a_layer() -> None:
    root = {"DockerRootDir": "/var/lib/docker"}
    xfs = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "xfs"]], **root}
    with_quota = ["/dev/a / ext4 rw 0 0", "/dev/b /var/lib xfs rw,prjquota 0 0"]
    without = ["/dev/a / xfs rw,prjquota 0 0", "/dev/b /var/lib/docker xfs rw,noquota 0 0"]
    assert isolation.limits_size(xfs, with_quota)
    assert not isolation.limits_size(xfs, without)
    assert not isolation.limits_size({**xfs, "DriverStatus": [["Backing Filesystem", "extfs"]]}, with_quota)
    assert isolation.limits_size({"Driver": "btrfs", **root}, [])


def test_weaknesses_of_engines() -> None:
    sound = {"SecurityOptions": ["name=seccomp,profile=default"], "SwapLimit": True, "PidsLimit": True}
    assert isolation.weaknesses(sound) == []
    for options in ([], ["name=seccomp,profile=unconfined"]):
        assert isolation.weaknesses({**sound, "SecurityOptions": options}) == [
            "system calls are not filtered (the engine runs without seccomp)"
        ]
    assert isolation.weaknesses({**sound, "SwapLimit": False}) == ["swap is not limited"]


# --- control groups of version 2, as files ---


def test_groups_of_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "trellis/world"
    group.mkdir(parents=True)
    for file in ("memory.max", "memory.swap.max", "pids.max", "cpu.max"):
        (group / file).touch()
    for folder in (tmp_path, tmp_path / "trellis"):
        (folder / "cgroup.subtree_control").touch()
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids")
    (group / "cgroup.procs").write_text("0\n41\n42\n")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    made, memory = cgroups.create("world", Resources(memory_mb=100, cpus=1.5, pids=50))
    assert (made, memory) == ((str(group),), True)
    limits = {file: (group / file).read_text() for file in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")}
    assert limits == {"memory.max": str(100 * MB), "memory.swap.max": "0", "pids.max": "66", "cpu.max": "150000 100000"}
    assert cgroups.processes(made) == [41, 42]
    assert cgroups.missing() == []
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu")
    assert cgroups.missing() == ["memory", "pids"]


# --- the filter, run as the kernel would ---

INTEL, ARM, I386, BIG = 0xC000003E, 0xC00000B7, 0x40000003, 0xC0DE


def verdict(machine: str, number: int, *arguments: int, architecture: int = 0) -> int:
    """The errno that the filter answers a call with; 0 if it lets it through."""
    architecture = architecture or {"x86_64": INTEL, "aarch64": ARM}[machine]
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture, 0, *[value & (1 << 64) - 1 for value in padded])
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation == seccomp.RETURN:
            return 0 if operand == seccomp.ALLOW else operand & 0xFFFF
        else:
            holds = {
                seccomp.JUMP_EQ: accumulator == operand,
                seccomp.JUMP_GE: accumulator >= operand,
                seccomp.JUMP_SET: bool(accumulator & operand),
            }[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter(machine: str) -> None:
    column = {"x86_64": 0, "aarch64": 1}[machine]
    for names, error in (
        (seccomp.NUMBERS, errno.EPERM),
        (seccomp.FALL_BACK, errno.ENOSYS),
        (seccomp.ABSENT, errno.EOPNOTSUPP),
    ):
        for numbers in names.values():
            if (number := numbers[column]) is not None:
                assert verdict(machine, number) == error
    by_argument = {name: numbers[column] for name, numbers in seccomp.BY_ARGUMENT.items()}
    cases = [
        ("clone", (17,), 0), ("clone", (0x3D0F00,), 0), ("clone", (0x10000000 | 17,), errno.EPERM),
        ("clone", (0x20000,), errno.EPERM), ("clone", (0x40000000,), errno.EPERM),
        ("ioctl", (0, 0x5401), 0), ("ioctl", (0, 0x5412), errno.EPERM), ("ioctl", (0, 1 << 32 | 0x5412), errno.EPERM),
        ("ioctl", (0, 0x541C), errno.EPERM), ("ioctl", (0, 0x40305828), errno.EPERM),
        ("socket", (1,), 0), ("socket", (2,), 0), ("socket", (10,), 0), ("socket", (16,), 0),
        ("socket", (17,), errno.EAFNOSUPPORT), ("socket", (40,), errno.EAFNOSUPPORT),
        ("personality", (0xFFFFFFFF,), 0), ("personality", (0,), 0), ("personality", (0x40000,), errno.EPERM),
    ]  # fmt: skip
    for name, arguments, error in cases:
        assert verdict(machine, by_argument[name], *arguments) == error, (name, arguments)
    known = {number for group in (seccomp.NUMBERS, seccomp.FALL_BACK, seccomp.ABSENT, seccomp.BY_ARGUMENT)
             for number in [numbers[column] for numbers in group.values()]}  # fmt: skip
    assert all(verdict(machine, number) == 0 for number in range(600) if number not in known)


def test_the_filter_knows_its_architecture() -> None:
    for foreign in (I386, ARM, BIG):
        assert verdict("x86_64", 39, architecture=foreign) == errno.ENOSYS
    assert verdict("x86_64", 39 | seccomp.X32_BIT) == errno.ENOSYS
    assert verdict("aarch64", 172, architecture=INTEL) == errno.ENOSYS
