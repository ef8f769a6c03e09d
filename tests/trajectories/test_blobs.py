"""Blobs: whole or not at all, once on the disk for all episodes of a run, and without secrets."""

import base64
import os
from hashlib import sha256
from pathlib import Path

import pytest

from trellis.trajectories.blobs import BlobDamaged, BlobMissing, Blobs
from trellis.trajectories.durability import Storage
from trellis.trajectories.log import LogError, StorageFault
from trellis.trajectories.redaction import Redaction

DATA = b"an image, say" * 100


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(shared=tmp_path / "blobs")


def episode(tmp_path: Path, name: str, storage: Storage) -> Blobs:
    return Blobs(tmp_path / "episodes" / name / "blobs", storage=storage)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_run_keeps_each_content_once(tmp_path: Path, storage: Storage) -> None:
    names = {episode(tmp_path, number, storage).store(DATA) for number in "123"}
    (name,) = names
    paths = files(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in paths) == [
        f"blobs/{name}", *(f"episodes/{number}/blobs/{name}" for number in "123")
    ]  # fmt: skip
    assert len({path.stat().st_ino for path in paths}) == 1
    assert episode(tmp_path, "2", storage).load(name) == DATA


def test_an_episode_is_whole_by_itself_and_what_nobody_needs_can_go(tmp_path: Path, storage: Storage) -> None:
    one, two = (episode(tmp_path, number, storage) for number in "12")
    shared, only = one.store(DATA), one.store(b"only in one")
    two.store(DATA)
    assert storage.sweep() == 0
    for path in files(tmp_path / "episodes" / "1"):
        path.unlink()
    assert storage.sweep() == 1
    assert [path.name for path in files(tmp_path / "blobs")] == [shared]
    for path in files(tmp_path / "blobs"):
        path.unlink()
    assert two.load(shared) == DATA
    with pytest.raises(BlobMissing, match=f"{only} is missing"):
        one.load(only)
    assert Storage(shared=tmp_path / "nothing").sweep() == Storage().sweep() == 0


def test_where_no_links_can_be_made_each_episode_keeps_its_own(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for number in "12":
        blobs = episode(tmp_path, number, storage)
        assert blobs.load(blobs.store(DATA)) == DATA
    assert len({path.stat().st_ino for path in files(tmp_path / "episodes")}) == 2


def test_damage_is_told_and_not_spread(tmp_path: Path, storage: Storage) -> None:
    name = episode(tmp_path, "1", storage).store(DATA)
    damaged = tmp_path / "episodes/1/blobs" / name
    damaged.write_bytes(DATA[:-1] + b"!")  # the shared one is the same file
    with pytest.raises(BlobDamaged, match="does not have the hash in its name"):
        episode(tmp_path, "1", storage).load(name)
    for number in "23":
        two = episode(tmp_path, number, storage)
        assert two.load(two.store(DATA)) == DATA
    assert issubclass(BlobDamaged, LogError)


def test_what_a_loss_of_power_left_empty_is_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    name = Blobs(folder).store(DATA)
    (folder / name).write_bytes(b"")
    assert Blobs(folder).store(DATA) == name
    assert Blobs(folder).load(name) == DATA


def test_a_full_disk_leaves_no_half_blob(tmp_path: Path, limited_files: None) -> None:
    blobs = Blobs(tmp_path / "blobs")
    with pytest.raises(StorageFault, match=r"cannot write to .*: File too large"):
        blobs.store(bytes(100_000))
    assert not (tmp_path / "blobs" / sha256(bytes(100_000)).hexdigest()).exists()
    assert list((tmp_path / "blobs").iterdir()) == []
    assert blobs.load(blobs.store(DATA)) == DATA


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    for name in ("../x", "A" * 64, ""):
        with pytest.raises(ValueError, match="not the name of a blob"):
            Blobs(tmp_path).load(name)


def test_artefacts_hold_no_secrets(tmp_path: Path) -> None:
    secret = "hf_very+secret/0123456789"
    blobs = Blobs(tmp_path, Redaction({"HF_TOKEN": secret}))
    for form in (secret, base64.b64encode(secret.encode()).decode()):
        kept = blobs.load(blobs.store(b"\x89binary\0 " + form.encode() + b" and more"))
        assert form.encode()[:-4] not in kept
        assert kept.startswith(b"\x89binary\0 ")
        assert b"[redacted]" in kept
        assert kept.endswith(b" and more")
    assert blobs.load(blobs.store(DATA)) == DATA
