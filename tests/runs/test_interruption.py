"""Runs that are stopped, cleanly or not, and resumed: the same final results, and nothing recorded is asked again."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Spawn = Callable[..., "subprocess.Popen[str]"]
DEADLINE_S = 60


def experiment(sums: str, folder: Path) -> Path:
    """Questions with and without a world, two agents, two epochs: 16 episodes of 4 or 2 calls, 48 calls."""
    path = folder / "kill.toml"
    path.write_text(
        f"""
epochs = 2
benchmarks = [
  {{name = "{sums}:Sums", split = "plain", options = {{count = 2}}}},
  {{name = "{sums}:Sums", split = "world", options = {{count = 2}}}},
]
environment = {{kind = "local"}}
jobs = 2

[[agents]]
name = "four"
scaffold = "{sums}:Asker"
options = {{votes = 4}}
model = "{sums}:Adder"
model_options = {{delay_s = 0.02, mark = "four"}}

[[agents]]
name = "two"
scaffold = "{sums}:Asker"
options = {{votes = 2}}
model = "{sums}:Adder"
model_options = {{delay_s = 0.02, mark = "two"}}
"""
    )
    return path


def wait_for_marks(marks: Path, count: int, process: "subprocess.Popen[str]") -> None:
    """Until the model was asked `count` times (or the run has ended)."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if marks.exists() and len(marks.read_text().splitlines()) >= count:
            return
        time.sleep(0.002)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def the_run(folder: Path) -> Path:
    (found,) = (folder / "runs").glob("*-kill-*")
    return found


def last_lines(run: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The last word on each episode, without what clocks say."""
    found = {}
    for line in (run / "results.jsonl").read_text().splitlines():
        result = json.loads(line)
        for clock in ("time_s", "wall_s", "started_at", "ended_at", "head"):
            del result[clock]
        found[result["benchmark"], result["task"], result["agent"], result["epoch"]] = result
    return found


def recorded(run: Path) -> set[str]:
    """Agent and seed of the model calls whose answers the logs hold: what the model writes as its mark."""
    calls = set()
    for log in run.rglob("trajectory.jsonl"):
        events = [json.loads(line) for line in log.read_bytes().splitlines() if line.endswith(b"}")]
        done = {event["begun"] for event in events if event["kind"] == "generate.done"}
        begun = [event for event in events if event["kind"] == "generate.begun" and event["seq"] in done]
        calls |= {f"{events[0]['episode']['agent']} {event['config']['seed']}" for event in begun}
    return calls


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    for row in found["agents"]:
        del row["time_s"]
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    sums = str(Path(__file__).parent / "parts" / "sums.py")
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "trellis.runs.cli", "run", str(experiment(sums, folder)), "--json"],
        cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return the_run(folder)


@pytest.mark.kill
@pytest.mark.parametrize("calls", [1, 44])
def test_kill_and_resume(spawn: Spawn, sums: str, tmp_path: Path, uninterrupted: Path, calls: int) -> None:
    marks = tmp_path / "marks"
    process = spawn("run", str(experiment(sums, tmp_path)), SUMS_MARKS=str(marks))
    wait_for_marks(marks, calls, process)
    os.killpg(process.pid, signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    run = the_run(tmp_path)
    answered = recorded(run)
    assert len(answered) < 48

    before = len(marks.read_text().splitlines())
    status, _, err = finish(spawn("resume", str(run), SUMS_MARKS=str(marks)))
    assert status == 0, err
    asked = marks.read_text().splitlines()[before:]
    assert answered.isdisjoint(asked)
    assert len(answered) + len(asked) == 48
    assert last_lines(run) == last_lines(uninterrupted)
    assert summary(run) == summary(uninterrupted)


@pytest.mark.kill
def test_killed_again_and_again(spawn: Spawn, sums: str, tmp_path: Path, uninterrupted: Path) -> None:
    marks = tmp_path / "marks"
    process = spawn("run", str(experiment(sums, tmp_path)), SUMS_MARKS=str(marks))
    for calls in (5, 18, 33):
        wait_for_marks(marks, calls, process)
        os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        process = spawn("resume", str(the_run(tmp_path)), SUMS_MARKS=str(marks))
    status, _, err = finish(process)
    assert status == 0, err
    assert last_lines(the_run(tmp_path)) == last_lines(uninterrupted)


@pytest.mark.kill
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_it_closes_and_can_be_resumed(
    spawn: Spawn, sums: str, tmp_path: Path, uninterrupted: Path, number: signal.Signals
) -> None:
    marks = tmp_path / "marks"
    process = spawn("run", str(experiment(sums, tmp_path)), "--json", SUMS_MARKS=str(marks))
    wait_for_marks(marks, 10, process)
    process.send_signal(number)
    status, out, err = finish(process)
    run = the_run(tmp_path)
    assert status == 130
    assert err.splitlines()[-1] == f"interrupted; go on with: trellis resume {run}"
    assert "Traceback" not in err
    assert json.loads(out)["outcomes"]["cancelled"] == 2
    status, _, err = finish(spawn("resume", str(run)))
    assert status == 0, err
    assert last_lines(run) == last_lines(uninterrupted)


@pytest.mark.kill
def test_interrupted_twice_it_ends_at_once(spawn: Spawn, sums: str, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    process = spawn(
        "run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Stubborn", "--model", f"{sums}:Adder", "--limit", "1",
        SUMS_MARKS=str(marks),
    )  # fmt: skip
    wait_for_marks(marks, 1, process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "stopping: closing what is under way (once more to kill)\n"
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130


@pytest.mark.kill
def test_one_process_at_a_time(spawn: Spawn, sums: str, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    process = spawn("run", str(experiment(sums, tmp_path)), SUMS_MARKS=str(marks))
    wait_for_marks(marks, 3, process)
    status, _, err = finish(spawn("resume", str(the_run(tmp_path))))
    assert status == 2
    assert err == f"trellis: {the_run(tmp_path)} is being worked on by process {process.pid}\n"
    assert finish(process)[0] == 0


def test_a_torn_last_line_of_the_results_is_cut(spawn: Spawn, sums: str, tmp_path: Path, uninterrupted: Path) -> None:
    status, _, err = finish(spawn("run", str(experiment(sums, tmp_path))))
    assert status == 0, err
    results = the_run(tmp_path) / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-100])
    status, _, err = finish(spawn("resume", str(the_run(tmp_path))))
    assert status == 0, err
    assert last_lines(the_run(tmp_path)) == last_lines(uninterrupted)
