"""What names a trajectory, and a step of it, on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from trellis.models.messages import assistant, user
from trellis.models.model import GenerateConfig, Reply, Usage
from trellis.runs.errors import UsageError
from trellis.runs.finding import episodes, find_step, find_trajectory, open_trajectory
from trellis.runs.folder import RunFolder, safe_name
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.trajectory import Trajectory


def a_run(runs_dir: Path, name: str, *names: tuple[str, str, str, int]) -> RunFolder:
    folder = runs_dir / name
    for benchmark, task, agent, epoch in names:
        episode = folder / "episodes" / safe_name(benchmark) / safe_name(task) / safe_name(agent) / str(epoch)
        Recorder(episode, {"episode": {"task": task}}).close()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text("")
    return RunFolder(folder)


def test_a_trajectory_by_path_folder_and_run(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run = a_run(runs, "20260101-000000-ab12", ("hle.sample", "t/1", "react@offline/x", 1))
    log = (
        run.path
        / "episodes"
        / "hle.sample"
        / safe_name("t/1")
        / safe_name("react@offline/x")
        / "1"
        / "trajectory.jsonl"
    )
    for text in (
        str(log),
        str(log.parent),
        str(run.path),
        "ab12",
        "ab12/t/1",
        "ab12/t/1/react@offline/x/1",
        f"{run.id}/hle.sample/t/1/react@offline/x",
        f"ab12/{log.parent.parts[-3]}/{log.parent.parts[-2]}/1",
    ):
        assert find_trajectory(text, runs) == log, text
    packed = log.with_name("trajectory.jsonl.zst")
    log.rename(packed)
    assert find_trajectory("ab12", runs) == packed


def test_what_is_wrong_is_said_with_what_would_be_right(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    a_run(
        runs,
        "x-ab12",
        ("b", "t1", "react", 1),
        ("b", "t1", "react", 2),
        ("b", "t2", "react", 10),
        ("b", "t2", "react", 9),
    )
    a_run(runs, "y-0000")
    names = [log.parent.name for log in episodes(RunFolder(runs / "x-ab12"))]
    assert names == ["1", "2", "9", "10"]
    for text, said in (
        ("ab12/t1", "2 episodes; say which: x-ab12/t1/react/1, x-ab12/t1/react/2"),
        ("ab12/t3", "no episode t3; it has t1/react/1, t1/react/2"),
        ("0000", "has no episodes yet"),
        ("nowhere", "nowhere is no trajectory .* nowhere is not a run"),
        (str(tmp_path / "gone.jsonl"), "gone.jsonl is no trajectory"),
    ):
        with pytest.raises(UsageError, match=said):
            find_trajectory(text, runs)
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(UsageError, match="line 1: not an event"):
        open_trajectory(str(tmp_path / "notes.txt"), runs)


async def test_a_step_by_number_and_by_branch_and_turn(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {"episode": {"task": "t"}})
    for branch in ("main", "main/node-1", "main"):

        async def reply() -> Reply:
            return Reply(assistant("yes"), "stop", Usage(), 0.0, 0.0)

        await recorder.generate(branch, "main", "m", [user("go")], (), GenerateConfig(), reply)
    recorder.close()
    with Trajectory(tmp_path) as trajectory:
        assert find_step(trajectory, "3").branch == "main"
        assert find_step(trajectory, "main:2").number == 3
        assert find_step(trajectory, "main/node-1:1").number == 2
        for text, said in (
            ("4", "steps 1 to 3"),
            ("main:3", "turns 1 to 2"),
            ("other:1", "its branches are main, main/node-1"),
            ("first", "is no step: give its number"),
        ):
            with pytest.raises(UsageError, match=said):
                find_step(trajectory, text)
