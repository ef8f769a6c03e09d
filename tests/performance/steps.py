"""What the framework adds to a step: an instant model and a no-op tool, log included, against a bare loop that appends
the same messages to a JSONL file. Prints microseconds of the processor for a step early and late in a long episode:
the median of a hundred, in the best of some episodes, so that what else the machine does counts little."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from trellis.environments.environment import Environment
from trellis.models.messages import Message, ToolCall, assistant, message_to_json, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.tools.tool import tool

STEPS = 1000
EPISODES = 10


class Instant:
    name = "test/instant"

    def __init__(self) -> None:
        self.count = 0

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        self.count += 1
        return Reply(assistant("thinking " * 20, ToolCall(str(self.count), "noop", {"n": self.count})), "tool_calls")


@tool
async def noop(environment: Environment, n: int) -> str:
    """Do nothing.

    Args:
        n: a number.
    """
    return "done " * 20


async def collect(environment: Environment | None, answer: str) -> Submission:
    return Submission(answer)


async def trellis(folder: Path) -> list[float]:
    times: list[float] = []
    task = Task("t", (user("go").parts[0],))
    async with Episode.open(
        folder,
        task=task,
        tools=[noop],
        models={"main": Instant()},
        seed=1,
        budget=Budget(),
        collect=collect,
        label="perf/steps",
        environment=None,
        header={"episode": "perf"},
    ) as episode:
        messages = [user("go")]
        for _ in range(STEPS):
            begun = time.process_time()
            reply = await episode.generate(messages)
            messages.append(reply.message)
            for call in reply.tool_calls:
                messages.append((await episode.act(call)).message)
            times.append(time.process_time() - begun)
    return times


async def bare(folder: Path) -> list[float]:
    times: list[float] = []
    model = Instant()
    messages = [user("go")]
    with (folder / "bare.jsonl").open("a") as log:
        for _ in range(STEPS):
            begun = time.process_time()
            reply = await model.generate(messages)
            messages.append(reply.message)
            await noop(None, n=1)  # type: ignore[arg-type]
            messages.append(user("done " * 20))
            for message in messages[-2:]:
                log.write(json.dumps(message_to_json(message)) + "\n")
                log.flush()
            times.append(time.process_time() - begun)
    return times


def main() -> None:
    rows: dict[str, Any] = {"trellis": trellis, "bare loop + JSONL": bare}
    for name, loop in rows.items():
        episodes = []
        for _ in range(EPISODES):
            with tempfile.TemporaryDirectory() as folder:
                times = asyncio.run(loop(Path(folder)))
            episodes.append([1e6 * median(part) for part in (times[:100], times[-100:])])
        first, last = map(min, zip(*episodes, strict=True))
        print(f"{name:20} first 100 steps {first:7.1f} us   last 100 of {STEPS} {last:7.1f} us")


if __name__ == "__main__":
    main()
