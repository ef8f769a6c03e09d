"""The fixture `replay`, for regression tests without tokens; known to pytest wherever Trellis is installed.

    def test_my_agent(replay):
        replay("trajectories/my_agent.jsonl")

Only pytest is imported here: whoever does not use the fixture pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from trellis.runs.regression import Replayed

_PROPERTY = "trellis-update"
_ONLY_LIVE = """\
not written: this was never answered, and only a live run can tell what comes of it:
  trellis fork {path} --at {at}
  trellis replay RUN --recorded --save {path}"""


class Replay(Protocol):
    def __call__(
        self,
        path: str | Path,
        *,
        scaffold: str | type | None = None,
        S: Mapping[str, Any] | None = None,
    ) -> Replayed:
        """Run the program as it is now over a recorded trajectory; the test fails where it asks for something else.

        `path` and the file of a `scaffold` ("agent.py:Agent"; also a class) are relative to the test's file, or to
        pytest's root. `S` are options on top of the recorded ones.
        """
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("trellis").addoption(
        "--trellis-update",
        action="store_true",
        help="Write trajectories again whose program has changed, as far as the recorded answers go.",
    )


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> Replay:
    """Run the program of a recorded trajectory as it is now; the test fails where it asks for something else."""

    def run(path: str | Path, *, scaffold: str | type | None = None, S: Mapping[str, Any] | None = None) -> Replayed:
        from trellis.runs.errors import UsageError
        from trellis.runs.regression import Variant, rerecord
        from trellis.runs.regression import replay as replay_recorded
        from trellis.runs.regression_text import lines
        from trellis.trajectories.disk import log_in

        __tracebackhide__ = True
        try:
            found = _find(request, path)
            folder = _folder_of(request, scaffold.partition(":")[0]) if isinstance(scaffold, str) else None
            outcome = replay_recorded(found, variant := Variant(scaffold, S, folder))
            advice = "if this is meant: pytest --trellis-update"
            if outcome.change is not None and request.config.getoption("--trellis-update"):
                outcome = rerecord(found, log := log_in(found) or found, variant)
                if outcome.change is None:
                    request.node.user_properties.append((_PROPERTY, _shown(request, log)))
                else:
                    advice = _ONLY_LIVE.format(path=_shown(request, found), at=outcome.change.same_until)
            problem = "\n".join([*lines(outcome, _shown(request, found)), advice]) if outcome.change else ""
        except UsageError as error:
            problem = str(error)
        if problem:
            pytest.fail(problem, pytrace=False)
        return outcome

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    written = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    if written:
        terminalreporter.section("trellis")
        for path in sorted(set(written)):
            terminalreporter.write_line(f"wrote {path}")


def _shown(request: pytest.FixtureRequest, path: Path) -> str:
    root = request.config.rootpath
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _find(request: pytest.FixtureRequest, path: str | Path) -> Path:
    from trellis.runs.errors import UsageError

    if not (found := _folder_of(request, path) / path).exists():
        places = " or ".join(str(folder) for folder in _folders(request))
        raise UsageError(f"there is no trajectory {path} in {places}; make one: "
                         f"trellis replay RUN --recorded --save {path}")  # fmt: skip
    return found


def _folder_of(request: pytest.FixtureRequest, path: str | Path) -> Path:
    """The first folder that has a file of this name."""
    there = list(_folders(request))
    return next((folder for folder in there if (folder / path).exists()), there[0])


def _folders(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield request.path.parent
    if request.config.rootpath != request.path.parent:
        yield request.config.rootpath
