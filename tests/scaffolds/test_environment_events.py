"""What happens in a world unasked stands in the log, on the branch of that world, and has no part in replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec, EnvironmentUnavailable
from trellis.models.messages import Text
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.tools import catalog
from trellis.trajectories.log import read

SPEC = EnvironmentSpec(kind="sandbox", allow=("files.example.test:80",))


@pytest.fixture
async def sandbox() -> None:
    try:
        await (await SPEC.start(label="test/events")).close()
    except EnvironmentUnavailable as reason:
        pytest.skip(f"no sandbox: {reason}")


async def collect(_: Environment | None, answer: str) -> Submission:
    return Submission(answer)


async def look_up(opened: Episode, name: str) -> str:
    return (await opened.use("shell", command=f"getent hosts {name} | cut -d ' ' -f 1")).text


async def run(folder: Path, *, further: bool) -> list[str]:
    async with Episode.open(
        folder,
        task=Task("t", (Text("do it"),), environment=SPEC),
        tools=catalog.make(["shell", "submit"]),
        models={},
        seed=1,
        budget=Budget(),
        collect=collect,
        label="test/events",
        environment=SPEC,
        header={"episode": "e1"},
    ) as opened:
        seen = [await look_up(opened, "one.test"), await look_up(opened, "files.example.test")]
        async with opened.branch("b") as branch:
            seen.append(await look_up(branch, "two.test"))
        if further:
            seen.append(await look_up(opened, "three.test"))
        return seen


def happened(folder: Path) -> list[tuple[str, str, str]]:
    events = [event for event in read(folder / "trajectory.jsonl") if event["kind"].startswith("environment.")]
    return [(event["branch"], event["kind"], event["facts"]["host"]) for event in events]


@pytest.mark.usefixtures("sandbox")
async def test_denials_are_logged_on_the_branch_of_their_world(tmp_path: Path) -> None:
    denied = "environment.network.denied"
    seen = await run(tmp_path, further=False)
    assert seen[1] == "127.66.0.2"
    assert happened(tmp_path) == [("main", denied, "one.test"), ("main/b", denied, "two.test")]

    assert await run(tmp_path, further=False) == seen  # wholly from the log: nothing happens again
    assert happened(tmp_path) == [("main", denied, "one.test"), ("main/b", denied, "two.test")]

    resumed = await run(tmp_path, further=True)  # the world goes on from its snapshot, which came after one.test
    assert resumed[:3] == seen
    assert happened(tmp_path)[2:] == [("main", denied, "three.test")]
