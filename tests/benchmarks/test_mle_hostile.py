"""Every trick of an agent, tried in a real isolated world: each scores nothing, and nothing secret is in reach."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from trellis.benchmarks.benchmark import Cheat, Score
from trellis.benchmarks.mle import Mle
from trellis.benchmarks.mle.cheats import CHEATS
from trellis.environments.environment import Environment, EnvironmentSpec, EnvironmentUnavailable
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply
from trellis.scaffolds.task import Task

pytestmark = pytest.mark.hostile


class NoGrader:
    async def start(self, spec: EnvironmentSpec) -> Environment:
        raise AssertionError("scoring a table needs no world")

    async def judge(self, messages: Sequence[Message], *, config: GenerateConfig = GenerateConfig()) -> Reply:
        raise AssertionError("scoring a table asks no judge")


@pytest.fixture(scope="module")
def mle(tmp_path_factory: pytest.TempPathFactory) -> Mle:
    return Mle(data_dir=tmp_path_factory.mktemp("mle"))


@pytest.fixture(scope="module")
def tasks(mle: Mle) -> dict[str, Task]:
    return {task.id: task for task in mle.tasks("sample")}


async def start(task: Task) -> Environment:
    assert task.environment is not None
    try:
        return await replace(task.environment, kind="sandbox", preload=()).start(label="test/mle")
    except EnvironmentUnavailable as reason:
        pytest.skip(f"no sandbox: {reason}")


@pytest.fixture
async def world(tasks: dict[str, Task]) -> AsyncIterator[Environment]:
    environment = await start(tasks["noisy-digits"])
    yield environment
    await environment.close()


async def attempt(mle: Mle, task: Task, cheat: Cheat, world: Environment) -> Score:
    await world.exec(cheat.script, timeout_s=100)
    return await mle.score(task, await mle.collect(task, world, cheat.answer), NoGrader())


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
async def test_a_cheat_scores_nothing(mle: Mle, tasks: dict[str, Task], world: Environment, cheat: Cheat) -> None:
    result = await attempt(mle, tasks["noisy-digits"], cheat, world)
    assert (result.value, result.success, result.valid) == (0.0, False, False)
    assert result.flags == ((cheat.flag,) if cheat.flag else ())
    assert not Path("/tmp/trellis-mle-unpickled").exists()


@pytest.mark.parametrize(
    ("name", "worth"), [("look-up-the-bundled-data", 0.9), ("run-the-preparer-again", 1.0), ("find-the-answers", 1.0)]
)
async def test_the_worst_cheats_are_real_where_nothing_is_hidden(
    mle: Mle, tasks: dict[str, Task], name: str, worth: float
) -> None:
    """The control: without a boundary these tricks pay, so it is the boundary that stops them."""
    task = tasks["noisy-digits"]
    assert task.environment is not None
    (cheat,) = (cheat for cheat in CHEATS if cheat.name == name)
    script = cheat.script.replace("find /", f"find {mle.competition(task.id).data_dir}")
    world = await replace(task.environment, kind="local", preload=()).start(label="test/mle")
    try:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        code = Path(sys.modules[Mle.__module__].__file__ or "").parent
        await world.exec(script, timeout_s=100, env={"PATH": path, "PYTHONPATH": str(code)})
        result = await mle.score(task, await mle.collect(task, world, ""), NoGrader())
    finally:
        await world.close()
    assert result.value >= worth


@pytest.mark.parametrize(
    "id", ["clinic-no-shows", "disease-progression", "pump-faults", "repair-bills", "tasting-panel"]
)
async def test_broken_tables_score_nothing_with_every_metric(mle: Mle, tasks: dict[str, Task], id: str) -> None:
    world = await start(tasks[id])
    try:
        for cheat in CHEATS:
            if "sample_submission" in cheat.script and "python3" in cheat.script and "sklearn" not in cheat.script:
                result = await attempt(mle, tasks[id], cheat, world)
                assert (result.value, result.success, result.valid) == (0.0, False, False), cheat.name
    finally:
        await world.close()


async def test_the_originals_and_the_answers_are_not_in_the_world(mle: Mle, world: Environment) -> None:
    answers = mle.competition("noisy-digits").answers
    assert (await world.exec(["test", "-e", str(answers)])).exit_code == 1
    assert (await world.exec("python3 -c 'from sklearn.datasets import load_digits; load_digits()'")).exit_code == 1
    assert (await world.exec("python3 -c 'import trellis.benchmarks.mle'")).exit_code == 1
    honest = await world.exec("python3 -c 'import sklearn.svm, pandas, numpy, sklearn.datasets'", timeout_s=100)
    assert honest.ok, honest.text
