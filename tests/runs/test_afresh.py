"""Worlds that cannot be rebuilt: a fault that says where, no vain retries, and a way on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def results(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
