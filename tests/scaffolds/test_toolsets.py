"""Toolsets in episodes: asked once what they offer, recorded, and not asked again."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, Files
from trellis.models.messages import Text, ToolCall, ToolResult, assistant, user
from trellis.models.model import ToolSpec
from trellis.models.scripted import Scripted
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.tools import catalog
from trellis.tools.mcp import McpServer, McpTools
from trellis.tools.tool import Output, ToolError, Toolset
from trellis.trajectories.log import read

SERVER = Path(__file__).parents[1] / "tools" / "mcp_server.py"
LABEL = f"test-toolsets-{os.getpid()}"


class Notes:
    """A toolset that tells what became of it."""

    name = "notes"

    def __init__(self, *, in_world: bool = True, offers: Sequence[str] = ("notes__add", "notes__fail")) -> None:
        self.in_world = in_world
        self.offers = offers
        self.happened: list[str] = []

    async def discover(self, environment: Environment) -> Sequence[ToolSpec]:
        self.happened.append("discover")
        return [ToolSpec(name, f"{name} it", {"type": "object", "properties": {}}) for name in self.offers]

    async def call(self, environment: Environment, tool: str, arguments: Mapping[str, Any]) -> Output:
        self.happened.append(f"{tool} {dict(arguments)}")
        if tool == "notes__fail":
            raise ToolError("no")
        await environment.exec("echo noted >> notes.txt")
        return Output("noted")

    async def close(self) -> None:
        self.happened.append("close")


async def collect(environment: Environment | None, answer: str) -> Submission:
    assert environment is not None
    return Submission(answer, {"notes.txt": (await environment.exec("cat notes.txt")).stdout})


@asynccontextmanager
async def episode(folder: Path, *toolsets: Toolset, spec: EnvironmentSpec | None = None) -> AsyncIterator[Episode]:
    spec = spec or EnvironmentSpec(kind="local")
    async with Episode.open(
        folder,
        task=Task("t", (Text("do it"),), environment=spec),
        tools=catalog.make(["shell", "submit"]),
        toolsets=toolsets,
        models={"main": Scripted([assistant("done")])},
        seed=1,
        budget=Budget(),
        collect=collect,
        label=LABEL,
        environment=spec,
        header={"episode": "e1"},
    ) as opened:
        yield opened


async def act(opened: Episode, tool: str, **arguments: Any) -> ToolResult:
    return await opened.act(ToolCall(f"{tool} {arguments}", tool, arguments))


async def test_its_tools_are_offered_and_used_like_any_other(tmp_path: Path) -> None:
    notes = Notes()
    async with episode(tmp_path, notes) as opened:
        assert [tool.spec.name for tool in opened.tools] == ["shell", "submit", "notes__add", "notes__fail"]
        await opened.generate([user("go")])
        # Arguments may be called whatever the server likes.
        assert (await act(opened, "notes__add", environment=1, self=2)).text == "noted"
        failed = await act(opened, "notes__fail")
        assert (failed.text, failed.is_error) == ("no", True)
        async with opened.branch("b") as branch:
            assert (await act(branch, "notes__add")).text == "noted"
            assert [tool.spec.name for tool in branch.tools] == [tool.spec.name for tool in opened.tools]
    assert notes.happened == [
        "discover", "notes__add {'environment': 1, 'self': 2}", "notes__fail {}", "notes__add {}", "close",
    ]  # fmt: skip
    kinds = [event["kind"] for event in read(tmp_path / "trajectory.jsonl")]
    assert kinds.index("discover.done") < kinds.index("generate.begun")
    (tools,) = [event for event in read(tmp_path / "trajectory.jsonl") if event["kind"] == "tools"]
    assert [spec["name"] for spec in tools["specs"]][2:] == ["notes__add", "notes__fail"]


async def test_what_is_recorded_is_not_asked_again(tmp_path: Path) -> None:
    async def work(opened: Episode) -> list[Any]:
        reply = await opened.generate([user("go")])
        result = await act(opened, "notes__add")
        return [reply.message, result, [tool.spec for tool in opened.tools]]

    async with episode(tmp_path, Notes()) as opened:
        first = await work(opened)
    again = Notes(offers=["other"])
    impossible = EnvironmentSpec(kind="local", setup="exit 1")
    async with episode(tmp_path, again, spec=impossible) as opened:
        assert await work(opened) == first
    assert again.happened == ["close"]


@pytest.mark.parametrize("in_world", [True, False])
async def test_a_world_is_rebuilt_by_calls_that_act_in_it_alone(tmp_path: Path, in_world: bool) -> None:
    async with episode(tmp_path, Notes(in_world=in_world)) as opened:
        await act(opened, "notes__add")
    again = Notes(in_world=in_world)
    async with episode(tmp_path, again) as opened:
        await act(opened, "notes__add")
        assert (await act(opened, "shell", command="cat notes.txt 2>&1 | wc -l; ls")).text.endswith(
            "notes.txt" if in_world else "1"
        )
    assert again.happened == (["notes__add {}", "close"] if in_world else ["close"])


async def test_worlds_are_closed_also_where_a_toolset_is_not(tmp_path: Path) -> None:
    class Stuck(Notes):
        async def close(self) -> None:
            raise RuntimeError("does not close")

    workdirs: list[Path] = []

    async def work() -> None:
        async with episode(tmp_path, Stuck()) as opened:
            workdirs.append(Path((await act(opened, "shell", command="pwd")).text))
            assert workdirs[0].is_dir()

    with pytest.raises(RuntimeError, match="does not close"):
        await work()
    assert not workdirs[0].exists()


async def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="two tools are called shell; give the server notes another name"):
        async with episode(tmp_path, Notes(offers=["shell"])):
            pass


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed")
async def test_a_real_server_in_an_episode_and_its_resume_without_one(tmp_path: Path) -> None:
    spec = EnvironmentSpec(kind="local", files=(Files(str(SERVER), "server.py"),))
    server = McpServer(name="t", command=("python3", "server.py"))
    async with episode(tmp_path, McpTools(server), spec=spec) as opened:
        result = await act(opened, "t__write", path="notes.txt", text="by the server")
        picture = await act(opened, "t__picture")
    assert not result.is_error
    assert len(picture.parts) == 1
    broken = McpServer(name="t", command=(sys.executable, "-c", "raise SystemExit('never started')"))
    async with episode(tmp_path, McpTools(broken)) as opened:
        assert "t__write" in [tool.spec.name for tool in opened.tools]
        assert await act(opened, "t__write", path="notes.txt", text="by the server") == result
        assert await act(opened, "t__picture") == picture
    async with episode(tmp_path, McpTools(server), spec=spec) as opened:
        await act(opened, "t__write", path="notes.txt", text="by the server")
        await act(opened, "t__picture")
        assert (await opened.finish()).files == {"notes.txt": b"by the server"}
