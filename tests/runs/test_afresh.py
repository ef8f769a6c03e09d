"""Worlds that cannot be rebuilt: a fault that says where, no vain retries, and a way on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.runs.folder import set_aside

DRIFTING = str(Path(__file__).parent / "parts" / "drifting.py")


def test_a_divergence_is_a_fault_that_no_retry_mends_and_the_episode_can_begin_anew(
    trellis: Callable[..., Any], sums: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFT", str(tmp_path / "drift"))
    ran = trellis(
        "run", f"{sums}:Sums:world", "--scaffold", f"{DRIFTING}:Drifting", "--model", f"{sums}:Adder", "--env", "local",
        "--limit", "1", "--retries", "5", "--json",
    )  # fmt: skip
    assert ran.status == 1
    run = Path(ran.document["run"])
    said = (
        "Diverged: the world of branch main cannot be rebuilt: call 1 of it (shell, main-use-1) was answered "
        "differently this time; line 1 was '1' and is '2'. Begin the episode anew with: trellis resume RUN --afresh"
    )
    (fault,) = results(run)
    assert (fault["fault"], fault["retries"]) == (said, 1)  # the broken world was worth one, the divergence none
    assert not list(run.rglob("fault.txt"))

    assert trellis("resume", str(run)).status == 1
    assert results(run)[-1]["fault"] == said.replace("is '2'", "is '3'")
    (log,) = run.rglob("trajectory.jsonl")
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(e["recorded"], e["now"]) for e in told if e["kind"] == "divergence"] == [("1", "2"), ("1", "3")]

    ran = trellis("resume", str(run), "--afresh", "--json")
    assert ran.status == 0
    last = results(run)[-1]
    assert (last["outcome"], last["score"]["value"], last["steps"]) == ("completed", 1.0, 1)
    assert [json.loads(line) for line in log.with_name("trajectory.1.jsonl").read_text().splitlines()][
        : len(told)
    ] == told
    assert trellis("resume", str(run), "--afresh").status == 0  # nothing is left to begin anew
    assert not log.with_name("trajectory.2.jsonl").exists()


@pytest.mark.parametrize("why", ["the scaffold was changed", "a blob is damaged"])
def test_an_episode_that_is_stuck_says_so_and_begins_anew_once(
    trellis: Callable[..., Any], sums: str, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setenv("SAYS", "something long " * 4000)
    monkeypatch.setenv("BREAKS", "1")
    ran = trellis(
        "run", f"{sums}:Sums:plain", "--scaffold", f"{DRIFTING}:Changing", "--model", f"{sums}:Adder", "--limit", "1",
        "--retries", "0", "--json",
    )  # fmt: skip
    run = Path(ran.document["run"])
    assert (results(run)[-1]["fault"], results(run)[-1]["stuck"]) == ("EnvironmentFault: the world broke", False)
    (log,) = run.rglob("trajectory.jsonl")
    monkeypatch.delenv("BREAKS")
    if why == "a blob is damaged":
        for blob in run.rglob("blobs/*"):
            blob.write_bytes(b"x")
    else:
        monkeypatch.setenv("SAYS", "something else")
    assert trellis("resume", str(run)).status == 1
    last = results(run)[-1]
    said = "BlobDamaged: " if why == "a blob is damaged" else "ReplayMismatch: "
    assert last["fault"].startswith(said)
    assert last["fault"].endswith(". Begin the episode anew with: trellis resume RUN --afresh")
    assert last["stuck"]

    ran = trellis("resume", str(run), "--afresh")
    assert ran.status == 0, ran.err
    assert (results(run)[-1]["outcome"], results(run)[-1]["score"]["value"]) == ("completed", 1.0)
    assert log.with_name("trajectory.1.jsonl").exists()


def test_what_was_begun_anew_and_interrupted_goes_on_whatever_is_said_again(
    trellis: Callable[..., Any], sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYS", "one thing")
    monkeypatch.setenv("BREAKS", "1")
    ran = trellis(
        "run", f"{sums}:Sums:plain", "--scaffold", f"{DRIFTING}:Changing", "--model", f"{sums}:Adder", "--limit", "1",
        "--retries", "0", "--json",
    )  # fmt: skip
    run = Path(ran.document["run"])
    monkeypatch.setenv("SAYS", "another")
    assert trellis("resume", str(run)).status == 1
    for _ in range(2):
        assert trellis("resume", str(run), "--afresh").status == 1  # the world breaks still
    (log,) = run.rglob("trajectory.jsonl")
    assert log.with_name("trajectory.1.jsonl").exists()
    assert not log.with_name("trajectory.2.jsonl").exists()


def test_a_log_set_aside_replaces_none(tmp_path: Path) -> None:
    log = tmp_path / "trajectory.jsonl"
    for name in (log.name, "trajectory.2.jsonl", "trajectory.10.jsonl.zst"):  # somebody has removed the others
        (tmp_path / name).write_text(name)
    set_aside(log)
    assert (tmp_path / "trajectory.11.jsonl").read_text() == log.name


def results(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
