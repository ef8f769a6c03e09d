"""A page that was looked at again is in the conversation once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trellis.environments.environment import Environment
from trellis.models.messages import Message, Text, ToolCall, ToolResult
from trellis.models.model import GenerateConfig, ToolSpec
from trellis.models.scripted import Line, Scripted
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.react import ReAct
from trellis.scaffolds.task import Submission, Task
from trellis.tools.submit import make as submit
from trellis.tools.tool import Output, tool

PAGE = "a page as text\n" * 50


async def browser(environment: Environment, number: int) -> Output:
    """Look."""
    text = f"looked\n{PAGE}"
    snapshot = {"number": number, "whole": True, "supersedes": number - 1, "at": len("looked\n")}
    return Output(text, data={"action": "snapshot", "snapshot": snapshot})


async def collect(environment: Environment | None, answer: str) -> Submission:
    return Submission(answer)


async def test_superseded_snapshots_are_one_line(tmp_path: Path) -> None:
    sent: list[list[str]] = []

    def say(messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig) -> Line:
        results = [part for message in messages for part in message.parts if isinstance(part, ToolResult)]
        sent.append([result.text for result in results])
        number = len(results) + 1
        return ToolCall(f"c{number}", "browser", {"number": number}) if number < 4 else ToolCall("s", "submit", {})

    for _ in range(2):  # opened again, the log answers: what was sent is the same
        async with Episode.open(
            tmp_path,
            task=Task("look", (Text("Look three times."),)),
            tools=[tool(browser), submit()],
            models={"main": Scripted([say] * 4)},
            seed=1,
            budget=Budget(),
            collect=collect,
            label="test/collapse",
            environment=None,
            header={"episode": "e1"},
        ) as episode:
            await ReAct().solve(episode)
    assert [len(texts) for texts in sent] == [0, 1, 2, 3]
    assert [text.count("a page as text") for text in sent[3]] == [0, 0, 50]
    assert all(text.startswith("looked\n") for text in sent[3])
