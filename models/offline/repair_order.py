"""Orders to the script `repair_world`, which is sent into the world as text, and what it reports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from trellis.models.offline.repair_source import Mutation

_MARK = "repair-world: "
TEST_TIMEOUT_S = 60.0
BATCH_TIME_S = 120.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What the visible tests showed."""

    passed: int
    failed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Message and frames of each failing test."""
    counts: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    error: str = ""

    @property
    def frames(self) -> frozenset[tuple[str, int]]:
        return frozenset((path, line) for test in self.failed.values() for path, line in test["frames"])


@dataclass(frozen=True, slots=True)
class Tests:
    """What is run: the visible tests, and a reproduction made from the report where there is one."""

    command: str
    extra_path: str = ""
    extra_text: str = ""

    def to_json(self) -> dict[str, Any]:
        arguments = pytest_arguments(self.command)
        if arguments is not None and self.extra_path:
            arguments.append(self.extra_path)
        return {
            "tests": {"command": self.command, "pytest": arguments},
            "files": {self.extra_path: self.extra_text} if self.extra_path else {},
            "timeout_s": TEST_TIMEOUT_S,
        }


def survey_script(tests: Tests) -> str:
    return _script({"do": "survey", **tests.to_json()})


def attempt_script(tests: Tests, candidates: Sequence[Sequence[Mutation]], failing: Collection[str]) -> str:
    """Try candidates, each a list of edits, up to the first with which all tests pass; `failing` are the tests that
    fail without."""
    order = {
        "do": "attempt",
        **tests.to_json(),
        "time_s": BATCH_TIME_S,
        "failing": sorted(failing),
        "candidates": [[_edit(m) for m in _bottom_up(edits)] for edits in candidates],
    }
    return _script(order)


def read_survey(result: str) -> Survey | None:
    """None where the script did not come to its end."""
    found = _report(result)
    if found is None:
        return None
    counts = {
        (path, line): (failing, passing)
        for path, runs in found["lines"].items()
        for line, failing, passing in _lines(runs)
    }
    return Survey(found["passed"], found["failed"], counts, found["error"])


def read_attempts(result: str) -> list[frozenset[str] | None]:
    """The tests that failed with each candidate that was tried; None where the tests could not be run."""
    found = _report(result) or {"tests": [], "results": []}
    return [None if r is None else frozenset(found["tests"][i] for i in r) for r in found["results"]]


def pytest_arguments(command: str) -> list[str] | None:
    """What pytest is given by a test command; None where it runs something else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    return words[words.index("pytest") + 1 :] if "pytest" in words else None


def _script(order: Mapping[str, Any]) -> str:
    return f"{_source()}\n\nmain(json.loads({json.dumps(order)!r}))\n"


@cache
def _source() -> str:
    return resources.files("trellis.models.offline").joinpath("repair_world.py").read_text("utf-8")


def _report(result: str) -> dict[str, Any] | None:
    for line in result.splitlines():
        if line.startswith(_MARK):
            try:
                found: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            except ValueError:
                return None
            return found
    return None


def _lines(runs: str) -> list[tuple[int, int, int]]:
    found = []
    for run in runs.split():
        where, _, seen = run.partition(":")
        first, _, last = where.partition("-")
        failing, _, passing = seen.partition(",")
        found += [(line, int(failing), int(passing)) for line in range(int(first), int(last or first) + 1)]
    return found


def _edit(mutation: Mutation) -> dict[str, Any]:
    return {"path": mutation.path, "first": mutation.first, "last": mutation.last, "after": mutation.after}


def _bottom_up(edits: Sequence[Mutation]) -> list[Mutation]:
    """So that no edit moves the lines of the next."""
    return sorted(edits, key=lambda m: (m.path, -m.first))
