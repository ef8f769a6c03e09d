"""Grades the patch of an IC task end to end, in two fresh worlds that share nothing.

In one world the application is rebuilt from our own data, the patch is applied, and the application is started. In the
other, the hidden tests run in a process that the first world cannot reach: the tests' HTTP requests are carried over by
the host (`bridge`). A patch can therefore decide what its application answers, and nothing else: it cannot read the
tests, write a verdict, or kill the one who gives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trellis.benchmarks.benchmark import Grader, GraderFault
from trellis.benchmarks.swelancer.hidden_tests import HiddenTests, WorldBroke
from trellis.benchmarks.swelancer.official import N_TEST_RUNS, Runs, grade_runs
from trellis.benchmarks.swelancer.repository import SAMPLE, VARIABLES, Repository
from trellis.benchmarks.swelancer.trees import PatchError, touched
from trellis.benchmarks.swelancer.worktree import protected
from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, Files

BREAKS_ITS_WORLD = "breaks-its-world"
_NOT_RUN = Runs(-1, 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the hidden tests said about a patch."""

    passed: bool
    explanation: str
    runs: Runs = _NOT_RUN
    outcomes: Mapping[str, str] = field(default_factory=dict)
    """Of the last run, by test: passed, failed, skipped or missing."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    applied: bool = True
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grading:
    """One patch to be graded; the hidden tests are run until they pass, at most `test_runs` times."""

    repository: Repository
    patch: bytes
    grader: Grader
    test_runs: int = N_TEST_RUNS

    async def verdict(self) -> Verdict:
        """
        Raises:
            GraderFault, EnvironmentFault: the machinery broke; never because of what the patch does.
        """
        try:
            paths = await asyncio.to_thread(touched, self.patch)
        except PatchError as error:
            return Verdict(False, f"this is not a patch: {error}", applied=False)
        decided = protected(paths, self.repository.buggy)
        flags = tuple(sorted(set(decided.values())))
        judge = await self.grader.start(_judging_world(self.repository))
        try:
            for _ in range(2):  # a world may die by itself once; with the same patch in it twice, the patch did it
                with suppress(WorldBroke):
                    world = await self.grader.start(self.repository.bare_environment)
                    return await self._verdict_in(world, judge, tuple(decided), flags)
        finally:
            await judge.close()
        said = "the application brought its own world down, twice"
        return Verdict(False, said, flags=tuple(sorted({*flags, BREAKS_ITS_WORLD})))

    async def _verdict_in(
        self, world: Environment, judge: Environment, decided: tuple[str, ...], flags: tuple[str, ...]
    ) -> Verdict:
        try:
            if problem := await self._install(world, decided):
                return Verdict(False, f"the patch does not apply: {problem}", applied=False, flags=flags)
            tests = HiddenTests(world, judge, self.repository.folder.tests)
            runs = await grade_runs(tests.run, self.test_runs)
            return Verdict(runs.passed, tests.explain(runs), runs, tests.outcomes, tests.reasons, flags=flags)
        finally:
            with suppress(EnvironmentFault):
                await world.close()

    async def _install(self, world: Environment, protected_paths: tuple[str, ...]) -> str:
        """Apply the patch, then put back what it must not decide about. The reason if it does not apply."""
        result = await world.exec(["git", "apply", "--binary", "--whitespace=nowarn", "-"], stdin=self.patch)
        if result.exit_code == 127:
            raise GraderFault("there is no git in the grading world")
        if not result.ok:
            return result.text.strip()[-500:]
        for path in protected_paths:
            original = self.repository.buggy.get(path)
            if original is None:
                await world.exec(["rm", "-f", "--", path])
            else:
                await world.write_file(path, original.data)
        return ""


def _judging_world(repository: Repository) -> EnvironmentSpec:
    files = (
        Files(str(Path(__file__).with_name("judge.py")), "judge.py"),
        Files(str(SAMPLE / "judge" / "conftest.py"), "conftest.py"),
        Files(str(repository.folder.tests), "test.py"),
    )
    return EnvironmentSpec(files=files, env=VARIABLES)
