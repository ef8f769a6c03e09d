"""Trajectories with everything in them that exporters must tell or count, made by the recorder."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import (
    Audio,
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    part_to_json,
    system,
    user,
)  # fmt: skip
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec, Usage
from trellis.trajectories.converters.telling import Outcome, Told, told
from trellis.trajectories.recorder import Recorder

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHELL = ToolSpec(
    "shell",
    "Run a command. " * 10,
    {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
)
PATCH = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"


def header(task: str = "fix", agent: str = "react", epoch: int = 1, benchmark: str = "swe:sample") -> dict[str, Any]:
    return {
        "episode": {"benchmark": benchmark, "task": task, "agent": agent, "epoch": epoch, "seed": 7},
        "benchmark": {"name": benchmark, "version": "3", "options": {}},
        "scaffold": {"name": agent, "options": {"nudge": "go on"}},
        "models": {"main": "anthropic/claude", "judge": "openai/judge"},
        "environment": {"kind": "sandbox"},
        "budget": {"steps": 100},
        "packages": {"trellis-agents": "0.1.0"},
        "git": {"commit": "abc", "dirty": False},
    }


class Maker:
    """Records what a test says, on a clock that moves a second with each effect."""

    def __init__(self, folder: Path, head: Mapping[str, Any] | None = None) -> None:
        self.now = 0.0
        self.recorder = Recorder(folder, head or header(), clock=lambda: self.now)
        self.conversations: dict[str, list[Message]] = {}

    def say(self, *messages: Message, branch: str = "main") -> None:
        self.conversations.setdefault(branch, []).extend(messages)

    async def reply(
        self,
        message: Message,
        *,
        branch: str = "main",
        usage: Usage | None = None,
        cost_usd: float | None = 0.25,
        tools: Sequence[ToolSpec] = (SHELL,),
        role: str = "main",
        overflow: bool = False,
        **config: Any,
    ) -> None:
        said = self.conversations.setdefault(branch, [])

        async def perform() -> Reply:
            self.now += 1
            if overflow:
                raise ContextOverflow("too long")
            stop = "tool_calls" if message.tool_calls else "stop"
            return Reply(message, stop, usage or Usage(input=10, output=5), cost_usd, 1.0)  # type: ignore[arg-type]

        model = "openai/judge" if role == "judge" else "anthropic/claude"
        try:
            await self.recorder.generate(branch, role, model, said, tools, GenerateConfig(**config), perform)
            said.append(message)
        except ContextOverflow:
            pass

    async def act(self, call: ToolCall, result: ToolResult | None, branch: str = "main", told: bool = True) -> None:
        async def perform() -> Mapping[str, Any]:
            self.now += 1
            if result is None:
                raise KeyboardInterrupt
            return {"result": part_to_json(result, self.recorder.blobs.store), "handed_in": None}

        try:
            await self.recorder.effect("act", branch, part_to_json(call), perform)
        except KeyboardInterrupt:
            return
        if told and result is not None:
            self.say(result.message, branch=branch)

    async def submit(self, answer: str = "", branch: str = "main", **files: str) -> None:
        stored = {name.replace("_", "."): self.recorder.blobs.store(data.encode()) for name, data in files.items()}

        async def perform() -> Mapping[str, Any]:
            return {"answer": answer, "files": stored}

        await self.recorder.effect("submit", branch, {"answer": answer}, perform)

    def branch(self, name: str, origin: str = "main", position: int = 0) -> None:
        self.recorder.once("branch", name, origin=origin, position=position)

    def note(self, kind: str, **data: Any) -> None:
        self.recorder.once(f"note.{kind}", "main", data=data)

    def close(self) -> None:
        self.recorder.close()


def call(id: str, command: str) -> ToolCall:
    return ToolCall(id, "shell", {"command": command})


def result(of: ToolCall, text: str, *more: Image, is_error: bool = False, exit_code: int = 0) -> ToolResult:
    return ToolResult(of.id, of.name, (Text(text), *more), is_error, {"exit_code": exit_code})


@pytest.fixture
async def react(tmp_path: Path) -> Path:
    return await loop(tmp_path / "react")


@pytest.fixture
async def tree(tmp_path: Path) -> Path:
    return await search(tmp_path / "tree")


@pytest.fixture
async def shortened(tmp_path: Path) -> Path:
    return await cut(tmp_path / "shortened")


@pytest.fixture
def looped() -> Callable[..., Any]:
    """Records a loop into a folder, of any task, agent and epoch."""
    return lambda folder, **episode: loop(folder, header(**episode))


@pytest.fixture
def telling() -> Iterator[Callable[..., Told]]:
    """Trajectories as exporters read them, closed after the test."""
    with ExitStack() as stack:
        yield lambda path, outcome=None: stack.enter_context(told(path, outcome or Outcome()))


async def loop(folder: Path, head: Mapping[str, Any] | None = None) -> Path:
    """A loop with tools: two calls in a reply, a failure, an image, a call that is cut off, a judge, a patch."""
    made = Maker(folder, head)
    made.say(system("Be careful."), user("Fix it.", Image(PNG, "image/png"), Audio(b"beep", "audio/ogg")))
    thought = Reasoning(
        "hm", {"provider": "anthropic", "item": {"type": "thinking", "thinking": "hm", "signature": "s"}}
    )
    first, second = call("c1", "ls"), call("c2", "cat x")
    usage = Usage(input=100, cache_read=40, cache_write=10, output=20, reasoning=8)
    await made.reply(Message("assistant", (thought, Text("Looking."), first, second)), usage=usage, temperature=0.5)
    await made.act(first, result(first, "x\ny"))
    await made.act(second, result(second, "picture", Image(PNG, "image/png")))
    wrong = call("c3", "false")
    await made.reply(assistant("Trying.", wrong), reasoning_effort="high")
    await made.act(wrong, result(wrong, "boom", exit_code=1))
    made.say(user("go on"))
    own = ToolCall("main-use-1", "shell", {"command": "git status"})
    await made.act(own, result(own, "clean"), told=False)
    bad = ToolCall("c4", "shell", {}, "{not json")
    await made.reply(assistant(bad))
    await made.act(bad, result(bad, "arguments are no JSON", is_error=True))
    made.say(user("go on"))
    last = call("c5", "sleep 100")
    await made.reply(assistant("Waiting.", last), cost_usd=None)
    await made.act(last, None)
    made.note("plan", text="finish")
    await made.submit(model_patch=PATCH)
    made.say(user("Is it right?"), branch="grader")
    await made.reply(assistant("yes"), branch="grader", role="judge", tools=())
    made.close()
    return folder / "trajectory.jsonl"


async def search(folder: Path, head: Mapping[str, Any] | None = None) -> Path:
    """A search: three nodes in branches, the second a repair of the first, the third failing."""
    made = Maker(folder, head or header("scripts", "tree"))
    look = ToolCall("main-use-1", "shell", {"command": "ls input"})
    await made.act(look, result(look, "train.csv"), told=False)
    nodes = (
        (0, None, "draft", None, True, 1, "Traceback\nValueError: no"),
        (1, 0, "debug", 0.75, False, 0, "score 0.75"),
        (2, 1, "improve", None, True, 1, "Killed"),
    )
    for id, parent, stage, metric, buggy, code, output in nodes:
        name = f"main/node-{id}"
        made.branch(name, position=1)
        made.say(user(f"Write script {id}."), branch=name)
        await made.reply(assistant(f"Plan {id}\n```python\nprint({id})\n```"), branch=name, tools=())
        run = ToolCall(f"{name}-use-1", "python", {"code": f"print({id})", "fresh": True})
        await made.act(run, result(run, output, exit_code=code), branch=name, told=False)
        made.conversations[name] = [user(f"Review {id}.")]
        await made.reply(assistant("It is so."), branch=name, tools=())
        if metric is not None:
            await made.submit(branch=name, submission_csv="id,y\n1,2\n")
        made.note("node", id=id, parent=parent, branch=name, stage=stage, plan=f"Plan {id}", is_buggy=buggy,
                  metric=metric, lower_is_better=False, analysis=f"Node {id}.", exec_time_s=1.5,
                  best=metric is not None)  # fmt: skip
    made.close()
    return folder / "trajectory.jsonl"


async def cut(folder: Path) -> Path:
    """A conversation that is cut in the middle, with the same words said twice, and one that did not fit."""
    made = Maker(folder)
    made.say(system("s"), user("task"))
    for number in range(3):
        each = call(f"c{number}", f"echo {number}")
        await made.reply(assistant(f"step {number}", each))
        await made.act(each, result(each, str(number)))
        made.say(user("go on"))
    await made.reply(assistant(), overflow=True)
    whole = made.conversations["main"]
    made.conversations["main"] = [*whole[:2], user("(a summary)"), *whole[-3:]]
    await made.reply(assistant("short now"))
    made.say(user("go on"))
    await made.reply(assistant("done"))
    made.close()
    return folder / "trajectory.jsonl"
