"""Bytes beside a log, kept once under the name of their content."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from trellis.trajectories import disk
from trellis.trajectories.chain import LogError, StorageFault
from trellis.trajectories.durability import GroupCommit, Storage
from trellis.trajectories.redaction import Redaction


class BlobMissing(LogError, FileNotFoundError):
    """A blob that is named is not there."""


class BlobDamaged(LogError, ValueError):
    """A blob no longer holds what its name says."""


class Blobs:
    """A folder of files named by the SHA-256 of what they hold.

    Where the episodes of a run share a folder, each has a hard link to what lies there, so that its own folder is whole
    by itself and the content lies on the disk once.
    """

    def __init__(self, folder: Path, redact: Redaction | None = None, storage: Storage = Storage()) -> None:
        self._folder = folder
        self._redact = redact
        self._shared = storage.shared
        self._known: set[str] = set()
        self._unsettled: list[Path] = []
        self._commits = GroupCommit(folder, self.sync) if storage.fsync else None
        if storage.fsync and folder.is_dir():  # a process that was killed may have waited for them
            self._unsettled = list(folder.iterdir())

    def store(self, data: bytes) -> str:
        """Keep `data` (written once, whole or not at all) and return its name. Secrets in it are kept out.

        Raises:
            StorageFault: the disk refuses.
        """
        data = self._clean(data)
        name = hashlib.sha256(data).hexdigest()
        if name not in self._known:
            try:
                self._write(name, data)
            except OSError as error:
                raise StorageFault(self._folder / name, error) from None
            self._known.add(name)
        return name

    def load(self, name: str) -> bytes:
        """Raises BlobMissing, BlobDamaged, ValueError (it is no name of a blob), OSError (it cannot be read)."""
        if not is_name(name):
            raise ValueError(f"not the name of a blob: {name!r}")
        path = self._folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise BlobMissing(f"{path} is missing") from None
        if hashlib.sha256(data).hexdigest() != name:
            raise BlobDamaged(f"{path} is damaged: its content does not have the hash in its name")
        return data

    def place(self, name: str) -> tuple[int, int]:
        """Where its content lies on the disk: the same for all that link to it. Raises OSError, ValueError."""
        if not is_name(name):
            raise ValueError(f"not the name of a blob: {name!r}")
        facts = (self._folder / name).stat()
        return facts.st_dev, facts.st_ino

    async def settled(self) -> None:
        """Wait until what was stored is as safe as was asked for. Raises StorageFault."""
        if self._commits is not None and self._unsettled:
            await self._commits.settled()

    def sync(self) -> None:
        """Bring what was stored with `fsync` to stable storage. Raises OSError."""
        waiting = list(self._unsettled)
        if waiting:
            disk.sync([*waiting, self._folder, self._folder.parent])
            del self._unsettled[: len(waiting)]  # not before: others may wait for the same ones

    def close(self) -> None:
        if self._commits is not None:
            self._commits.close()

    def _clean(self, data: bytes) -> bytes:
        return data if self._redact is None else self._redact.data(data)

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        if not _holds(path, data):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._linked(name, path, data):
                draft = path.with_suffix(f".{os.getpid()}")
                try:
                    draft.write_bytes(data)
                    draft.replace(path)
                except OSError:
                    draft.unlink(missing_ok=True)
                    raise
                self._share(name, path)
        if self._commits is not None:
            self._unsettled.append(path)

    def _linked(self, name: str, path: Path, data: bytes) -> bool:
        """Link to what another episode has stored, if it has."""
        if self._shared is None or not _holds(self._shared / name, data):
            return False
        try:
            path.unlink(missing_ok=True)  # it is damaged, or it would not be asked for
            path.hardlink_to(self._shared / name)
        except OSError:
            return False
        return True

    def _share(self, name: str, path: Path) -> None:
        """For the other episodes; where links cannot be made, each keeps its own."""
        if self._shared is None:
            return
        with suppress(OSError):
            self._shared.mkdir(exist_ok=True)
            draft = self._shared / f"{name}.{os.getpid()}"
            draft.hardlink_to(path)
            draft.replace(self._shared / name)


def is_name(text: str) -> bool:
    """Could this be the name of a blob?"""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _holds(path: Path, data: bytes) -> bool:
    """Another file of this name may be damaged."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False
