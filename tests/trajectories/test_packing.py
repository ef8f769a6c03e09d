"""Packed logs read like plain ones, in parts; packing never leaves less than one whole log."""

import os
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from shutil import which

import pytest

from trellis.trajectories import disk, packing
from trellis.trajectories.log import SCHEMA, Event, Log, LogError, StorageFault, read
from trellis.trajectories.packing import Pack, pack, unpack
from trellis.trajectories.reading import EventFile, head_of
from trellis.trajectories.verifying import Verifier


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Of several frames, one of which holds one long line."""
    path, random = tmp_path / disk.LOG, Random(1)
    written = Log(path)
    written.append("header", "main", 0.0, schema=SCHEMA, episode={"task": "ünïcode"})
    for number in range(400):
        size = 700_000 if number == 200 else 3_000
        text = f"{number} {random.randbytes(size // 2).hex()}"
        written.append("note.x", f"main/{number % 5}", number / 7, data={"text": text})
    written.close()
    return path


def test_a_packed_log_reads_like_a_plain_one(log: Path) -> None:
    plain, content = list(read(log)), log.read_bytes()
    file = EventFile(log)
    entries = file.entries
    file.close()
    sizes = pack(log)
    assert sizes == (len(content), disk.packed(log).stat().st_size)
    assert sizes.packed < 0.7 * sizes.plain
    assert not log.exists()
    assert list(read(log)) == list(read(disk.packed(log))) == plain
    file = EventFile(log)
    assert file.entries == entries
    assert [file.event(seq) for seq in (400, 0, 201, 7)] == [plain[seq] for seq in (400, 0, 201, 7)]
    assert not file.refresh()
    file.close()
    assert unpack(log) == sizes
    assert log.read_bytes() == content
    assert not disk.packed(log).exists()


def test_an_event_is_read_without_decompressing_what_precedes_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(log)
    frames: list[int] = []
    frame = Pack._frame

    def counted(self: Pack, number: int) -> bytes:
        frames.append(number)
        return frame(self, number)

    monkeypatch.setattr(Pack, "_frame", counted)
    file = EventFile(log)
    assert frames == [0], "of the header, which tells the schema"
    assert file.event(390)["data"]["text"].startswith("389 ")
    assert file.event(391)["data"]["text"].startswith("390 ")
    file.close()
    assert len(frames) == 2
    assert frames[1] > 3


def test_both_ways_are_idempotent(log: Path) -> None:
    content = log.read_bytes()
    assert unpack(log) == (len(content), 0)
    once = pack(log)
    packed = disk.packed(log).read_bytes()
    assert pack(log) == pack(disk.packed(log)) == once
    assert disk.packed(log).read_bytes() == packed
    unpack(disk.packed(log))
    assert log.read_bytes() == content


def test_a_log_in_use_is_refused(log: Path) -> None:
    writer = Log(log)
    with pytest.raises(LogError, match="written by another process"):
        pack(log)
    writer.close()
    pack(log)


def test_a_damaged_log_is_not_packed(log: Path) -> None:
    damaged = bytearray(log.read_bytes())
    damaged[50_000] ^= 1
    log.write_bytes(damaged)
    with pytest.raises(LogError, match=r"line 1\d:"):
        pack(log)
    assert log.read_bytes() == damaged
    assert not disk.packed(log).exists()


@pytest.mark.parametrize("place", [10, 30_000, -2000, -300, -30, -12, -3])
def test_a_packed_log_that_was_flipped_or_cut_is_one_line(log: Path, place: int) -> None:
    content = list(read(log))
    pack(log)
    path = disk.packed(log)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[place] ^= 4
    for damaged in (bytes(flipped), whole[:place], whole + b"\0"):
        path.write_bytes(damaged)
        for reads in (by_parts, lambda log: list(read(log))):
            with suppress(LogError):
                assert reads(log) == content, "it was in what this way of reading does not need"
        with pytest.raises(LogError, match="the packed log is cut or damaged"):
            by_parts(log)
        assert path.read_bytes() == damaged
    with pytest.raises(LogError, match="the packed log is cut or damaged"):
        Log(log)


def test_an_index_that_tells_something_else_is_found(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hides an event from those who look it up."""
    with monkeypatch.context() as patch:
        patch.setattr(packing, "head_of", lambda line: (head_of(line) or b"").replace(b"main/3", b"main/4"))
        pack(log)
    assert [problem.what for problem in Verifier().verify(disk.packed(log)).problems] == [
        "the index of the packed log does not tell what is in it"
    ]


def test_any_flipped_byte_of_a_packed_log_is_found(tmp_path: Path) -> None:
    """Also where it changes nothing of what is decompressed: some bits mean nothing to zstd."""
    log = tmp_path / disk.LOG
    with closing(Log(log)) as written:
        written.append("header", "main", 0.0, schema=SCHEMA)
        for number in range(8):
            written.append("note.x", "main", number / 7, data={"text": f"{number} times the same words " * 9})
    pack(log)
    path, verifier = disk.packed(log), Verifier()
    whole = path.read_bytes()
    assert verifier.verify(path).problems == []
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert verifier.verify(path).problems, f"byte {place}"


def by_parts(log: Path) -> list[Event]:
    file = EventFile(log)
    try:
        return list(file.events())
    finally:
        file.close()


@pytest.mark.parametrize("way", [pack, unpack])
def test_a_crash_at_any_point_leaves_a_whole_log(log: Path, monkeypatch: pytest.MonkeyPatch, way: object) -> None:
    """Stopped after each of the steps that change the folder; then it is read, gone on with, and done again."""
    content = list(read(log))
    if way is unpack:
        pack(log)
    before = {path.name: path.read_bytes() for path in log.parent.iterdir()}

    class Crash(BaseException):
        pass

    steps = 0
    for crash_at in range(1, 20):
        for path in list(log.parent.iterdir()):
            path.unlink()
        for name, data in before.items():
            (log.parent / name).write_bytes(data)
        left = crash_at

        def counted(real: object) -> object:
            def step(*arguments: object, **named: object) -> object:
                nonlocal left
                left -= 1
                if not left:
                    raise Crash
                return real(*arguments, **named)  # type: ignore[operator]

            return step

        with monkeypatch.context() as patch:
            for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (os, "open")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            try:
                way(log)  # type: ignore[operator]
            except Crash:
                steps += 1
            else:
                break
        assert list(read(log)) == content
        goes_on = Log(log)
        assert list(goes_on.history()) == content
        goes_on.close()
        assert not disk.packed(log).exists()
    assert steps > 5
    pack(log)
    assert list(read(log)) == content


def test_a_full_disk_leaves_the_plain_log(log: Path, limited_files: None) -> None:
    before = log.read_bytes()
    with pytest.raises(StorageFault, match="File too large"):
        pack(log)
    assert log.read_bytes() == before
    assert list(log.parent.iterdir()) == [log]


def test_opening_for_appending_unpacks(log: Path) -> None:
    content = list(read(log))
    pack(log)
    goes_on = Log(log)
    assert list(goes_on.history()) == content
    assert goes_on.append("note.x", "main", 99.0, data={}) == len(content)
    goes_on.close()
    assert list(log.parent.iterdir()) == [log]
    assert list(read(log))[:-1] == content


def test_an_empty_plain_file_beside_a_packed_log_is_no_log(log: Path) -> None:
    """As a process leaves it that is killed while it opens a log that another has just packed."""
    content = list(read(log))
    pack(log)
    log.touch()
    assert list(read(log)) == content
    goes_on = Log(log)
    assert list(goes_on.history()) == content
    goes_on.close()


@pytest.mark.skipif(which("zstd") is None, reason="needs the zstd command")
def test_others_can_unpack_it(log: Path) -> None:
    content = log.read_bytes()
    pack(log)
    assert subprocess.check_output(["zstd", "-dc", disk.packed(log)]) == content


def test_a_frame_is_about_as_large_as_said(log: Path) -> None:
    pack(log)
    with Pack(disk.packed(log)) as held:
        sizes = [size for _, size in held._sizes]
    assert max(sorted(sizes)[:-1]) <= packing.FRAME_BYTES
    assert max(sizes) > 700_000
