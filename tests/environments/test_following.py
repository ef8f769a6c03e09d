"""The guest's table of a workdir, and what the host believes of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.channel_changes import Changes
from trellis.environments.environment import ChangedFile, ChangedFiles, EnvironmentFault, OnEvent, ignore
from trellis.environments.guest import following
from trellis.environments.guest.following import Following, TooMuch


def told(table: Following) -> list[tuple[str, str]]:
    return [(change["path"], change["kind"]) for change in table.look()[0]]


def test_too_many_entries_and_too_long_a_look_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ENTRIES", 5)
    for number in range(5):
        (tmp_path / str(number)).mkdir()
    table = Following(str(tmp_path))
    table.look()
    (tmp_path / "one-more").touch()
    with pytest.raises(TooMuch, match="more than 5 files and folders"):
        table.look()
    (tmp_path / "one-more").unlink()
    monkeypatch.setattr(following, "LOOK_S", -1.0)
    with pytest.raises(TooMuch, match="took more than"):
        table.look()


def test_paths_may_be_long_but_not_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Following(str(tmp_path))
    deep.look()
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("n" * 200, dir_fd=folder)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    assert told(deep) == [(f"{'n' * 200}/" * 30 + "file", "added")]
    monkeypatch.setattr(following, "NAMES_CHARS", 6_000)
    with pytest.raises(TooMuch, match="longer than 6000 characters together"):
        deep.look()


def test_texts_have_room_for_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "TEXTS_BYTES", 10)
    table = Following(str(tmp_path))
    table.look()
    for name in "abc":
        (tmp_path / name).write_text("12345678"[: 8 if name == "a" else 4 if name == "b" else 2])
    changes, more, texts = table.look()
    assert [(change["path"], change["text"]) for change in changes] == [("a", 8), ("b", None), ("c", 2)]
    assert (more, texts) == (0, b"1234567812")
    assert changes[1]["sha256"] == hashlib.sha256(b"1234").hexdigest()


def test_what_is_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "HASHED_BYTES", 100)
    table = Following(str(tmp_path))
    table.look()
    (tmp_path / "a").write_bytes(b"x" * 101)
    (tmp_path / "b").write_bytes(b"x" * 60)
    (tmp_path / "c").write_bytes(b"x" * 60)
    assert [bool(change["sha256"]) for change in table.look()[0]] == [False, True, False]
    assert told(table) == []


def test_a_folder_that_nobody_may_look_into_keeps_its_files(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may look into any folder")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a").write_text("x")
    table = Following(str(tmp_path))
    table.look()
    (tmp_path / "closed").chmod(0)
    assert told(table) == []
    (tmp_path / "closed").chmod(0o700)
    (tmp_path / "closed" / "a").unlink()
    assert told(table) == [("closed/a", "deleted")]


def test_a_file_that_is_only_touched_did_not_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    table = Following(str(tmp_path))
    table.look()
    os.utime(tmp_path / "a", ns=(1, 1))
    assert told(table) == []
    (tmp_path / "a").write_text("y")
    assert told(table) == [("a", "modified")]


def test_a_workdir_that_is_a_link_by_now_is_empty(tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "a").write_text("x")
    table = Following(str(workdir))
    table.look()
    workdir.rename(tmp_path / "elsewhere")
    workdir.symlink_to("/etc")
    assert told(table) == [("a", "deleted")]


@dataclass(frozen=True)
class Answer:
    header: Mapping[str, Any]
    payload: bytes = b""


@dataclass
class Guest:
    """A channel to a guest that answers as it likes."""

    answers: list[Answer]
    written: int = 0
    asked: int = 0
    on_event: OnEvent = field(default=ignore)

    async def request(self, op: str, *, timeout_s: float) -> Answer:
        assert op == "changed_files"
        self.asked += 1
        self.written += 1
        return self.answers.pop(0)


ONE = {"path": "a", "kind": "added", "mode": 0o100644, "size": 1, "sha256": "", "text": 1, "before": None}
NOTHING = Answer({"files": [], "more": 0})


async def test_nothing_is_asked_where_nothing_was_sent() -> None:
    guest = Guest([NOTHING, Answer({"files": [ONE], "more": 2}, b"x")])
    changes = Changes(guest)
    for _ in range(3):
        assert await changes.take() == ChangedFiles()
    assert guest.asked == 1
    guest.written += 1
    assert await changes.take() == ChangedFiles((ChangedFile("a", "added", 0o100644, 1, "", b"x"),), 2)
    assert await changes.take() == ChangedFiles()
    assert guest.asked == 2


@pytest.mark.parametrize(
    "nonsense",
    [
        Answer({}),
        Answer({"files": {}, "more": 0}),
        Answer({"files": [], "more": -1}),
        Answer({"files": [], "more": 0}, b"unasked"),
        Answer({"files": [ONE] * 1001, "more": 0}, b"x" * 1001),
        Answer({"files": [ONE], "more": 0}),
        Answer({"files": ["a"], "more": 0}),
        *(
            Answer({"files": [{**ONE, **wrong}], "more": 0}, b"x")
            for wrong in (
                {"path": "/etc/passwd"}, {"path": "../a"}, {"path": ""}, {"path": "a/./b"}, {"path": "a\0b"},
                {"path": "a" * (5 << 20)}, {"path": 7}, {"kind": "cursed"}, {"mode": 10**400}, {"mode": "x"},
                {"mode": 0o040755}, {"size": -1}, {"size": 1 << 70}, {"sha256": "../../x"}, {"sha256": None},
                {"text": -1}, {"text": 1 << 40}, {"before": "x"}, {"text": [1]},
            )
        ),
    ],
)  # fmt: skip
async def test_a_guest_that_talks_nonsense_is_a_fault(nonsense: Answer) -> None:
    guest = Guest([NOTHING, nonsense])
    changes = Changes(guest)
    await changes.take()
    guest.written += 1
    with pytest.raises(EnvironmentFault, match="nonsense"):
        await changes.take()
