"""`trellis verify`, `pack` and `unpack`, as a user has them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trellis.runs.cli import invoke
from trellis.trajectories.chain import tied
from trellis.trajectories.disk import LOG

Trellis = Callable[..., Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two episodes, which nobody touches."""
    folder = tmp_path_factory.mktemp("runs")
    sums = Path(__file__).parent / "parts" / "sums.py"
    command = ["run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "--limit", "2",
               "--runs-dir", str(folder), "--json"]  # fmt: skip
    assert invoke(command) == 0
    (path,) = folder.glob("*/experiment.toml")
    return path.parent


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "runs" / whole.name)


def logs(run: Path) -> list[Path]:
    return sorted(run.rglob(LOG))


def problems(trellis: Trellis, what: Path) -> list[tuple[str, int | None, str]]:
    ran = trellis("verify", str(what), "--json")
    found = [(problem["file"], problem["line"], problem["what"]) for problem in ran.document["problems"]]
    assert ran.status == int(bool(found))
    assert ran.document["whole"] is not bool(found)
    return found


def test_a_whole_run(trellis: Trellis, run: Path) -> None:
    ran = trellis("verify", run.name)
    assert ran.status == 0
    assert ran.out.startswith("whole: 2 logs, ")
    assert ran.out.endswith("2 compared with results.jsonl\n")
    assert trellis("verify", str(logs(run)[0].parent)).out.startswith("whole: 1 log, ")


def test_any_flipped_byte_of_a_log_is_found_with_its_line(trellis: Trellis, run: Path) -> None:
    log, random = logs(run)[0], Random(2)
    content = log.read_bytes()
    for place in random.sample(range(len(content)), 40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randrange(8)
        log.write_bytes(damaged)
        ((file, line, _),) = problems(trellis, log)
        assert file == str(log)
        assert line == content[:place].count(b"\n") + 1 or (line is None and place < content.index(b"\n"))
    log.write_bytes(content)


def test_a_forged_chain_is_found_by_its_head(trellis: Trellis, run: Path) -> None:
    """Somebody rewrites a whole log, chain and all."""
    log = logs(run)[1]
    forged, chain = b"", b""
    for line in log.read_bytes().splitlines():
        event = {name: value for name, value in json.loads(line).items() if name != "chain"}
        text = json.dumps(event, separators=(",", ":")).replace("What is 1", "What is 7")
        line, chain = tied(chain, text.encode())
        forged += line
    log.write_bytes(forged)
    assert problems(trellis, log) == [], "by itself it is whole"
    ((file, line_number, what),) = problems(trellis, run)
    assert (file, line_number) == (str(log), len(forged.splitlines()))
    assert "it does not end as it did when the episode ended" in what


def test_events_that_were_cut_off_or_added_are_found(trellis: Trellis, run: Path) -> None:
    log = logs(run)[0]
    content = log.read_bytes()
    log.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    ((_, _, what),) = problems(trellis, log)
    assert what == "it is not what was handed in last, as the log tells"
    assert "it does not end as it did" in problems(trellis, run)[-1][2]
    log.write_bytes(content + b'{"seq":')
    ((_, _, what),) = problems(trellis, run)
    assert what == "7 bytes were added"
    log.write_bytes(b"")
    assert problems(trellis, run)[0][2] == "it holds no event"


def test_blobs_submissions_and_results(trellis: Trellis, run: Path) -> None:
    log = logs(run)[0]
    submission = log.parent / "submission.json"
    handed_in = submission.read_text()
    gone = "ab" * 32
    submission.write_text(json.dumps({"answer": "", "files": {"x": gone}}))
    assert problems(trellis, run)[-1] == (str(submission), None, f"blob {gone} is missing")
    submission.write_text("{")
    assert problems(trellis, run) == [(str(submission), None, "not a submission")]
    submission.unlink()
    assert problems(trellis, run) == [(str(submission), None, "it is missing")]
    submission.write_text(json.dumps({"answer": "another", "files": {}}))
    assert problems(trellis, run) == problems(trellis, log) == [
        (str(submission), None, "it is not what was handed in last, as the log tells")
    ]  # fmt: skip
    submission.write_text(handed_in)
    shutil.rmtree(log.parent)
    ((file, line, what),) = problems(trellis, run)
    assert (file, line) == (str(run / "results.jsonl"), None)
    assert f"{log.parent} holds no trajectory" in what
    (run / "results.jsonl").write_text("{}\n")
    assert problems(trellis, run)[0][1:] == (None, "line 1: not a result")


def test_what_was_scored_again_is_verified_too(trellis: Trellis, run: Path) -> None:
    assert trellis("score", str(run)).status == 0
    assert trellis("verify", str(run)).out.startswith("whole: 4 logs, ")
    again = next(run.rglob("scored-1")) / LOG
    again.write_bytes(again.read_bytes().replace(b'"scored":1', b'"scored":2'))
    ((file, line, _),) = problems(trellis, run)
    assert (file, line) == (str(again), 1)


def test_pack_and_unpack(trellis: Trellis, run: Path) -> None:
    before = {log: log.read_bytes() for log in logs(run)}
    ran = trellis("pack", str(run), "--json")
    assert ran.status == 0
    document = ran.document
    assert document["plain_bytes"] == sum(map(len, before.values())) > 2 * document["packed_bytes"]
    assert logs(run) == []
    assert trellis("pack", str(run), "--json").document == document
    assert trellis("verify", str(run)).out.endswith("2 compared with results.jsonl\n")
    assert trellis("reprice", str(run)).status == 0
    assert trellis("score", str(run)).status == 0
    assert trellis("unpack", str(run)).out.startswith("unpacked 4 logs: ")
    assert {log: log.read_bytes() for log in before} == before


def test_a_damaged_pack_is_one_line_and_the_others_are_done(trellis: Trellis, run: Path) -> None:
    log, other = logs(run)
    assert trellis("pack", str(log)).status == 0
    packed = log.with_name(f"{LOG}.zst")
    packed.write_bytes(packed.read_bytes()[:-40])
    assert problems(trellis, run) == [(str(packed), None, "the packed log is cut or damaged")]
    ran = trellis("unpack", str(run))
    assert (ran.status, ran.complaint) == (1, f"{packed}: the packed log is cut or damaged")
    ran = trellis("pack", str(run))
    assert ran.status == 1
    assert not other.exists()


@pytest.mark.parametrize("command", ["verify", "pack", "unpack"])
def test_what_is_not_there_is_wrong_usage(trellis: Trellis, run: Path, command: str) -> None:
    ran = trellis(command, "nothing")
    assert ran.status == 2
    assert "nothing is no trajectory" in ran.complaint
