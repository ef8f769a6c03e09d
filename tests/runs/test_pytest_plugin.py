"""The fixture `replay` as somebody's tests have it, who installed Trellis and wrote two lines."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trellis.runs import regression, regression_text  # noqa: F401  (here once, not anew for each run within a test)
from trellis.runs.pytest_plugin import Replay

pytest_plugins = ["pytester"]

OURS = Path(__file__).parents[1] / "regression"
TWO_LINES = """
def test_my_agent(replay):
    replay("trajectories/react.jsonl")
"""
PROMPT = """
def test_my_agent(replay):
    replay("trajectories/react.jsonl", S={"prompt": "Be quick."})
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with a trajectory and the benchmark that it came from."""
    shutil.copy(OURS / "small.py", pytester.path)
    shutil.copytree(OURS / "trajectories", pytester.path / "trajectories")
    options = "-p no:cacheprovider -p no:hypothesispytest"
    pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\naddopts = {options}\n")
    return pytester


def test_two_lines(project: pytest.Pytester) -> None:
    project.makepyfile(TWO_LINES)
    project.runpytest().assert_outcomes(passed=1)


def test_relative_to_the_root_as_well(project: pytest.Pytester) -> None:
    folder = project.mkdir("tests")
    (folder / "test_agent.py").write_text(TWO_LINES)
    project.runpytest().assert_outcomes(passed=1)


def test_a_failure_is_the_difference_and_no_traceback(project: pytest.Pytester) -> None:
    project.makepyfile(PROMPT)
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "trajectories/react.jsonl: changed (0 steps, 0 tool calls, * ms)",
            "step 1 (main:1): the request to the model has changed (event *)",
            "  message 1 of 2, system: changed",
            "    -You are an engineer working alone *",
            "    +Be quick.",
            "if this is meant: pytest --trellis-update",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_update_writes_it_again(project: pytest.Pytester) -> None:
    project.makepyfile(PROMPT)
    result = project.runpytest("--trellis-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*= trellis =*", "wrote trajectories/react.jsonl"])
    assert "Be quick." in (project.path / "trajectories" / "react.jsonl").read_text()
    assert not list(project.path.glob("trajectories/.trellis-*"))
    again = project.runpytest("--trellis-update")
    again.assert_outcomes(passed=1)
    again.stdout.no_fnmatch_line("*wrote*")


def test_what_only_a_live_run_can_tell_is_not_written(project: pytest.Pytester) -> None:
    before = (project.path / "trajectories" / "react.jsonl").read_bytes()
    project.makepyfile("""
        from trellis.scaffolds.react import ReAct

        class Nosy(ReAct):
            async def solve(self, episode):
                await episode.use("shell", command="id")
                await super().solve(episode)

        def test_my_agent(replay):
            replay("trajectories/react.jsonl", scaffold=Nosy)
    """)
    result = project.runpytest("--trellis-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "branch main: now a tool call, where the record goes on with a call of the model (event *)",
            "    argument command: id",
            "not written: this was never answered, and only a live run can tell what comes of it:",
            "  trellis fork trajectories/react.jsonl --at 0",
        ]
    )
    assert (project.path / "trajectories" / "react.jsonl").read_bytes() == before


def test_another_scaffold_by_its_file(project: pytest.Pytester) -> None:
    project.makepyfile(
        agent="from trellis.scaffolds.react import ReAct\nclass Agent(ReAct):\n    prompt: str = 'Mine.'\n",
        test_it="def test_mine(replay):\n    replay('trajectories/react.jsonl', scaffold='agent.py:Agent')\n",
    )
    result = project.runpytest()
    result.stdout.fnmatch_lines(["    +Mine."])


def test_the_programs_own_error_is_shown_where_it_is(project: pytest.Pytester) -> None:
    project.makepyfile("""
        from trellis.scaffolds.react import ReAct

        class Broken(ReAct):
            async def solve(self, episode):
                return episode.nothing

        def test_my_agent(replay):
            replay("trajectories/react.jsonl", scaffold=Broken)
    """)
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*return episode.nothing", "E *AttributeError: 'Episode' object has no *'nothing'"])


def test_what_is_not_there(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(replay):\n    replay('trajectories/none.jsonl')\n")
    result = project.runpytest()
    result.stdout.fnmatch_lines(
        ["there is no trajectory trajectories/none.jsonl in *; make one: trellis replay RUN --recorded --save *"]
    )
    result.stdout.no_fnmatch_line("*During handling*")


def test_in_async_tests_and_without_the_plugin_for_them(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_sync=TWO_LINES,
        test_async=f"import pytest\n@pytest.mark.asyncio\nasync {TWO_LINES.strip()}\n",
    )
    project.runpytest("-p", "asyncio", "-p", "no:randomly").assert_outcomes(passed=2)
    project.runpytest("-p", "no:asyncio", "test_sync.py").assert_outcomes(passed=1)


def test_on_several_processes(project: pytest.Pytester) -> None:
    project.makepyfile(PROMPT)
    result = project.runpytest_subprocess("-n", "1", "--trellis-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["wrote trajectories/react.jsonl"])


def test_who_does_not_use_it_pays_nothing_for_it() -> None:
    script = "import trellis.runs.pytest_plugin, sys; print(*(name for name in sys.modules if 'trellis' in name))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if not name.startswith("__editable__")}
    assert ours == {"trellis", "trellis.runs", "trellis.runs.pytest_plugin"}


def test_what_it_returns(replay: Replay) -> None:
    outcome = replay(OURS / "trajectories" / "react.jsonl")
    assert (outcome.steps, outcome.acts) == (3, 3)
