"""A log grows with the work and the recorder with nothing but names, however long an episode is."""

import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trellis.environments.environment import Environment
from trellis.models.messages import Message, Text, ToolCall, ToolResult, assistant, part_to_json, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.react import ReAct
from trellis.scaffolds.task import Submission, Task
from trellis.tools.tool import Output, tool
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.trajectory import Trajectory


class Busy:
    """Calls a tool in each of so many steps, and then hands in."""

    name = "test/busy"

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        number = sum(message.role == "assistant" for message in messages) + 1
        call = ToolCall(f"call-{number:06}", "work", {"last": number == self._steps})
        return Reply(assistant(f"Step {number:06} of the work, at some length. " * 5, call), "tool_calls")


@tool
async def work(environment: Environment, last: bool) -> Output:
    """Work.

    Args:
        last: was that all?
    """
    return Output("What came of it. " * 20, answer="done" if last else None)


async def collect(_: Environment | None, answer: str) -> Submission:
    return Submission(answer)


async def test_doubling_the_steps_doubles_the_bytes(tmp_path: Path) -> None:
    sizes: dict[int, int] = {}
    for steps in (50, 100, 200, 400):
        folder = tmp_path / str(steps)
        async with Episode.open(
            folder, task=Task("t", (Text("Work."),)), tools=[work], models={"main": Busy(steps)}, seed=1,
            budget=Budget(), collect=collect, label="test/growth", environment=None, header={"episode": steps},
        ) as episode:  # fmt: skip
            await ReAct().solve(episode)
        with Trajectory(folder) as trajectory:
            assert len(trajectory) == steps
        sizes[steps] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for steps in (100, 200, 400):
        assert sizes[steps] / sizes[steps // 2] < 2.02


async def test_a_recorder_keeps_no_messages_that_the_scaffold_has_dropped(tmp_path: Path) -> None:
    """A conversation that is trimmed: only the names of what was written stay."""

    async def grown(steps: int) -> int:
        recorder = Recorder(tmp_path / str(steps), {"episode": steps})
        messages: list[Message] = []
        tracemalloc.start()
        for number in range(steps):
            said = Reply(assistant(f"{number} " + "x" * 2000), "stop")
            result = ToolResult("c", "shell", (Text(f"{number} " + "y" * 2000),))

            async def reply(said: Reply = said) -> Reply:
                return said

            async def answer(result: ToolResult = result) -> Mapping[str, Any]:
                return {"result": part_to_json(result), "handed_in": None}

            messages = [user("Go on."), *messages[-6:]]
            await recorder.generate("main", "main", "m", messages, (), GenerateConfig(), reply)
            await recorder.effect("act", "main", {"number": number}, answer)
            messages += [said.message, result.message]
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        recorder.close()
        return held

    await grown(20)
    short, long = await grown(100), await grown(1100)
    assert (long - short) / 1000 < 600, "bytes a step, of the 4,000 that it says"
