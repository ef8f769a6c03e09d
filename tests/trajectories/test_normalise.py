"""What is forgiven when a call is made again, and what is not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.trajectories.normalise import compare

FORGIVEN = [
    ("Thu Nov 26 02:16:20 UTC 2026", "Fri Nov 27 11:00:01 UTC 2026", "", "time"),
    ("2026-11-26T02:16:20.123Z done", "2025-01-01T00:00:00Z done", "", "time"),
    ("-rw-r--r-- 1 agent agent 5 Nov 26 02:16 a", "-rw-r--r-- 1 agent agent 5 Dec  1 12:00 a", "ls -l", "time"),
    ("[02:16:20] started", "[12:00:01] started", "", "time"),
    ("1795670106", "1795670111", "date +%s", "time"),
    ("1795670106188160187", "1795670111680300921", "date +%s%N", "time"),
    ("1795670106.2388954", "1795670111.84", "python3 -c 'import time; print(time.time())'", "time"),
    ("process id 4242", "process id 17", "", "pid"),
    ("3 passed in 0.12s", "3 passed in 1.05s", "pytest", "duration"),
    ("real\t0m0.012s", "real\t1m3.300s", "time ls", "duration"),
    ("took 3 s", "took 12 s", "", "duration"),
    ("<object at 0x7f3c5d2a10>", "<object at 0x7e11aa0030>", "", "address"),
    ("[1] 4242", "[1] 77", "sleep 9 &", "pid"),
    ("server has pid 4242", "server has pid 17", "", "pid"),
    ("4242", "17", "echo $$", "pid"),
    ("/tmp/tmp.Ab3dE5gH1j", "/tmp/tmp.xyzXYZ0123", "mktemp", "temporary path"),
    ("/tmp/Ab3dE5gH1j", "/tmp/k4LmnoPqrs", "mktemp -d /tmp/XXXXXXXXXX", "temporary path"),
    ("in /tmp/tmpab12cd34/x.py", "in /tmp/tmpzz98yy76/x.py", "", "temporary path"),
    ("/tmp/pytest-of-root/pytest-3/test_a0", "/tmp/pytest-of-root/pytest-12/test_a0", "", "temporary path"),
    ("http://127.0.0.1:43121/", "http://127.0.0.1:51200/", "", "port"),
    ("b\na\nc", "a\nb\nc", "find . -type f", "order"),
    ("b\na", "a\nb", "ls -U", "order"),
]
COUNTS = [
    ("accuracy 0.93", "accuracy 0.94", "python train.py"),
    ("12 passed in 0.10s", "13 passed in 0.10s", "pytest"),
    ("exit code 1", "exit code 2", ""),
    ("a.txt", "b.txt", "ls"),
    ("b\na", "a\nb", "cat names"),
    ("b\na", "a\na", "find ."),
    ("4242", "17", "echo 4242"),
    ("4242\n93", "17\n94", "echo $$; wc -l < x"),
    ("4242", "17\n94", "echo $$; wc -l < x"),
    ("1795670106", "1795670111", "cat total"),
    ("1795670106\n1795670200", "1795670111\n1795670300", "date +%s; cat total"),
    ("process 100 rows", "process 101 rows", ""),
    ("the 1980s", "the 1990s", ""),
    ("/workspace/tmp.txt", "/workspace/tmq.txt", ""),
    ("/tmp/submission", "/tmp/experiment", ""),
    ("0x10", "0x11", ""),
    ("127.0.0.1:80", "127.0.0.1:81", ""),
    ("won 3:21", "won 3:22", ""),
    ("line\n", "line", ""),
    ("", "x", ""),
]


@pytest.mark.parametrize(("recorded", "now", "call", "name"), FORGIVEN)
def test_what_no_program_has_in_its_hand_is_forgiven_and_said(recorded: str, now: str, call: str, name: str) -> None:
    found = compare(recorded, now, call)
    assert found.equal
    assert not found.exact
    assert [forgiven.name for forgiven in found.forgiven] == [name]
    before, after = found.forgiven[0].examples[0]
    assert before in recorded
    assert after in now
    assert compare(now, recorded, call).equal


@pytest.mark.parametrize(("recorded", "now", "call"), COUNTS)
def test_everything_else_counts(recorded: str, now: str, call: str) -> None:
    assert not compare(recorded, now, call).equal
    assert not compare(now, recorded, call).equal


def test_the_first_line_that_differs_is_shown_as_it_was() -> None:
    found = compare("at 10:00:00\nscore 1\nend", "at 11:00:00\nscore 2\nend")
    assert found.difference is not None
    assert (found.difference.line, found.difference.recorded, found.difference.now) == (2, "score 1", "score 2")
    assert [forgiven.name for forgiven in found.forgiven] == ["time"]


TEXTS = st.text(st.sampled_from("0123456789 :.-/abtmpxs\n"), max_size=60)


@given(TEXTS, TEXTS)
def test_it_is_symmetric_and_nothing_differs_from_itself(one: str, other: str) -> None:
    assert compare(one, one).exact
    assert compare(one, other).equal == compare(other, one).equal


@given(st.text(st.sampled_from("abc\n"), max_size=30), st.text(st.sampled_from("abc\n"), max_size=30))
def test_words_are_never_forgiven(one: str, other: str) -> None:
    assert compare(one, other).equal == (one == other)


@pytest.mark.parametrize("unit", ["0", "1:", "12:34:56 ", "0x", "/tmp/tmp.", "pid ", "Nov 1 ", "1.", "tmp", "m0."])
def test_hostile_lines_cost_no_more_than_their_length(unit: str) -> None:
    long = unit * (100_000 // len(unit))
    began = time.process_time()
    compare(f"{long}a", f"{long}b", "find $$")
    assert time.process_time() - began < 10, "minutes or more where a pattern were not linear"
