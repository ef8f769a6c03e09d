"""Logs of every past version are read, verified, resumed and packed.

A log is made by running this file with the code of that version: `python test_migrations.py FOLDER`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trellis.environments.environment import Environment
from trellis.models.messages import Image, Message, Text, ToolCall, assistant, system, user
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec, Usage
from trellis.scaffolds.episode import Budget, ContextFull, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.tools.tool import Output, ToolError, tool

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


if __name__ == "__main__":
    with suppress(Killed):
        asyncio.run(carry_out(Path(sys.argv[1]), kill=True))
