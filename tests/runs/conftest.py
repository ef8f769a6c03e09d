"""What the tests of runs share: the command line as a user has it, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Reasoning, Text, ToolCall, ToolResult, assistant, part_to_json, system, user
from trellis.models.model import GenerateConfig, Reply, Usage
from trellis.runs.cli import invoke
from trellis.trajectories.recorder import Recorder

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m red \x00\r over \u202e reversed \u200b\n</pre><script>alert(1)</script>"
    '"onmouseover="x" {{ 7*7 }} \ud800 step 9 · main:9\n<img src=x onerror=alert(2)>'
)
"""What everybody might write who wants to steer a terminal or a page."""

Call = tuple[str, Mapping[str, Any], str]
"""A tool, its arguments, and what came back."""
Written = Sequence[tuple[str, Sequence[Call]]]
"""Replies and the calls in them."""
WriteLog = Callable[..., Awaitable[Path]]

SUMS = Path(__file__).parent / "parts" / "sums.py"


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output, which must be one JSON document."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def complaint(self) -> str:
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def sums() -> str:
    return str(SUMS)


@pytest.fixture
def trellis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        status = invoke(list(arguments))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture
def spawn(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command line in a process group of its own, in an empty folder."""

    def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trellis.runs.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.fixture
def hostile() -> str:
    return HOSTILE


@pytest.fixture
def write_log() -> WriteLog:
    """Writes a trajectory as an episode would: replies, and the calls that they set off."""

    async def write(
        folder: Path,
        steps: Written,
        *,
        branch: str = "main",
        task: str = "t",
        agent: str = "react",
        model: str = "test/model",
        think: str = "",
        changes: Sequence[Mapping[str, Any]] = (),
        note: tuple[str, Mapping[str, Any]] | None = None,
    ) -> Path:
        recorder = Recorder(folder, {"episode": {"benchmark": "b", "task": task, "agent": agent, "epoch": 1}})
        if branch != "main":
            recorder.once("branch", branch, origin="main", position=0)
        messages = [system("Be good."), user("Go.")]
        for number, (said, calls) in enumerate(steps):
            made = [ToolCall(f"c{number}.{i}", name, arguments) for i, (name, arguments, _) in enumerate(calls)]
            thoughts = [Reasoning(think)] if think else []

            async def reply(message: Any = assistant(*thoughts, said, *made)) -> Reply:
                return Reply(message, "tool_calls", Usage(input=10, output=5), 0.25, 0.5)

            answered, _ = await recorder.generate(branch, "main", model, messages, (), GenerateConfig(), reply)
            messages.append(answered.message)
            for call, (_, _, came) in zip(made, calls, strict=True):
                result = ToolResult(call.id, call.name, (Text(came),), data={"exit_code": 0})

                async def answer(result: ToolResult = result) -> Mapping[str, Any]:
                    return {"result": part_to_json(result), "handed_in": None, "changes": list(changes)}

                await recorder.effect("act", branch, part_to_json(call), answer)
                messages.append(result.message)
            if note:
                recorder.once(f"note.{note[0]}", branch, data=note[1])
        recorder.close()
        return folder / "trajectory.jsonl"

    return write
