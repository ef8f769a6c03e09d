"""The tasks in a real browser: each can be done, and neither nothing nor any trick scores."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from trellis.benchmarks.benchmark import Cheat, Grader, Score
from trellis.benchmarks.browser import Browser
from trellis.benchmarks.browser.exercises import ALL, BY_ID
from trellis.benchmarks.browser.walk import Walk
from trellis.environments.environment import Environment, EnvironmentSpec, EnvironmentUnavailable, Kind
from trellis.models.model import GenerateConfig, Reply
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.tools import catalog
from trellis.trajectories.log import read

BROWSER = Browser()
TASKS = {task.id: task for task in BROWSER.tasks("sample")}
BROKEN = (
    b"\xff\n",
    b"[]\n",
    b'{"kind": "deed"}\n',
    b'{"kind": "page", "path": []}\n',
    b'{"kind": "data", "path": "x", "query": 3}\n',
    b'{"kind": "page", "path": "\\ud800"}\n',
    b"{" * 100_000,
    b"x" * (5 << 20),
)
"""Journals that no server wrote."""


class Nothing:
    """A grader of which nothing may be asked."""

    async def start(self, spec: EnvironmentSpec) -> Environment:
        raise AssertionError("the journal is judged without a world")

    async def judge(self, messages: object, *, config: GenerateConfig = GenerateConfig()) -> Reply:
        raise AssertionError("no model judges here")


async def score(task: Task, submission: Submission) -> Score:
    grader: Grader = Nothing()
    return await BROWSER.score(task, submission, grader)


def need_chromium() -> None:
    if not Path("/usr/lib/chromium/chromium").exists() and shutil.which("chromium") is None:
        pytest.skip("no Chromium here: install the package chromium")


def spec_of(task: Task, kind: Kind) -> EnvironmentSpec:
    assert task.environment is not None
    return replace(task.environment, kind=kind)


@asynccontextmanager
async def world_of(task: Task, kind: Kind = "sandbox") -> AsyncIterator[Environment]:
    try:
        world = await spec_of(task, kind).start(label="test/browser-tasks")
    except EnvironmentUnavailable as reason:
        pytest.skip(f"no {kind}: {reason}")
    try:
        yield world
    finally:
        await world.close()


# --- the ends of the scale -------------------------------------------------------------------------------------------


def test_there_are_thirty_and_they_are_always_the_same() -> None:
    assert len(TASKS) == 30
    assert [task.id for task in BROWSER.tasks("sample")] == [exercise.id for exercise in ALL]
    assert all(task.tools == ("browser", "submit") for task in TASKS.values())
    with pytest.raises(ValueError, match="unknown split 'test' of browser; known: sample"):
        BROWSER.tasks("test")


def test_nothing_secret_is_in_a_task() -> None:
    for exercise in ALL:
        if exercise.answer:
            assert exercise.answer.lower() not in TASKS[exercise.id].text.lower()


async def test_the_oracle_scores_full_marks_and_nothing_scores_nothing() -> None:
    for task in TASKS.values():
        gold = await score(task, await BROWSER.oracle(task))
        assert (gold.value, gold.success, gold.flags) == (1.0, True, ()), (task.id, gold.explanation)
        empty = await score(task, Submission())
        assert (empty.value, empty.success, empty.valid) == (0.0, False, False)


async def test_a_gold_journal_with_anything_wrong_in_it_scores_nothing() -> None:
    for exercise in ALL:
        task = TASKS[exercise.id]
        gold = await BROWSER.oracle(task)
        lines = gold.files["journal.jsonl"].splitlines(keepends=True)
        for number, line in enumerate(lines[1:], 1):
            less = b"".join(lines[:number] + lines[number + 1 :])
            assert not (await score(task, Submission(gold.answer, {"journal.jsonl": less}))).success, (task.id, line)
        if exercise.deeds and exercise.deeds[0].rule == "once":
            twice = b"".join([*lines, *(line for line in lines if b'"deed"' in line)])
            assert not (await score(task, Submission(gold.answer, {"journal.jsonl": twice}))).success, task.id
        if exercise.answer:
            for wrong in ("", "7", f"{exercise.answer} or so", f"not {exercise.answer}"):
                assert not (await score(task, Submission(wrong, gold.files))).success, (task.id, wrong)
        for broken in BROKEN:
            result = await score(task, Submission(gold.answer, {"journal.jsonl": broken}))
            assert (result.value, result.flags) == (0.0, ("forged-journal",))


@pytest.mark.slow
@pytest.mark.hostile
@pytest.mark.parametrize("task_id", [exercise.id for exercise in ALL])
async def test_every_cheat_scores_nothing_and_carries_its_flag(task_id: str) -> None:
    task = TASKS[task_id]

    async def attempt(cheat: Cheat) -> Submission:
        if not cheat.script:
            return await BROWSER.collect(task, None, cheat.answer)
        async with world_of(task) as world:
            ran = await world.exec(cheat.script, timeout_s=60)
            assert ran.ok, (cheat.name, ran.stderr)
            return await BROWSER.collect(task, world, cheat.answer)

    for cheat in BROWSER.cheats(task):
        result = await score(task, await attempt(cheat))
        assert (result.value, result.success) == (0.0, False), cheat.name
        assert not cheat.flag or cheat.flag in result.flags, cheat.name


# --- in the browser --------------------------------------------------------------------------------------------------


async def walk(task: Task, kind: Kind, folder: Path) -> Score:
    """The scripted walk, through an episode as a run makes it."""
    need_chromium()
    async with Episode.open(
        folder,
        task=task,
        tools=catalog.make(task.tools),
        models={},
        seed=1,
        budget=Budget(),
        collect=partial(BROWSER.collect, task),
        label="test/browser-tasks",
        environment=spec_of(task, kind),
        header={"episode": task.id},
    ) as episode:
        await Walk().solve(episode)
        submission = await episode.finish()
    return await score(task, submission)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("task_id", [exercise.id for exercise in ALL])
async def test_each_task_can_be_done_in_a_sandbox(task_id: str, tmp_path: Path) -> None:
    result = await walk(TASKS[task_id], "sandbox", tmp_path)
    assert (result.value, result.flags) == (1.0, ()), result.explanation


@pytest.mark.browser
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("task_id", ["login", "canvas", "checkout", "consent", "statement", "reorder"])
async def test_each_kind_of_task_can_be_done_in_a_container(task_id: str, tmp_path: Path) -> None:
    result = await walk(TASKS[task_id], "docker", tmp_path)
    assert (result.value, result.flags) == (1.0, ()), result.explanation


@pytest.mark.browser
@pytest.mark.slow
async def test_a_fork_goes_on_from_the_journal() -> None:
    need_chromium()
    task = TASKS["canvas"]
    (tool,) = catalog.make(["browser"])
    async with world_of(task) as world:
        await tool(world, action="navigate", url="http://127.0.0.1:8000/canvas/")
        await tool(world, action="click", x=131, y=211)
        fork = await world.fork()
        try:
            output = await tool(fork, action="navigate", url="http://127.0.0.1:8000/canvas/")
            assert "1 of 4 burst, 0 missed" in output.text
            await tool(fork, action="click", x=351, y=231)
            assert (await BROWSER.collect(task, fork, "")).files != (await BROWSER.collect(task, world, "")).files
        finally:
            await fork.close()


@pytest.mark.browser
@pytest.mark.slow
async def test_a_lost_world_is_made_again_with_the_same_references_and_texts(tmp_path: Path) -> None:
    need_chromium()
    task = TASKS["calendar"]

    async def go(episode: Episode, *, more: bool) -> str:
        await episode.use("browser", action="navigate", url="http://127.0.0.1:8000/calendar/")
        shown = (await episode.use("browser", action="click", ref="e1")).text
        return (await episode.use("browser", action="click", ref="e3")).text if more else shown

    texts = []
    for more in (False, True):
        async with Episode.open(
            tmp_path, task=task, tools=catalog.make(task.tools), models={}, seed=1, budget=Budget(),
            collect=partial(BROWSER.collect, task), label="test/browser-tasks",
            environment=spec_of(task, "sandbox"), header={"episode": "lost"},
        ) as episode:  # fmt: skip
            texts.append(await go(episode, more=more))
    assert "November 2026" in texts[0]
    assert texts[1].startswith("clicked dialog 'Calendar' [e3]")  # as in the world that is gone
    assert "Snapshot 3" in texts[1]
    assert "divergence" not in [event["kind"] for event in read(tmp_path / "trajectory.jsonl")]


def test_every_exercise_has_a_page_and_a_walk() -> None:
    pages = {path.stem for path in (Path(__file__).parents[3] / "benchmarks/browser/site/pages").glob("*.html")}
    assert pages == set(BY_ID)
    assert all(exercise.walk for exercise in ALL)
    assert all(exercise.answer or exercise.deeds for exercise in ALL)
