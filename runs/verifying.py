"""Are the trajectories of a run what was written, and its results about them?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trellis.runs import results
from trellis.runs.folder import RunFolder
from trellis.runs.results import Result
from trellis.trajectories.disk import LOG, log_in, plain
from trellis.trajectories.verifying import Problem, Verified, Verifier


@dataclass
class Report:
    """What was found."""

    trajectories: int = 0
    events: int = 0
    blobs: int = 0
    unchained: int = 0
    """Trajectories of a schema without a chain."""
    heads: int = 0
    """Trajectories that end as the run's results say."""
    problems: list[Problem] = field(default_factory=list)

    def add(self, found: Verified) -> None:
        self.trajectories += 1
        self.events += found.events
        self.blobs += found.blobs
        self.unchained += not found.chained
        self.problems += found.problems


def verify(logs: Sequence[Path], run: RunFolder | None, told: Callable[[int], None]) -> Report:
    """Verify these trajectories, and with a run what its results say of them. `told` hears how many are done."""
    report, verifier = Report(), Verifier()
    ended: dict[Path, Result] = {}
    if run is not None:
        path = run.path / "results.jsonl"
        try:
            ended = {run.path / result.path: result for result in results.read(path).values()}
        except ValueError as error:
            report.problems.append(Problem(path, None, str(error).removeprefix(f"{path}, ")))
        for folder, result in ended.items():
            if result.final and log_in(folder) is None:
                report.problems.append(Problem(path, None, f"{result.key} has ended, and {folder} holds no trajectory"))
    for number, log in enumerate(logs, 1):
        found = verifier.verify(log)
        end = ended.get(log.parent) if plain(log).name == LOG else None
        whole = all(problem.file != log for problem in found.problems)
        if end is not None and end.final and end.head and whole:
            report.heads += 1
            if found.head != end.head:
                what = f"it does not end as it did when the episode ended: results.jsonl has the head {end.head}"
                found.problems.append(Problem(log, found.events, what))
            elif found.torn:
                found.problems.append(Problem(log, found.events + 1, f"{found.torn} bytes were added"))
            if not (submission := log.with_name("submission.json")).exists():
                found.problems.append(Problem(submission, None, "it is missing"))
        report.add(found)
        told(number)
    return report
