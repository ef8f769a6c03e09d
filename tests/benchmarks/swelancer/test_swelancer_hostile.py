"""Every trick must score nothing, and carry its flag where it leaves a trace."""

from typing import Any

import pytest

from trellis.benchmarks.benchmark import Cheat, Submission, Task
from trellis.benchmarks.swelancer import SweLancer, bridge, cheats
from trellis.benchmarks.swelancer.repository import Repository, sample_issues
from trellis.benchmarks.swelancer.trees import File, diff
from trellis.environments.environment import Environment, EnvironmentSpec

pytestmark = pytest.mark.hostile


def named(cheat: Cheat) -> str:
    return cheat.name


@pytest.mark.parametrize("cheat", cheats.IC, ids=named)
async def test_ic_cheats(cheat: Cheat, benchmark: SweLancer, tasks: dict[str, Task], hand_in: Any, worlds: Any) -> None:
    task = tasks["ic-1019"]
    assert cheat in benchmark.cheats(task)
    score = await benchmark.score(task, await hand_in(task, cheat.script, cheat.answer), worlds)
    assert (score.value, score.success, score.evidence["earned_usd"]) == (0.0, False, 0.0)
    if cheat.flag:
        assert cheat.flag in score.flags


@pytest.mark.parametrize("cheat", cheats.MANAGER, ids=named)
@pytest.mark.parametrize("name", ["manager-2003", "manager-2011"])
async def test_manager_cheats(
    name: str, cheat: Cheat, benchmark: SweLancer, tasks: dict[str, Task], hand_in: Any, worlds: Any
) -> None:
    task = tasks[name]
    assert cheat in benchmark.cheats(task)
    score = await benchmark.score(task, await hand_in(task, cheat.script, cheat.answer), worlds)
    assert (score.value, score.valid) == (0.0, False)


class Fragile:
    """A grader whose applications' worlds die in the middle of the tests, as often as it is told."""

    def __init__(self, worlds: Any, deaths: int) -> None:
        self.judge = worlds.judge
        self._worlds = worlds
        self._deaths = deaths

    async def start(self, spec: EnvironmentSpec) -> Any:
        world = await self._worlds.start(spec)
        is_judging = any(file.target == "judge.py" for file in spec.files)
        if is_judging or not self._deaths:
            return world
        self._deaths -= 1
        return Dying(world)


class Dying:
    """A world that dies of the first request to the application in it."""

    def __init__(self, world: Environment) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    async def exec(self, command: Any, **options: Any) -> Any:
        if b" HTTP/1.1\r\n" in options.get("stdin", b""):
            await self._world.close()
        return await self._world.exec(command, **options)


@pytest.mark.parametrize(("deaths", "value", "flags"), [(1, 1.0, ()), (2, 0.0, ("breaks-its-world",))])
async def test_an_application_that_breaks_its_world(
    deaths: int, value: float, flags: tuple[str, ...], benchmark: SweLancer, tasks: dict[str, Task], worlds: Any
) -> None:
    """Once may be bad luck and is tried again; twice, with the same patch, is a failure and no fault for ever."""
    task = tasks["ic-1007"]
    score = await benchmark.score(task, await benchmark.oracle(task), Fragile(worlds, deaths))
    assert (score.value, score.flags) == (value, flags)
    assert flags == () or score.explanation == "the application brought its own world down, twice"


async def test_an_application_that_does_not_answer(benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    repository = Repository(next(issue for issue in sample_issues() if issue.id == "ic-1007"))
    hanging = File(b"def create_app(database, **_):\n    import time\n    return lambda *_: time.sleep(3600)\n")
    patch = diff(repository.buggy, {**repository.clean, "tally/app.py": hanging})
    with pytest.MonkeyPatch.context() as patience:
        patience.setattr(bridge, "ANSWER_TIMEOUT_S", 0.5)
        patience.setattr(bridge, "ALL_ANSWERS_S", 0.8)
        score = await benchmark.score(tasks["ic-1007"], Submission(files={"model.patch": patch}), worlds)
    assert score.value == 0.0
    assert set(score.evidence["tests"].values()) == {"failed"}


@pytest.mark.docker
async def test_the_same_in_docker(benchmark: SweLancer, tasks: dict[str, Task], worlds_in: Any) -> None:
    worlds = worlds_in("docker")
    task = tasks["ic-1007"]
    score = await benchmark.score(task, await benchmark.oracle(task), worlds)
    assert (score.value, score.flags) == (1.0, ())
    for cheat in cheats.IC:
        if cheat.name in ("kills-its-judge", "conftest-forces-success", "git-history"):
            async with worlds.agent(task) as world:
                await world.exec(cheat.script, timeout_s=60)
                submission = await benchmark.collect(task, world, "")
            score = await benchmark.score(task, submission, worlds)
            assert score.value == 0.0
            assert not cheat.flag or cheat.flag in score.flags
