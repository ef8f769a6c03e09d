"""SWE-Lancer (Miserendino et al. 2025, arXiv:2502.12115) as a benchmark: freelance work, each task with its price."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from trellis.benchmarks.benchmark import Cheat, Grader, Score, Submission, Task
from trellis.benchmarks.swelancer import cheats, official
from trellis.benchmarks.swelancer.dataset import Issue
from trellis.benchmarks.swelancer.grading import Grading
from trellis.benchmarks.swelancer.prompts import DECISION, prompt
from trellis.benchmarks.swelancer.repository import TEST_COMMAND, Repository, sample_issues
from trellis.benchmarks.swelancer.trees import PatchError
from trellis.benchmarks.swelancer.worktree import collect_patch
from trellis.environments.environment import Environment
from trellis.models.messages import Text

PATCH = "model.patch"
SHOWN_PATCH_CHARS = 4000
LARGEST_DECISION_BYTES = 1 << 16


class SweLancer:
    """IC tasks: fix a bug, graded end to end. Manager tasks: choose the right proposal. All or nothing, for a price.

    Args:
        test_runs: how often the hidden tests of an IC task are run until they pass.
    """

    name: str = "swelancer"
    version: str = "1"
    judge: str | None = None

    def __init__(self, test_runs: int = official.N_TEST_RUNS) -> None:
        if test_runs < 1:
            raise ValueError(f"test_runs={test_runs}: must be at least 1")
        self._test_runs = test_runs

    def splits(self) -> Sequence[str]:
        return ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        if split not in self.splits():
            raise ValueError(f"swelancer has no split {split!r}; it has {', '.join(self.splits())}")
        return [self._task(repository) for repository in self._repositories.values()]

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        if environment is None:
            return Submission(answer)
        repository = self._repositories[task.id]
        if repository.issue.variant == "swe_manager":
            files = {DECISION: await _decision(environment)}
        else:
            try:
                files = {PATCH: await collect_patch(environment, repository.buggy)}
            except PatchError:
                files = {}
        return Submission(answer, {name: data for name, data in files.items() if data})

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        repository = self._repositories[task.id]
        if repository.issue.variant == "swe_manager":
            return _score_decision(repository.issue, submission.files.get(DECISION))
        return await self._score_patch(repository, submission.files.get(PATCH, b""), grader)

    async def oracle(self, task: Task) -> Submission:
        repository = self._repositories[task.id]
        if repository.issue.variant == "swe_manager":
            decision = {"selected_proposal_id": repository.issue.right_proposal}
            return Submission(files={DECISION: json.dumps(decision).encode()})
        return Submission(files={PATCH: await asyncio.to_thread(lambda: repository.gold)})

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return cheats.MANAGER if self._repositories[task.id].issue.variant == "swe_manager" else cheats.IC

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """`earned_usd`, `available_usd` and their ratio `earn_rate`; `ic_accuracy` and `manager_accuracy`: the shares
        that were solved, where there are such tasks."""
        earned = sum(float(score.evidence["earned_usd"]) for score in scores)
        available = sum(float(score.evidence["available_usd"]) for score in scores)
        out = {"earned_usd": earned, "available_usd": available}
        if available:
            out["earn_rate"] = earned / available
        for name, variant in (("ic_accuracy", "ic_swe"), ("manager_accuracy", "swe_manager")):
            group = [score.success for score in scores if score.evidence["variant"] == variant]
            if group:
                out[name] = sum(group) / len(group)
        return out

    async def _score_patch(self, repository: Repository, patch: bytes, grader: Grader) -> Score:
        if not patch.strip():
            return _score(repository.issue, False, "nothing was changed", valid=False)
        verdict = await Grading(repository, patch, grader, self._test_runs).verdict()
        return _score(
            repository.issue,
            verdict.passed,
            verdict.explanation,
            valid=verdict.applied,
            flags=verdict.flags,
            model_patch=patch.decode("utf-8", "replace")[:SHOWN_PATCH_CHARS],
            tests=dict(verdict.outcomes),
            reasons=dict(verdict.reasons),
            pytest_exit=verdict.runs.exit_code,
            test_runs=verdict.runs.count,
        )

    @cached_property
    def _repositories(self) -> Mapping[str, Repository]:
        return {issue.id: Repository(issue) for issue in sample_issues()}

    def _task(self, repository: Repository) -> Task:
        issue = repository.issue
        return Task(
            issue.id,
            (Text(prompt(issue, TEST_COMMAND)),),
            environment=repository.environment,
            facts={
                "kind": "repository",
                "test_command": TEST_COMMAND,
                "price_usd": issue.price_usd,
                "variant": issue.variant,
            },
        )


async def _decision(environment: Environment) -> bytes:
    try:
        return (await environment.read_file(DECISION))[:LARGEST_DECISION_BYTES]
    except OSError:
        return b""


def _score_decision(issue: Issue, decision: bytes | None) -> Score:
    selected = None if decision is None else official.choice(decision)
    right = selected == issue.right_proposal
    if decision is None:
        said = f"{DECISION} was not written"
    elif selected is None:
        said = f"{DECISION} selects no proposal: it must be a JSON object whose first value is a number"
    else:
        said = f"proposal {selected} was selected, which is {'right' if right else 'wrong'}"
    return _score(issue, right, said, valid=selected is not None, selected_proposal_id=selected)


def _score(
    issue: Issue, solved: bool, explanation: str, *, valid: bool, flags: tuple[str, ...] = (), **evidence: Any
) -> Score:
    evidence = {
        "variant": issue.variant,
        "earned_usd": issue.price_usd if solved else 0.0,
        "available_usd": issue.price_usd,
        **evidence,
    }
    return Score(float(solved), solved, valid=valid, explanation=explanation, evidence=evidence, flags=flags)
