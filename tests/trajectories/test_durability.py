"""With `fsync`, an effect's result is used when the disk has it; many share a commit, and others go on meanwhile."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Image, Text, ToolResult, assistant, part_to_json, user
from trellis.models.model import GenerateConfig, Reply
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.disk import LOG
from trellis.trajectories.durability import Storage
from trellis.trajectories.log import StorageFault, read
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.redaction import Redaction

HEADER = {"episode": {"task": "t"}}
LONG = "a long text " * 4000


class Disk:
    """Sees what is brought to stable storage: names of files and their sizes when it began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, delay_s: float = 0.0) -> None:
        self.synced: dict[str, int] = {}
        self.commits = 0
        self.refuses = False
        fsync, fdatasync = os.fsync, os.fdatasync

        def seen(real: Any, fd: int) -> None:
            if self.refuses:
                raise OSError(5, "Input/output error")
            name, size = Path(f"/proc/self/fd/{fd}").readlink().name, os.fstat(fd).st_size
            time.sleep(delay_s)
            real(fd)
            self.synced[name] = size
            self.commits += real is fdatasync

        monkeypatch.setattr(os, "fsync", lambda fd: seen(fsync, fd))
        monkeypatch.setattr(os, "fdatasync", lambda fd: seen(fdatasync, fd))


def answer(text: str) -> Any:
    async def perform() -> Mapping[str, Any]:
        return {"result": part_to_json(ToolResult("c", "shell", (Text(text),))), "handed_in": None}

    return perform


async def ask(recorder: Recorder, text: str) -> Reply:
    async def perform() -> Reply:
        return Reply(assistant(f"{text} – {LONG}"), "stop")

    messages = [user(Text(text), Image(text.encode() * 50, "image/png")), user(LONG + text)]
    reply, _ = await recorder.generate("main", "main", "m", messages, (), GenerateConfig(), perform)
    return reply


async def test_what_is_used_is_on_the_disk_with_its_blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    recorder = Recorder(tmp_path / "e", HEADER, storage=Storage(fsync=True))
    log = tmp_path / "e" / "trajectory.jsonl"
    assert {"e", tmp_path.name, log.name} <= disk.synced.keys(), "the new folder and file are known"
    append = recorder.log.append

    def seen(*arguments: Any, **data: Any) -> int:
        """Whatever an event names is on the disk before the event is written."""
        seq = append(*arguments, **data)
        assert {path.name for path in (tmp_path / "e" / "blobs").glob("*")} <= disk.synced.keys()
        return seq

    monkeypatch.setattr(recorder.log, "append", seen)
    for number in range(4):
        await ask(recorder, str(number))
        assert disk.synced[log.name] == log.stat().st_size
        await recorder.effect("act", "main", {"n": number}, answer(LONG + str(number)))
        assert disk.synced[log.name] == log.stat().st_size
    recorder.close()
    assert len(disk.synced) > 4 * 4


async def test_many_share_a_commit_and_nobody_uses_what_came_too_late_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, HEADER, storage=Storage(fsync=True))
    disk = Disk(monkeypatch, delay_s=0.02)
    turns = 0

    async def branch(name: str) -> None:
        for number in range(4):
            await asyncio.sleep(0.001 * len(name))
            await recorder.effect("act", name, {"n": number}, answer(str(number)))
            whole = (tmp_path / "trajectory.jsonl").read_bytes()[: disk.synced["trajectory.jsonl"]]
            assert whole.count(f'"branch":"{name}","kind":"act.done"'.encode()) == number + 1

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await asyncio.gather(*(branch("b" * size) for size in range(1, 31)))
    turning.cancel()
    recorder.close()
    assert 4 <= disk.commits < 30, "of 120 effects"
    assert turns > 10 * disk.commits, "other episodes went on"


async def test_without_it_nothing_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    recorder = Recorder(tmp_path, HEADER)
    await ask(recorder, "x")
    await recorder.effect("act", "main", {}, answer(LONG))
    recorder.close()
    assert disk.synced == {}


async def test_what_a_killed_process_left_is_brought_to_the_disk_before_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Recorder(tmp_path, HEADER)
    await ask(first, "x")
    first.close()
    disk = Disk(monkeypatch)
    again = Recorder(tmp_path, HEADER, storage=Storage(fsync=True))
    await ask(again, "x")
    await again.effect("act", "main", {}, answer("y"))
    again.close()
    assert {path.name for path in (tmp_path / "blobs").iterdir()} | {"trajectory.jsonl"} <= disk.synced.keys()


async def test_a_disk_that_failed_is_not_believed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, HEADER, storage=Storage(fsync=True))
    disk = Disk(monkeypatch)
    await recorder.effect("act", "main", {"n": 1}, answer("1"))
    disk.refuses = True
    with pytest.raises(StorageFault, match="Input/output error"):
        await recorder.effect("act", "main", {"n": 2}, answer("2"))
    disk.refuses = False
    with pytest.raises(StorageFault, match="Input/output error"):
        await recorder.effect("act", "main", {"n": 3}, answer("3"))
    recorder.close()


async def test_closing_waits_for_the_commit_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, HEADER, storage=Storage(fsync=True))
    Disk(monkeypatch, delay_s=0.05)
    effect = asyncio.create_task(recorder.effect("act", "main", {}, answer("1")))
    await asyncio.sleep(0.02)
    effect.cancel()
    recorder.close()
    Recorder(tmp_path, HEADER).close()
    assert [event["kind"] for event in read(tmp_path / "trajectory.jsonl")] == [
        "header", "act.begun", "act.done", "resumed"
    ]  # fmt: skip
    with pytest.raises(asyncio.CancelledError):
        await effect


async def test_a_missing_or_damaged_blob_is_one_line_when_the_log_is_opened(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, HEADER)
    await ask(recorder, "x")
    recorder.close()
    before = (tmp_path / "trajectory.jsonl").read_bytes()
    for path in list((tmp_path / "blobs").iterdir()):
        whole = path.read_bytes()
        for data, what in ((b"", "is damaged"), (None, "is missing")):
            path.unlink()
            if data is not None:
                path.write_bytes(data)
            with pytest.raises(Exception, match=f"{path.name} {what}"):
                Recorder(tmp_path, HEADER)
        path.write_bytes(whole)
        assert (tmp_path / "trajectory.jsonl").read_bytes() == before
    Recorder(tmp_path, HEADER).close()
    assert Blobs(tmp_path / "blobs", Redaction({})).store(b"x")


async def test_no_call_tells_of_a_message_that_the_log_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where branches that share a message ask at a time, and where one is stopped while the disk works."""
    Disk(monkeypatch, delay_s=0.05)
    recorder = Recorder(tmp_path, HEADER, storage=Storage(fsync=True))
    shared, replies = [user(LONG)], [Reply(assistant(f"reply {number}"), "stop") for number in range(3)]

    async def ask_on(branch: str, reply: Reply) -> None:
        async def perform() -> Reply:
            return reply

        await recorder.generate(branch, "main", "m", shared, (), GenerateConfig(), perform)

    stopped = asyncio.ensure_future(ask_on("stopped", replies[0]))
    await asyncio.sleep(0)  # it waits for the disk to have the text
    others = asyncio.gather(ask_on("first", replies[1]), ask_on("second", replies[2]))
    await asyncio.sleep(0)
    stopped.cancel()
    await others
    recorder.close()
    there = set[str]()
    for event in read(tmp_path / LOG):
        if event["kind"] == "message":
            there.add(event["hash"])
        elif event["kind"] == "generate.begun":
            assert there.issuperset(event["messages"]), event
    assert len(there) == 3
    Recorder(tmp_path, HEADER).close()
