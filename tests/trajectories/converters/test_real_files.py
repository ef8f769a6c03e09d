"""Trajectories that other frameworks recorded: as many steps, calls and messages as are counted in the files."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trellis.trajectories.converters.converter import Imported
from trellis.trajectories.trajectory import Trajectory

DATA = Path(__file__).parents[4] / "shared" / "data" / "trajectories"
FILES = sorted(path for path in DATA.glob("*/*") if path.is_file())

pytestmark = pytest.mark.skipif(not FILES, reason=f"needs recorded trajectories in {DATA}")

Counts = tuple[int, int, int]
"""Steps, tool calls, messages."""


def counted(path: Path) -> Iterator[Counts]:
    """One for each episode."""
    if path.suffix == ".eval":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.startswith("samples/"):
                    yield of_inspect(json.loads(archive.read(name)))
        return
    data = json.loads(path.read_text())
    match path.parent.name:
        case "inspect":
            yield from map(of_inspect, data["samples"])
        case "swe-agent":
            replies = [m for m in data["history"] if m["role"] == "assistant" and not m.get("is_demo")]
            steps = data.get("trajectory", replies)
            yield len(steps), sum(bool(step["action"].strip()) for step in steps), len(data["history"])
        case "mini-swe-agent":
            replies = [m["content"] for m in data if m["role"] == "assistant"]
            yield len(replies), sum(reply.count("```mswea_bash_command") for reply in replies), len(data)
        case "openhands":
            actions = [e for e in data if "action" in e and e["source"] == "agent"]
            called = {e["tool_call_metadata"]["tool_call_id"] for e in actions if "tool_call_metadata" in e}
            yield len(actions), len(called), len(data)
        case other:
            pytest.fail(f"there are trajectories of {other} that nobody counts")


def of_inspect(sample: dict[str, Any]) -> Counts:
    replies = [message for message in sample["messages"] if message["role"] == "assistant"]
    calls = sum(len(reply.get("tool_calls") or ()) for reply in replies)
    return len(replies), calls, len(sample["messages"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_counts_match_those_of_the_file(
    importing: Callable[..., list[Imported]], opened: Callable[[Path], Trajectory], path: Path
) -> None:
    made = importing(path)
    assert [(each.steps, each.tool_calls, each.messages) for each in made] == list(counted(path))
    for each in made:
        trajectory = opened(each.path)
        assert each.format == path.parent.name
        assert len(trajectory) == each.steps
        replies = [step.reply for step in trajectory.steps() if step.reply]
        assert sum(len(reply.tool_calls) for reply in replies) == each.tool_calls


def test_usage_is_that_of_the_file(importing: Callable[..., list[Imported]]) -> None:
    found = {f"{path.parent.name}/{path.name}": importing(path)[0] for path in FILES}
    traj, hands, log = (found.get(name) for name in ("swe-agent/test-repo-i1.traj", "openhands/basic.json",
                                                     "inspect/log_formats.eval"))  # fmt: skip
    if traj is None or hands is None or log is None:
        pytest.skip("needs the files whose usage is known")
    assert (traj.usage.to_json(), traj.cost_usd) == ({"input": 52861, "output": 326}, 0.53839)
    assert hands.usage.to_json() == {"input": 10, "cache_read": 3482, "cache_write": 4640, "output": 1312}
    assert log.usage.to_json() == {"input": 66, "output": 2}
