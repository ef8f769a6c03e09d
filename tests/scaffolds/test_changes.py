"""Which files a tool call changed stands in the trajectory, and can be read as differences."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.environments.guest import following
from trellis.models.messages import Text, ToolCall
from trellis.scaffolds.approval import Decision
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.tools import catalog
from trellis.tools.tool import tool
from trellis.trajectories.files import FileDiff, Files
from trellis.trajectories.recorded import Recorded
from trellis.trajectories.source import Source
from trellis.trajectories.trajectory import Act, Trajectory

SPEC = EnvironmentSpec(kind="local", setup="printf 'one\ntwo\n' > given.txt")


@tool
async def noop(environment: Environment) -> str:
    """Do nothing."""
    return "done"


async def collect(environment: Environment | None, answer: str) -> Submission:
    return Submission(answer)


@asynccontextmanager
async def episode(folder: Path, spec: EnvironmentSpec = SPEC, **more: object) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=Task("t", (Text("do it"),), environment=spec),
        tools=[*catalog.make(["shell", "edit"]), noop],
        models={},
        seed=1,
        budget=Budget(),
        collect=collect,
        label="test/changes",
        environment=spec,
        header={"episode": "e1"},
        **more,  # type: ignore[arg-type]
    ) as opened:
        yield opened


async def shell(opened: Episode, command: str) -> str:
    return (await opened.use("shell", command=command)).text


def acts(folder: Path) -> tuple[Trajectory, list[Act]]:
    trajectory = Trajectory(folder)
    return trajectory, [trajectory.act(seq) for branch in trajectory.branches.values() for seq in branch.acts]


def diffs(folder: Path) -> list[list[FileDiff]]:
    trajectory, all_acts = acts(folder)
    with trajectory:
        files = Files(trajectory)
        in_order = [list(files.of(act)) for act in all_acts]
        backwards = [list(Files(trajectory).of(act)) for act in reversed(all_acts)]
        assert in_order == backwards[::-1]
        return in_order


def lines(diff: FileDiff) -> list[str]:
    """What was taken out and put in."""
    return [line for line in diff.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]


async def test_what_a_call_changed_is_recorded_with_its_result(tmp_path: Path) -> None:
    async with episode(tmp_path) as opened:
        await shell(opened, "echo three >> given.txt; printf '\\0' > binary")
        await opened.use("noop")
        await shell(opened, "sed -i s/two/2/ given.txt; rm binary")
        await shell(opened, "chmod +x given.txt")
    first, nothing, second, third = diffs(tmp_path)
    assert [(diff.path, diff.kind) for diff in first] == [("binary", "added"), ("given.txt", "modified")]
    assert lines(first[1]) == ["+three"]
    assert "not recorded" in first[0].said
    assert nothing == []
    assert [(diff.path, diff.kind) for diff in second] == [("binary", "deleted"), ("given.txt", "modified")]
    assert lines(second[1]) == ["-two", "+2"]
    assert [diff.said for diff in third] == ["mode 755"]
    trajectory, (act, idle, *_) = acts(tmp_path)
    with trajectory:
        assert idle.changes == []
        change = act.changes[1]
        assert change["sha256"] == hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()
        assert trajectory.blobs.load(change["sha256"]) == b"one\ntwo\nthree\n"


async def test_branches_know_what_the_branch_they_come_from_wrote(tmp_path: Path) -> None:
    """Also where nothing was kept of what was there at the beginning, and calls were denied before."""

    async def approve(call: ToolCall, branch: str) -> Decision:
        return Decision("deny" not in call.arguments["command"], "no", "rule")

    async with episode(tmp_path, approve=approve) as opened:
        await shell(opened, "echo deny")
        await shell(opened, "echo a > f")
        before = await opened.snapshot()
        await shell(opened, "echo b > f")
        async with opened.branch("x", at=before) as branch:
            await shell(branch, "echo c > f")
            async with branch.branch("y") as inner:
                await shell(inner, "echo d > f")
    denied, a, b, c, d = diffs(tmp_path)
    assert [lines(diff) for act in (denied, a, b, c, d) for diff in act] == [
        ["+a"], ["-a", "+b"], ["-a", "+c"], ["-c", "+d"],
    ]  # fmt: skip
    trajectory, (*_, last) = acts(tmp_path)
    with trajectory:
        bare = {name: value for name, value in last.changes[0].items() if name != "before"}
        object.__setattr__(last, "changes", [bare])
        assert [lines(diff) for diff in Files(trajectory).of(last)] == [["-c", "+d"]]


async def test_what_a_world_is_rebuilt_with_is_no_change_of_the_next_call(tmp_path: Path) -> None:
    async def work(opened: Episode) -> None:
        await shell(opened, "echo one > a.txt")

    async with episode(tmp_path) as opened:
        await work(opened)
    async with episode(tmp_path) as opened:
        await work(opened)
        await shell(opened, "echo two > b.txt")
    assert [[diff.path for diff in act] for act in diffs(tmp_path)] == [["a.txt"], ["b.txt"]]


async def test_a_fork_has_the_files_of_what_it_goes_on_from(tmp_path: Path) -> None:
    async with episode(tmp_path / "a") as opened:
        await shell(opened, "echo three >> given.txt")
    with Trajectory(tmp_path / "a") as trajectory:
        source = Source(Recorded(trajectory.file.events(range(1, len(trajectory.file))), trajectory.blobs.load))
        async with episode(tmp_path / "b", source=source) as opened:
            await shell(opened, "echo three >> given.txt")
    assert [lines(diff) for act in diffs(tmp_path / "b") for diff in act] == [["+three"]]


async def test_it_can_be_switched_off_and_ends_where_it_cannot_be_done(tmp_path: Path) -> None:
    async with episode(tmp_path / "off", record_changes=False) as opened:
        await shell(opened, "echo x > f")
    trajectory, (act,) = acts(tmp_path / "off")
    assert "changes" not in trajectory.file.event(trajectory._ended[act.seq])["answer"]
    trajectory.close()
    async with episode(tmp_path / "deep") as opened:
        await shell(opened, f"mkdir -p {'d/' * (following.DEPTH + 1)}")
        await shell(opened, "echo x > f")
    with Trajectory(tmp_path / "deep") as trajectory:
        notes = [entry.kind for entry in trajectory.file.entries if entry.kind.startswith("environment.")]
        assert notes == ["environment.changes.not_followed"]


async def test_secrets_in_files_do_not_reach_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sesame-open-1234")
    async with episode(tmp_path) as opened:
        await shell(opened, "printf 'key = sesame-%s\\n' open-1234 > config")
    ((diff,),) = diffs(tmp_path)
    assert (diff.path, diff.after) == ("config", None)
    assert not any(b"sesame-open-1234" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
