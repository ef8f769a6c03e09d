import json
import os
from pathlib import Path

import pytest

from trellis.trajectories.log import SCHEMA, Log, LogError, read
from trellis.trajectories.redaction import Redaction


def write(path: Path, events: int) -> None:
    log = Log(path)
    log.append("header", "main", 0.0, schema=SCHEMA)
    for number in range(events - 1):
        log.append("note", "main", float(number), text=f"event {number}")
    log.close()


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", 5)
    events = list(read(tmp_path / "t.jsonl"))
    assert [event["seq"] for event in events] == [0, 1, 2, 3, 4]
    assert events[3]["text"] == "event 2"


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_cut_on_opening_and_the_log_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "t.jsonl"
    write(path, 4)
    last = len(path.read_bytes().splitlines(keepends=True)[-1])
    os.truncate(path, path.stat().st_size - min(cut, last - 1))
    log = Log(path)
    assert len(log.history) == 3
    assert log.append("note", "main", 9.0) == 3
    log.close()
    assert [event["seq"] for event in read(path)] == [0, 1, 2, 3]


def test_damage_before_the_last_line_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{broken\n" + lines[2])
    with pytest.raises(LogError, match="line 2"):
        Log(path)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(LogError, match="line 2: event 2 stands where 1 should"):
        list(read(path))


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"seq": 0, "kind": "header", "schema": "trellis-trajectory/99"}) + "\n")
    with pytest.raises(LogError, match="trellis-trajectory/99"):
        list(read(path))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = Log(tmp_path / "t.jsonl")
    with pytest.raises(LogError, match="another process"):
        Log(tmp_path / "t.jsonl")
    first.close()


def test_secrets_never_reach_the_disk(tmp_path: Path) -> None:
    redact = Redaction({"OPENAI_API_KEY": "sk-very-secret-value", "HOME": "/home/me", "PATH_TOKEN": "/not/a/secret"})
    log = Log(tmp_path / "t.jsonl", redact)
    log.append("header", "main", 0.0, schema=SCHEMA)
    log.append("note", "main", 0.0, text="key sk-very-secret-value", headers={"Authorization": "Bearer abcdefghijk"})
    log.append("note", "main", 0.0, text="curl -H 'x-api-key: 1234567890abc' /not/a/secret")
    log.close()
    text = (tmp_path / "t.jsonl").read_text()
    assert "sk-very-secret-value" not in text
    assert "abcdefghijk" not in text
    assert "1234567890abc" not in text
    assert "/not/a/secret" in text
    assert redact(text) == text
