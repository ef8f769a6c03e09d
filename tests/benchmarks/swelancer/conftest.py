"""What the tests of SWE-Lancer share: the benchmark, its tasks, and a grader that starts real worlds."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from trellis.benchmarks.benchmark import Submission, Task
from trellis.benchmarks.swelancer import SweLancer
from trellis.environments.environment import Environment, EnvironmentSpec, EnvironmentUnavailable, Kind
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply

SHARED = Path(__file__).resolve().parents[4] / "shared"


class Worlds:
    """A grader whose worlds are of one kind; it also starts agents' worlds."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    async def start(self, spec: EnvironmentSpec) -> Environment:
        try:
            return await dataclasses.replace(spec, kind=self._kind).start(label="tests/swelancer")
        except EnvironmentUnavailable as unavailable:
            pytest.skip(f"no {self._kind} here: {unavailable}")

    async def judge(self, messages: Sequence[Message], *, config: GenerateConfig = GenerateConfig()) -> Reply:
        raise AssertionError("SWE-Lancer asks no judge")

    @asynccontextmanager
    async def agent(self, task: Task) -> AsyncIterator[Environment]:
        """The world that an agent would get."""
        assert task.environment is not None
        world = await self.start(task.environment)
        try:
            yield world
        finally:
            await world.close()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared repositories are made anew, outside the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRELLIS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def benchmark() -> SweLancer:
    """One run of the hidden tests is enough where nothing is flaky."""
    return SweLancer(test_runs=1)


@pytest.fixture(scope="session")
def tasks(benchmark: SweLancer) -> dict[str, Task]:
    return {task.id: task for task in benchmark.tasks("sample")}


@pytest.fixture
def worlds() -> Worlds:
    return Worlds("sandbox")


@pytest.fixture
def worlds_in() -> Callable[[Kind], Worlds]:
    return Worlds


HandIn = Callable[..., Awaitable[Submission]]


@pytest.fixture
def hand_in(benchmark: SweLancer, worlds: Worlds) -> HandIn:
    """What is collected when an agent does nothing but run this script in its world and submit."""

    async def run(task: Task, script: str, answer: str = "") -> Submission:
        async with worlds.agent(task) as world:
            result = await world.exec(script, timeout_s=60)
            assert not result.timed_out
            return await benchmark.collect(task, world, answer)

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the reference data is not here (../shared)")
    return SHARED
