"""Days on which the disk is full, read-only or damaged: a run says so in one line, and goes on when it can."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.runs.errors import UsageError
from trellis.runs.folder import RunFolder
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.log import Log, read

Trellis = Callable[..., Any]
TALK = '''
import os
from trellis.models.messages import Text, assistant, user
from trellis.models.model import Reply, Usage


class Talker:
    """Asks and asks, and hands in what it was told last."""

    name = "talker"

    async def solve(self, episode):
        messages = [user(*episode.task.prompt)]
        for number in range(40):
            messages += [(await episode.generate(messages)).message, user(f"Go on, {number}.")]
        episode.note("done", said=messages[-2].text[:20])
        await episode.submit(messages[-2].text[:20])


class Long:
    """Answers at length."""

    name = "test/long"

    async def generate(self, messages, *, tools=(), config=None):
        with open(os.environ["TALK_MARKS"], "a") as marks:
            marks.write(f"{config.seed}\\\\n")
        return Reply(assistant(f"{config.seed} {len(messages)} " + "word " * 1000), "stop", Usage(input=1), 0.01)
'''


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "talk.py"
    path.write_text(TALK.replace("\\\\n", "\\n"))
    monkeypatch.setenv("TALK_MARKS", str(tmp_path / "marks"))
    return path


def command(sums: str, talk: Path, *more: str) -> list[str]:
    return [
        "run",
        f"{sums}:Sums:plain",
        "--scaffold",
        f"{talk}:Talker",
        "--model",
        f"{talk}:Long",
        "--limit",
        "1",
        *more,
    ]


def the_run(folder: Path) -> Path:
    (run,) = folder.glob("*/experiment.toml")
    return run.parent


def the_log(run: Path) -> Path:
    (log,) = run.rglob("trajectory.jsonl")
    return log


def result(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.jsonl").read_text().splitlines()[-1])
    return found


def own_mounts(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may mount file systems, which go with it."""
    can = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True, check=False)
    if can.returncode:
        pytest.skip("needs unshare, and namespaces in which file systems can be mounted")
    return subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "bash", *arguments], capture_output=True, text=True, check=False
    )


CLI = (sys.executable, "-m", "trellis.runs.cli")


def test_a_full_disk_stops_the_run_with_one_line_and_it_goes_on_when_there_is_room(
    trellis: Trellis, sums: str, talk: Path, tmp_path: Path
) -> None:
    """All that a run writes lies on a tiny disk here: its logs, results, summary and report."""
    (tmp_path / "full").mkdir()
    ran = own_mounts(
        'mount -t tmpfs -o size=160k tmpfs full && { "${@:1}"; status=$?; cp -a full kept; exit $status; }',
        *CLI, *command(sums, talk, "--runs-dir", "full"),
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    run = the_run(tmp_path / "kept")
    assert "No space left on device" in ran.stderr
    stops = [line for line in ran.stderr.splitlines() if "go on with: trellis resume" in line]
    assert len(stops) == 1
    assert stops[0].startswith("cannot write to ")
    assert "Traceback" not in ran.stderr + ran.stdout
    log = the_log(run)
    done = sum(event["kind"] == "generate.done" for event in read(log))
    asked = (tmp_path / "marks").read_text().splitlines()
    assert 0 < done < 40
    assert done <= len(asked) <= done + 1, "what could not be recorded was not used"
    ran = trellis("resume", str(run))
    assert (ran.status, result(run)["outcome"]) == (0, "completed")
    again = (tmp_path / "marks").read_text().splitlines()
    assert len(again) == len(asked) + 40 - done
    assert trellis("verify", str(run)).status == 0


def test_a_read_only_folder_is_one_line(trellis: Trellis, sums: str, talk: Path, tmp_path: Path) -> None:
    assert trellis(*command(sums, talk)).status == 0
    run = the_run(tmp_path / "runs")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for words in (["resume", str(run)], ["pack", str(run)], ["run", "hle:sample", "--model", f"{talk}:Long"]):
        ran = own_mounts('mount --bind runs runs && mount -o remount,bind,ro runs && "$@"', *CLI, *words)
        assert ran.returncode == 2
        assert [line for line in ran.stderr.splitlines() if "Read-only file system" in line] == ran.stderr.splitlines()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_damaged_log_is_not_gone_on_with(trellis: Trellis, sums: str, talk: Path, tmp_path: Path) -> None:
    assert trellis(*command(sums, talk)).status == 0
    run = the_run(tmp_path / "runs")
    (run / "results.jsonl").unlink()
    log = the_log(run)
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    damaged = bytearray(whole)
    damaged[len(b"".join(lines[:20])) + 200] ^= 2
    log.write_bytes(damaged)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ran = trellis("resume", str(run), "--fsync")
    assert ran.status == 2
    assert ran.complaint.startswith(f"trellis: {log}, line 21: changed or damaged")
    assert "nothing was changed" in ran.complaint
    before.pop(run / "run.lock")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "run.lock"} == before
    log.write_bytes(whole)
    assert trellis("resume", str(run), "--fsync").status == 0
    assert len((tmp_path / "marks").read_text().splitlines()) == 40, "nothing was asked again"


def test_a_log_that_another_process_writes_is_left_alone(
    trellis: Trellis, sums: str, talk: Path, tmp_path: Path
) -> None:
    assert trellis(*command(sums, talk)).status == 0
    run = the_run(tmp_path / "runs")
    other = Log(the_log(run))
    ran = trellis("pack", str(run))
    assert (ran.status, ran.complaint) == (1, f"{the_log(run)} is being written by another process")
    (run / "results.jsonl").unlink()
    ran = trellis("resume", str(run))
    assert ran.status == 1
    assert result(run)["fault"] == f"LogError: {the_log(run)} is being written by another process"
    assert not list(run.rglob("fault.txt")), "one line says it all"
    other.close()
    with RunFolder(run).locked(), pytest.raises(UsageError, match=f"worked on by process {os.getpid()}"):
        RunFolder(run).locked().__enter__()


def test_a_packed_episode_goes_on_and_blobs_that_nobody_needs_go(
    trellis: Trellis, sums: str, talk: Path, tmp_path: Path
) -> None:
    assert trellis(*command(sums, talk, "--max-steps", "30")).status == 0
    run = the_run(tmp_path / "runs")
    first = result(run)
    (run / "results.jsonl").unlink()
    log = the_log(run)
    assert trellis("pack", str(run)).status == 0
    assert not log.exists()
    gone = run / "episodes" / "gone"
    name = Blobs(gone / "blobs", storage=RunFolder(run).storage(fsync=False)).store(b"x" * 50)
    shutil.rmtree(gone)
    assert (run / "blobs" / name).exists()
    assert trellis("resume", str(run)).status == 0
    assert not (run / "blobs" / name).exists()
    assert log.exists()
    again = result(run)
    for clock in ("ended_at", "started_at", "head", "wall_s", "time_s"):
        del first[clock], again[clock]
    assert first == again
    assert len((tmp_path / "marks").read_text().splitlines()) == 30
