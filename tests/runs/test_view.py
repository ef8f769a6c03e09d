"""`trellis view`: what it opens, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from trellis.runs.folder import RunFolder
from trellis.runs.library import RunLibrary
from trellis.trajectories.disk import LOG, hold
from trellis.trajectories.viewer.shelf import LibraryShelf

Trellis = Callable[..., Any]
Write = Callable[..., Any]


@pytest.fixture
def run(trellis: Trellis, sums: str) -> RunFolder:
    """A run of two episodes."""
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "oracle", "--limit", "2", "--json")
    folders = [path.parent for path in Path("runs").glob("*/experiment.toml")]
    assert len(folders) == 1, ran
    return RunFolder(folders[0])


def asked(address: str, path: str) -> Any:
    parts = urlsplit(address)
    connection = HTTPConnection("127.0.0.1", parts.port or 0, timeout=20)
    connection.request("GET", f"{parts.path}?{parts.query}")
    answer = connection.getresponse()
    answer.read()
    connection.request("GET", parts.path + path, headers={"Cookie": answer.headers["Set-Cookie"].split(";")[0]})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return document


def test_it_serves_until_it_is_interrupted(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    process = spawn("view", "--runs-dir", "none")
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert asked(address, "api/runs") == []
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    finally:
        process.kill()
        process.communicate()


def test_what_cannot_be_shown_is_one_line(trellis: Trellis, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("no event\n")
    (tmp_path / "empty").mkdir()
    for arguments in (["none"], ["bad.jsonl"], ["empty"], ["bad.jsonl", "--html", "x.html"], ["--port", "99999"]):
        ran = trellis("view", *arguments)
        assert ran.status == 2, arguments
        assert ran.out == ""
        if arguments[0] != "--port":
            assert ran.complaint
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = trellis("view", "--port", port)
        assert (ran.status, ran.complaint.count(port)) == (2, 1)


async def test_a_trajectory_as_one_page(trellis: Trellis, write_log: Write, tmp_path: Path, hostile: str) -> None:
    log = await write_log(tmp_path / "e", [("I look.", [("shell", {"command": hostile}, hostile)])], task=hostile)
    ran = trellis("view", str(log), "--html", "page.html")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("wrote page.html (0.")
    assert "<script>alert" not in Path("page.html").read_text("utf-8")
    for target in ("none/page.html", "e"):
        ran = trellis("view", str(log), "--html", target)
        assert (ran.status, ran.complaint.startswith("--html") or "--html" in ran.complaint) == (2, True)
    assert sorted(os.listdir()) == ["e", "page.html"]  # noqa: PTH208


def test_a_run_and_its_episodes(run: RunFolder) -> None:
    library = RunLibrary(run.path.parent, run=run)
    shelf = LibraryShelf(library)
    assert shelf.answer("first", {}) == {"view": "run", "run": run.id}
    assert [row["run"] for row in shelf.answer("runs", {})] == [run.id]
    found = shelf.answer("run", {"run": run.id})
    assert len(found["episodes"]) == 2
    for row in found["episodes"]:
        overview = shelf.answer("episode", {"e": row["episode"]})
        assert overview["header"]["episode"]["task"] == row["task"]
        assert overview["result"]["outcome"] == row["outcome"]
        assert overview["live"] is False
    log = library.log(found["episodes"][0]["episode"])
    alone = RunLibrary(run.path.parent, log=log)
    assert alone.first() == {"view": "episode", "episode": found["episodes"][0]["episode"], "run": run.id}
    assert alone.log(str(alone.first()["episode"])) == log
    shelf.close()


def test_episodes_that_were_imported_together_are_a_run(run: RunFolder) -> None:
    (run.path / "experiment.toml").unlink()
    found = RunLibrary(run.path.parent, run=RunFolder(run.path)).run(run.id)
    assert (found["experiment"], len(found["episodes"])) == ("", 2)


def test_no_name_leads_out_of_the_runs(run: RunFolder) -> None:
    library = RunLibrary(run.path.parent)
    name = str(library.run(run.id)["episodes"][0]["episode"])
    parts = name.split("/")
    all_but_last, all_but_first = "/".join(parts[:-1]), "/".join(parts[1:])
    outside = (f"{all_but_last}/..", f"../{all_but_first}", f"./{all_but_first}", f"{name}\0", f"{all_but_last}/")
    for bad in ("", "-", run.id, all_but_last, f"{name}/x", f"{name}/", *outside):
        with pytest.raises(KeyError):
            library.log(bad)
        assert library.result(bad) is None
    for bad in ("", ".", "..", "/", f"../{run.path.parent.name}/{run.id}", "none", "a\0b", str(run.path)):
        with pytest.raises(KeyError):
            library.run(bad)


def test_results_are_read_again_when_they_change_and_a_retried_episode_is_live(run: RunFolder) -> None:
    library = RunLibrary(run.path.parent, run=run)
    ended = library.run(run.id)["episodes"]
    named = [(None, row["benchmark"], row["task"]) for row in ended]  # not as folders spell it
    name = str(ended[0]["episode"])
    result = next(r for r in run.results().values() if name.endswith(r.path.removeprefix("episodes/")))
    file = run.path / "results.jsonl"
    run.record(_with(result, outcome="fault", score=None))
    found = library.result(name)
    assert found is not None
    assert found["outcome"] == "fault"
    fd = hold(library.log(name))
    assert (library.result(name), library.live(name)) == (None, True)
    os.close(fd)
    assert library.live(name) is False
    whole = file.read_bytes()
    file.write_bytes(b"damaged\n")
    assert library.result(name) is None
    with pytest.raises(KeyError):
        library.run(run.id)
    file.unlink()
    assert library.result(name) is None
    rows = library.run(run.id)["episodes"]
    assert [(row["outcome"], row["benchmark"], row["task"]) for row in rows] == named
    file.write_bytes(whole)
    assert library.result(name) is not None
    with run.locked():
        file.unlink()
        assert library.live(name) is True


def test_what_was_set_aside_is_opened_as_it_is(run: RunFolder) -> None:
    log = RunLibrary(run.path.parent, run=run).log(
        str(RunLibrary(run.path.parent).run(run.id)["episodes"][0]["episode"])
    )
    old = log.with_name("trajectory.1.jsonl")
    old.write_bytes(log.read_bytes())
    library = RunLibrary(run.path.parent, log=old)
    assert library.first()["episode"] == "-"
    assert library.log("-") == old
    assert library.result("-") is None
    assert log.name == LOG


def _with(result: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(result, **changes)
