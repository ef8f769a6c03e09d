"""The log: appended to, read, torn, damaged, refused by the disk; and it never grows in memory."""

import json
import math
import os
import tracemalloc
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trellis.trajectories.log import SCHEMA, Event, Log, LogError, StorageFault, encode, read
from trellis.trajectories.reading import EventFile
from trellis.trajectories.redaction import Redaction


def write(path: Path, events: int) -> bytes:
    log = Log(path)
    log.append("header", "main", 0.0, schema=SCHEMA)
    for number in range(events - 1):
        log.append("note", "main", float(number), text=f"event {number} – ünïcode")
    log.close()
    return path.read_bytes()


def opened(path: Path) -> list[int]:
    """The events that a log holds when it is opened for appending; one more is then appended."""
    with closing(Log(path)) as log:
        seqs = [event["seq"] for event in log.history()]
        kind, data = ("note", {}) if seqs else ("header", {"schema": SCHEMA})
        assert log.append(kind, "main", 9.0, **data) == len(seqs)
    assert [event["seq"] for event in read(path)] == [*seqs, len(seqs)]
    return seqs


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", 5)
    events = list(read(tmp_path / "t.jsonl"))
    assert [event["seq"] for event in events] == [0, 1, 2, 3, 4]
    assert events[3]["text"] == "event 2 – ünïcode"


def test_a_value_is_what_json_says_of_it() -> None:
    """Also where JSON has no word for it, and where what is encoded after it is another's."""
    values: list[Any] = [{}, [], {"a": [1, -0.0, 1e300, True, None, "ü\u2028\ud800\"\n"], "b": {"c": ()}, 7: "seven"},
                         math.nan, -math.inf, 2**70, "text"]  # fmt: skip
    for value in values:
        assert encode(value) == json.dumps(value, separators=(",", ":"))
    circular: dict[str, Any] = {}
    circular["itself"] = circular
    for wrong, said in (({"path": Path()}, "Path is not JSON serializable"), (circular, "recursion")):
        with pytest.raises((TypeError, RecursionError), match=said):
            encode(wrong)
    circular.clear()
    assert encode([circular, circular]) == "[{},{}]"


def test_each_event_is_chained_to_the_one_before_it(tmp_path: Path) -> None:
    before = ""
    for line in write(tmp_path / "t.jsonl", 5).decode().splitlines():
        text, chain = line[:-1].rsplit(',"chain":', 1)
        assert json.loads(chain) == sha256(f"{before}{text}}}".encode()).hexdigest()[:32]
        before = json.loads(chain)
    log = Log(tmp_path / "t.jsonl")
    assert len(list(log.history())) == 5
    assert log.head == before
    log.close()


def test_a_log_torn_at_any_byte_goes_on_from_its_last_whole_event(tmp_path: Path) -> None:
    """Also in the middle of a character of several bytes."""
    path = tmp_path / "t.jsonl"
    whole = write(path, 4)
    third = len(b"".join(whole.splitlines(keepends=True)[:3]))
    for end in range(third, len(whole) + 1):
        path.write_bytes(whole[:end])
        assert len(opened(path)) == (4 if end >= len(whole) - 1 else 3), (
            "an event that lacks nothing but its end is whole"
        )
    for end in range(third):
        path.write_bytes(whole[:end])
        held = sum(size <= end + 1 for size in (len(b"".join(whole.splitlines(True)[:n])) for n in (1, 2, 3)))
        assert len(list(read(path))) <= held
        assert len(opened(path)) == held


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_room_that_was_never_written_is_cut(tmp_path: Path, cut: int) -> None:
    """Zeros at the end, as a loss of power leaves them."""
    path = tmp_path / "t.jsonl"
    whole = write(path, 4)
    path.write_bytes(whole[: len(whole) - cut] + bytes(3000))
    assert [event["seq"] for event in read(path)] == list(range(3 if cut else 4))
    assert opened(path) == list(range(3 if cut > 1 else 4))


def test_what_was_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    whole = write(path, 4)
    path.write_bytes(whole[:-20])
    log = Log(path)
    list(log.history())
    assert log.cut == len(whole.splitlines(True)[-1]) - 20
    log.close()


def test_a_flipped_bit_anywhere_is_found_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    whole = write(path, 8)
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    random = Random(5)
    for place in {*random.sample(range(len(whole)), 250), *ends}:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        line = sum(end < place for end in ends) + 1
        named = f"line {line}:" if line > 1 else "line 1:|schema|not a trajectory"
        with pytest.raises(LogError, match=named), closing(Log(path)) as log:
            log.append("note", "main", 0.0)
        assert path.read_bytes() == damaged
        if place != ends[-1]:
            with pytest.raises(LogError, match=named):
                list(read(path))


def test_lines_taken_out_added_or_swapped_are_found(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = write(path, 6).splitlines(keepends=True)
    other = write(tmp_path / "other.jsonl", 8).splitlines(keepends=True)
    forged = json.loads(lines[2])
    forged["text"] = "something else"
    for changed, what in (
        ([*lines[:1], b"{broken\n", *lines[2:]], "line 2: not an event"),
        ([*lines[:1], *lines[2:]], "line 2: event 2 stands where 1 should"),
        ([*lines[:2], (json.dumps(forged) + "\n").encode(), *lines[3:]], "line 3: changed or damaged"),
        ([*lines[:2], *other[2:]], ""),
    ):
        path.write_bytes(b"".join(changed))
        if what:
            with pytest.raises(LogError, match=what):
                list(read(path))
    assert len(list(read(path))) == 8, "the same events, written by the same code, have the same chain"


def test_a_schema_that_is_not_known_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for schema, what in (
        ("trellis-trajectory/99", "newer version of Trellis"),
        ("else/1", "reads 'trellis-trajectory/2'"),
    ):
        head = {"seq": 0, "at": 0.0, "branch": "main", "kind": "header", "schema": schema}
        path.write_text(json.dumps(head, separators=(",", ":")) + "\n")
        for reads in (lambda: list(read(path)), lambda: Log(path), lambda: EventFile(path)):
            with pytest.raises(LogError, match=f"{schema}.*{what}"):
                reads()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = Log(tmp_path / "t.jsonl")
    with pytest.raises(LogError, match="another process"):
        Log(tmp_path / "t.jsonl")
    first.close()
    Log(tmp_path / "t.jsonl").close()


def test_what_the_disk_refuses_is_the_last_of_a_log(tmp_path: Path, limited_files: None) -> None:
    """And the event that it holds half is cut when there is room again."""
    path = tmp_path / "t.jsonl"
    log = Log(path)
    log.append("header", "main", 0.0, schema=SCHEMA)
    appended = 1
    with pytest.raises(StorageFault, match=r"cannot write to .*t\.jsonl: File too large"):  # noqa: PT012
        while True:
            log.append("note", "main", 0.0, text="x" * 3000)
            appended += 1
    with pytest.raises(StorageFault):
        log.append("note", "main", 0.0, text="short")
    log.close()
    assert not path.read_bytes().endswith(b"\n")
    assert len(list(read(path))) == appended
    log = Log(path)
    assert len(list(log.history())) == appended
    assert log.cut > 0
    log.close()


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
    assert len(list(read(tmp_path / "t.jsonl"))) == 3, "what was redacted is what is chained"


def test_the_memory_of_a_log_does_not_grow_with_it(tmp_path: Path) -> None:
    def peak(events: int) -> int:
        path = tmp_path / f"{events}.jsonl"
        tracemalloc.start()
        log = Log(path)
        log.append("header", "main", 0.0, schema=SCHEMA)
        for number in range(events):
            log.append("note", "main", 0.0, text=f"{number} " + "x" * 200)
        log.close()
        log = Log(path)
        assert sum(1 for _ in log.history()) == events + 1
        log.close()
        assert sum(1 for _ in read(path)) == events + 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert path.stat().st_size > 200 * events
        return most

    peak(10)
    assert peak(8000) < peak(1000) + 100_000


def test_an_event_is_read_without_parsing_what_precedes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "t.jsonl", 300)
    parsed: list[int] = []
    parse = EventFile._parse

    def counted(self: EventFile, line: bytes, seq: int) -> Event:
        parsed.append(seq)
        return parse(self, line, seq)

    monkeypatch.setattr(EventFile, "_parse", counted)
    file = EventFile(tmp_path / "t.jsonl")
    assert len(file) == 300
    assert file.event(250)["text"].startswith("event 249")
    assert parsed == [0, 250], "and the header, which tells the schema"
    os.truncate(tmp_path / "t.jsonl", 0)
    file.close()
