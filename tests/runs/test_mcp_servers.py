"""MCP servers as an experiment and the command line name them."""

import importlib.util
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Trellis = Callable[..., "Ran"]  # type: ignore[name-defined]  # noqa: F821

SERVER = Path(__file__).parents[1] / "tools" / "mcp_server.py"
COMMAND = f"{shlex.quote(sys.executable)} {shlex.quote(str(SERVER))}"
SCAFFOLD = """
from typing import ClassVar
from trellis.scaffolds.scaffold import ScaffoldOptions

class Echoes(ScaffoldOptions):
    name: ClassVar[str] = "echoes"

    async def solve(self, episode):
        said = await episode.use("t__echo", text=str(episode.task.facts["i"] + 10))
        await episode.use("submit", answer=said.text)
"""


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed")
def test_a_run_with_a_server(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    (tmp_path / "echoes.py").write_text(SCAFFOLD)
    arguments = ("run", f"{sums}:Sums:world", "--scaffold", "./echoes.py:Echoes", "--env", "local", "--limit", "2")
    ran = trellis(*arguments, "--mcp", f"t={COMMAND}", "--json")
    assert (ran.status, ran.document["metrics"]["score"]) == (0, 1.0), ran.err
    run = Path(ran.document["run"])
    (log, _) = sorted(run.glob("episodes/**/trajectory.jsonl"))
    kinds = [json.loads(line)["kind"] for line in log.read_text().splitlines()]
    assert kinds[1:3] == ["discover.begun", "discover.done"]
    again = trellis("run", str(run / "experiment.toml"), "--json")
    assert (again.status, again.document["metrics"]["score"]) == (0, 1.0), again.err


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed")
def test_a_server_that_does_not_start_is_a_fault(trellis: Trellis, sums: str) -> None:
    ran = trellis(
        "run", f"{sums}:Sums:world", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "--env", "local",
        "--limit", "1", "--retries", "0", "--mcp", "t=no-such-program", "--json",
    )  # fmt: skip
    assert ran.status == 1
    (line,) = (Path(ran.document["run"]) / "results.jsonl").read_text().splitlines()
    assert "the MCP server t cannot be used: did not start: exit code 127" in json.loads(line)["fault"]


def test_nothing_is_asked_for_agents_that_use_no_tools(trellis: Trellis, sums: str) -> None:
    ran = trellis(
        "run", f"{sums}:Sums:world", "--scaffold", "noop", "--scaffold", "oracle", "--env", "local", "--limit", "1",
        "--retries", "0", "--mcp", "t=no-such-program", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    for log in Path(ran.document["run"]).glob("episodes/**/trajectory.jsonl"):
        assert "discover" not in log.read_text()


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed")
def test_a_server_needs_a_world_to_start_in(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    asker = ("--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder")
    ran = trellis("run", f"{sums}:Sums:plain", *asker, "--mcp", "t=server")
    assert ran.status == 2
    assert ran.complaint == (
        "trellis: MCP server t is started in the world of a task, and Sums:plain sum-0 has none: "
        'say where = "host" in an experiment file, or leave it out'
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["nothing"], "--mcp nothing: expected NAME=COMMAND or NAME=URL"),
        (["t="], "--mcp t=: expected NAME=COMMAND or NAME=URL"),
        (["t='a"], "--mcp t='a: No closing quotation"),
        (["t=a", "t=b"], "2 MCP servers of agent 'noop' are called 't'"),
        (["a b=c"], "mcp.0.name: 'a b' is no name: letters, digits, _ and -, 32 at most, and no _ or - in front"),
        (["t=http://"], "mcp.0.url: 'http://' is no URL: it begins with http:// or https:// and names a host"),
    ],
)
def test_wrong_flags(trellis: Trellis, sums: str, given: list[str], complaint: str) -> None:
    flags = [part for text in given for part in ("--mcp", text)]
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", *flags)
    assert ran.status == 2
    assert complaint in ran.complaint


def test_a_wrong_setting_in_a_file(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    experiment = tmp_path / "e.toml"
    experiment.write_text(
        f'benchmarks = ["{sums}:Sums:plain"]\n[[agents]]\nscaffold = "noop"\n'
        '[[agents.mcp]]\nname = "t"\ncommand = ["a"]\ntimeouts = 3\n[[mcp]]\nname = "u"\n'
    )
    ran = trellis("run", str(experiment))
    assert ran.status == 2
    assert "agents.0.mcp.0.timeouts: no such setting; did you mean" in ran.complaint
    assert "mcp.0: server 'u' needs a command or a url, one of the two" in ran.complaint
    assert "line 7: agents" in ran.complaint
    ran = trellis("run", str(experiment), "--mcp", "t=x")
    assert "--mcp goes with a benchmark; an experiment file says this itself" in ran.complaint
