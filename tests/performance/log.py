"""What the log costs: appending, opening, indexing, random access, packing, and waiting for the disk; beside a bare
loop that writes the same lines as JSON. Times are of the processor, but for those that wait for the disk."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trellis.models.messages import Message, Text, ToolCall, ToolResult, assistant, part_to_json, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.trajectories import disk
from trellis.trajectories.durability import Storage
from trellis.trajectories.log import SCHEMA, Log, encode, read
from trellis.trajectories.packing import pack, unpack
from trellis.trajectories.reading import EventFile
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.trajectory import Trajectory
from trellis.trajectories.verifying import Verifier

STEPS = 10_000
EVENTS = 50_000
HEADER = {"episode": {"task": "t"}}
SHELL = ToolSpec("shell", "Run a command.", {"type": "object"})
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "and",
    "runs",
    "the",
    "tests",
    "again",
    "before",
    "it",
    "hands",
    "in",
]


def took(work: Callable[[], Any], clock: Callable[[], float] = time.process_time, repeat: int = 3) -> float:
    """The shortest of some times, in seconds."""
    best = float("inf")
    for _ in range(repeat):
        begun = clock()
        work()
        best = min(best, clock() - begun)
    return best


def row(what: str, value: str, beside: str = "") -> None:
    print(f"{what:44} {value:>14}   {beside}")


def text(number: int, words: int) -> str:
    return " ".join(WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(words)) + f" {number}"


def appending(folder: Path) -> None:
    data = {"begun": 7, "answer": {"result": {"kind": "tool_result", "parts": [{"kind": "text", "text": text(3, 60)}]}}}

    def ours() -> None:
        path = folder / "a.jsonl"
        path.unlink(missing_ok=True)
        log = Log(path)
        log.append("header", "main", 0.0, schema=SCHEMA)
        for number in range(EVENTS):
            log.append("act.done", "main", number / 10, **data)
        log.close()

    def bare() -> None:
        fd = os.open(folder / "b.jsonl", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        for number in range(EVENTS):
            os.write(fd, (encode({"seq": number, "at": number / 10, "kind": "act.done", **data}) + "\n").encode())
        os.close(fd)

    us, bare_us = (1e6 * took(work) / EVENTS for work in (ours, bare))
    row("append an event", f"{us:.1f} us", f"bare JSON lines {bare_us:.1f} us, ratio {us / bare_us:.2f}")


async def episode(folder: Path, steps: int) -> None:
    """A long episode: a growing conversation, and a tool call in each step."""
    recorder = Recorder(folder, HEADER)
    messages: list[Message] = [user("go")]
    for number in range(steps):
        call = ToolCall(f"c{number}", "shell", {"command": f"echo {number}"})
        said = Reply(assistant(text(number, 40), call), "tool_calls", Usage(input=10, output=5), 0.1, 0.2)
        result = ToolResult(call.id, "shell", (Text(text(number, 150)),))

        async def reply(said: Reply = said) -> Reply:
            return said

        async def answer(result: ToolResult = result) -> Mapping[str, Any]:
            return {"result": part_to_json(result), "handed_in": None}

        await recorder.generate("main", "main", "m", messages, (SHELL,), GenerateConfig(), reply)
        await recorder.effect("act", "main", part_to_json(call), answer)
        messages += [said.message, result.message]
    recorder.close()


def opening(folder: Path) -> None:
    asyncio.run(episode(folder, STEPS))
    path = folder / disk.LOG
    size_mb = path.stat().st_size / 1e6
    row(f"a log of {STEPS:,} steps", f"{size_mb:.1f} MB", f"{size_mb * 1e3 / STEPS:.2f} KB a step")

    def parsed() -> None:
        with path.open("rb") as file:
            for line in file:
                json.loads(line)

    bare = took(parsed)

    def resumed() -> None:
        Recorder(folder, HEADER).close()

    def indexed() -> None:
        EventFile(path).close()

    def looked_at() -> None:
        with Trajectory(path) as trajectory:
            len(trajectory)

    for what, work in (
        ("open it to go on (chain checked)", resumed),
        ("read every event (chain checked)", lambda: sum(1 for _ in read(path))),
        ("verify it", lambda: Verifier().verify(path)),
        ("index its events", indexed),
        ("open it as a trajectory", looked_at),
    ):
        s = took(work)
        row(what, f"{1e3 * s:.0f} ms", f"json.loads of every line {1e3 * bare:.0f} ms, ratio {s / bare:.2f}")


def packing(folder: Path) -> None:
    path = folder / disk.LOG
    sizes = pack(path)
    unpack(path)
    ratio = f"{sizes.plain / 1e6:.1f} MB to {sizes.packed / 1e6:.2f} MB: {sizes.plain / sizes.packed:.1f} to 1"
    row("pack it", f"{1e3 * took(lambda: pack(path), repeat=1):.0f} ms", ratio)
    row("index it packed", f"{1e3 * took(lambda: EventFile(path).close()):.0f} ms")
    for what in ("packed", "plain"):
        with Trajectory(path) as trajectory:
            s = took(partial(look, trajectory, 300))
        row(f"any step, {what}", f"{1e6 * s / 300:.0f} us")
        unpack(path)


def look(trajectory: Trajectory, count: int) -> None:
    for number in range(count):
        trajectory.step((number * 7919) % len(trajectory) + 1)


async def committed(folder: Path, branches: int, *, fsync: bool) -> float:
    """Effects a second, each used when the disk has it."""
    recorder = Recorder(folder, HEADER, storage=Storage(fsync=fsync))
    each = 40

    async def branch(name: str) -> None:
        for number in range(each):

            async def answer() -> Mapping[str, Any]:
                return {"result": {}, "handed_in": None}

            await recorder.effect("act", name, {"n": number}, answer)

    begun = time.perf_counter()
    await asyncio.gather(*(branch(f"main/{number}") for number in range(branches)))
    took_s = time.perf_counter() - begun
    recorder.close()
    return branches * each / took_s


def committing(folder: Path) -> None:
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    times = []
    for _ in range(50):
        os.write(fd, b"x" * 200)
        begun = time.perf_counter()
        os.fdatasync(fd)
        times.append(time.perf_counter() - begun)
    os.close(fd)
    bare_ms = 1e3 * sorted(times)[len(times) // 2]
    row("one fdatasync here", f"{bare_ms:.2f} ms")
    for branches in (1, 10, 100):
        rate = asyncio.run(committed(folder / f"f{branches}", branches, fsync=True))
        ratio = rate * bare_ms / 1e3
        row(f"--fsync, {branches} branches at a time", f"{rate:,.0f} effects/s", f"{ratio:.1f} to one bare fdatasync")
    rate = asyncio.run(committed(folder / "none", 100, fsync=False))
    row("without --fsync, 100 branches", f"{rate:,.0f} effects/s")


def main() -> None:
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        appending(folder)
        opening(folder / "long")
        packing(folder / "long")
        committing(folder)


if __name__ == "__main__":
    main()
