"""Logs of every past version are read, verified, resumed and packed.

A log is made by running this file with the code of that version: `python test_migrations.py FOLDER`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from trellis.environments.environment import Environment
from trellis.models.messages import Image, Message, Text, ToolCall, assistant, system, user
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec, Usage
from trellis.scaffolds.episode import Budget, ContextFull, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.tools.tool import Output, ToolError, tool
from trellis.trajectories import packing
from trellis.trajectories.disk import LOG, packed
from trellis.trajectories.log import SCHEMA, Log, LogError, StorageFault, read
from trellis.trajectories.migrations import SCHEMAS
from trellis.trajectories.trajectory import Trajectory
from trellis.trajectories.verifying import Verifier

HEADER = {"episode": {"benchmark": "b", "task": "t", "agent": "a", "epoch": 1, "seed": 3}}
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)


class Killed(BaseException):
    """Stands for the end of the process."""


class Teller:
    """Says how long the conversation is; one that is too long it does not take."""

    name = "test/teller"

    def __init__(self) -> None:
        self.asked = 0

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        self.asked += 1
        if "too long" in messages[-1].text:
            raise ContextOverflow("12 tokens too many")
        said = assistant(f"{len(messages)} messages, seed {config.seed}", ToolCall("c1", "look", {"at": len(messages)}))
        return Reply(said, "tool_calls", Usage(input=10 * len(messages), output=5), 0.25, 0.5)


class Tools:
    """Long texts, images, mistakes; `kill` ends the process in the middle of a call."""

    def __init__(self, kill: bool) -> None:
        self.used: list[int] = []

        @tool
        async def look(environment: Environment, at: int) -> Output:
            """Look.

            Args:
                at: what to look at.
            """
            self.used.append(at)
            if at == 99 and kill:
                raise Killed
            if at == 7:
                raise ToolError("there is nothing to be seen")
            if at == 8:
                return Output("line of a long text\n" * 3000)
            return Output(f"seen {at}", images=(Image(PIXEL, "image/png"),) if at == 2 else ())

        self.look = look


async def program(episode: Episode) -> str:
    """Everything that a log can hold."""
    messages = [system("Be good."), user(*episode.task.prompt)]
    for _ in range(2):
        reply = await episode.generate(messages)
        messages.append(reply.message)
        messages += [(await episode.act(call)).message for call in reply.tool_calls]
    episode.note("plan", idea="branches", at=episode.now())
    start = await episode.snapshot()
    async with episode.branch("a") as first:
        await first.use("look", at=8)
        async with first.branch("deeper", at=start) as second:
            await second.generate([user("a conversation of its own")])
    with suppress(ContextFull):
        await episode.generate([*messages, user("too long")])
    await episode.use("look", at=7)
    await episode.submit("the answer")
    last = await episode.use("look", at=99)
    return last.text


async def carry_out(folder: Path, *, kill: bool) -> tuple[str, Teller, Tools, Episode]:
    teller, tools = Teller(), Tools(kill)

    async def collect(_: Environment | None, answer: str) -> Submission:
        return Submission(answer, {"notes.txt": b"artefact"})

    async with Episode.open(
        folder, task=Task("t", (Text("Go."),)), tools=[tools.look], models={"main": teller}, seed=3,
        budget=Budget(), collect=collect, label="test/migrations", environment=None, header=HEADER,
    ) as episode:  # fmt: skip
        return await program(episode), teller, tools, episode


LOGS = sorted(Path(__file__).with_name("logs").glob("*/trajectory.jsonl"))


@pytest.fixture(params=LOGS, ids=lambda path: path.parent.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a log of an earlier version."""
    return shutil.copytree(request.param.parent, tmp_path / "episode") / LOG


def test_there_is_a_log_of_every_past_version() -> None:
    assert [f"trellis-trajectory/{path.parent.name}" for path in LOGS] == list(SCHEMAS[:-1])


def test_it_is_read_as_the_present_version_has_it(old: Path) -> None:
    assert old.parent.name not in SCHEMA
    events = list(read(old))
    assert events[0]["schema"] == SCHEMA
    assert events[0]["migrated_from"] in SCHEMAS[:-1]
    with Trajectory(old.parent) as trajectory:
        assert list(trajectory.file.events()) == events
        assert (len(trajectory), trajectory.file.schema) == (4, events[0]["migrated_from"])
        main, first, second = (trajectory.branches[name] for name in ("main", "main/a", "main/a/deeper"))
        assert (first.parent, first.position, second.parent) == ("main", 2, None)
        assert [trajectory.act(seq).result is None for seq in main.acts] == [False, False, False, True]
        assert [step.overflow for step in trajectory.steps()] == ["", "", "", "12 tokens too many"]
        assert trajectory.act(first.acts[0]).result == trajectory.act(first.opening[0]).result
        image = trajectory.act(main.acts[0]).result
        assert image is not None
        assert image.parts[1] == Image(PIXEL, "image/png")
        assert [note.data["idea"] for note in trajectory.notes("plan")] == ["branches"]


async def test_it_goes_on(old: Path) -> None:
    """The recorded effects answer, and nothing of it is lost."""
    before = list(read(old))
    said, teller, tools, _ = await carry_out(old.parent, kill=False)
    assert (said, teller.asked) == ("seen 99", 0)
    assert tools.used.count(99) == 1, "what stands before it is done again to have the world back"
    after = list(read(old))
    assert after[: len(before)] == before
    lines = [json.loads(line) for line in old.read_bytes().splitlines()]
    assert all("chain" in line for line in lines)
    assert lines[0]["schema"] == SCHEMA
    assert Verifier().verify(old).problems == []
    said, teller, tools, _ = await carry_out(old.parent, kill=False)
    assert (said, teller.asked, tools.used) == ("seen 99", 0, [])


def test_it_is_written_anew_whole_or_not_at_all(old: Path, limited_files: None) -> None:
    grown = old.read_bytes() + b"".join(
        json.dumps({"seq": seq, "at": 1.0, "branch": "main", "kind": "note.x", "data": "x" * 990}).encode() + b"\n"
        for seq in range(34, 120)
    )
    with old.open("wb") as file:
        file.write(grown[:64_000].rpartition(b"\n")[0] + b"\n")
    before = old.read_bytes()
    with pytest.raises(StorageFault, match="File too large"):
        Log(old)
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir() if path.name != "blobs"] == [LOG]


def test_it_is_verified_and_packed(old: Path) -> None:
    found = Verifier().verify(old)
    assert (found.problems, found.chained, found.events, found.blobs) == ([], False, 34, 3)
    events = list(read(old))
    packing.pack(old)
    assert not old.exists()
    assert list(read(old)) == events
    assert Verifier().verify(packed(old)).problems == []


def test_a_chained_log_is_none_of_an_earlier_version(old: Path) -> None:
    """Nobody gets rid of the chain by another number in the header."""
    Log(old).close()
    old.write_bytes(old.read_bytes().replace(SCHEMA.encode(), SCHEMAS[0].encode()))
    with pytest.raises(LogError, match="line 1: it is chained"):
        list(read(old))


if __name__ == "__main__":
    with suppress(Killed):
        asyncio.run(carry_out(Path(sys.argv[1]), kill=True))
