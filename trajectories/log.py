"""The trajectory on disk: an append-only file of events, one JSON object a line.

Every event has `seq` (0, 1, 2, ...), `at` (seconds on the episode's clock), `branch` and `kind`, and is chained to the
one before it (`chain.py`). It is handed to the operating system in one write before `append` returns, so it survives
`kill -9`. A torn last line, which a kill or a loss of power can leave, is cut when the log is opened again; any other
damage is an error that names the line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trellis.trajectories import disk
from trellis.trajectories.chain import SCHEMA, Damaged, Event, Follower, LogError, StorageFault, schema_of, tied
from trellis.trajectories.durability import GroupCommit, Storage
from trellis.trajectories.redaction import Redaction

__all__ = ["SCHEMA", "Event", "Log", "LogError", "StorageFault", "encode", "read"]


def _encoder() -> Callable[[Any], str]:
    """A value as compact JSON in ASCII, NaN included. `JSONEncoder.encode` makes the encoder in C that does the work
    anew for every value, which takes as long as a short event does; it is made once here, where there is one."""
    encoder = json.JSONEncoder(separators=(",", ":"))
    made_in_c = getattr(json.encoder, "c_make_encoder", None)
    if made_in_c is None:
        return encoder.encode
    iterencode = made_in_c(
        None, encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
    )
    return lambda value: "".join(iterencode(value, 0))


encode = _encoder()


class Log:
    """A trajectory opened for appending, by one process at a time."""

    def __init__(self, path: Path, redact: Redaction | None = None, storage: Storage = Storage()) -> None:
        """Open the plain log at `path`, or make it with its folder. A packed one is unpacked first; one of an older
        schema is first written anew as the present one has it, and then stands in its place.

        Raises:
            LogError: another process holds it, or it cannot be read.
            StorageFault: the folder cannot be written.
        """
        self.path = path
        self.redact = redact or Redaction()
        self.cut = 0
        """Bytes of a torn last line that were cut."""
        self._next = -1
        self._chain = b""
        self._failed: StorageFault | None = None
        try:
            made = _make_folder(path.parent)
            self._fd = self._open()
            if storage.fsync:
                disk.sync([*made, path])
        except BlockingIOError:
            raise LogError(f"{path} is being written by another process") from None
        except OSError as error:
            raise StorageFault(path, error) from None
        self._commits = GroupCommit(path, lambda: os.fdatasync(self._fd)) if storage.fsync else None

    def history(self) -> Iterator[Event]:
        """What the log holds, one event at a time. It is gone through once, before the first event is appended.

        Raises:
            LogError: it is damaged before its last line.
            StorageFault: the disk refuses.
        """
        follower = Follower(self.path)
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    if text := self._settle_tail(line, follower):
                        yield follower.take(text)
                    break
                yield follower.take(line)
        self._next, self._chain = follower.count, follower.chain

    @property
    def head(self) -> str:
        """The chain value of the last event: whoever knows it can tell whether anything before it was changed."""
        return self._chain.decode()

    def append(self, kind: str, branch: str, at: float, members: str = "", **data: Any) -> int:
        """Write one event and return its `seq`. `members` are more of it, as JSON without secrets.

        Raises:
            StorageFault: the disk refuses, now or before: the log then ends torn, and takes no more.
        """
        if self._next < 0:
            for _ in self.history():
                pass
        if self._failed is not None:
            raise self._failed
        seq = self._next
        text = self.redact(encode({"seq": seq, "at": round(at, 4), "branch": branch, "kind": kind, **data}))
        if members:
            text = f"{text[:-1]},{members}}}"
        line, chain = tied(self._chain, text.encode())
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            self._failed = StorageFault(self.path, error)
            raise self._failed from None
        self._next, self._chain = seq + 1, chain
        return seq

    async def settled(self) -> None:
        """Wait until everything that was appended before is as safe as was asked for. Raises StorageFault."""
        if self._commits is not None:
            await self._commits.settled()

    def close(self) -> None:
        if self._commits is not None:
            self._commits.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- inside ---

    def _open(self) -> int:
        packed = disk.packed(self.path)
        while True:
            if disk.existing(self.path) == packed:
                from trellis.trajectories.packing import unpack

                unpack(packed)
            fd = disk.hold(self.path, create=True)
            try:
                if not packed.exists():
                    return self._migrated(fd)
                if os.fstat(fd).st_size:
                    packed.unlink()  # it holds the same, and soon will not
                    return self._migrated(fd)
                self.path.unlink()  # it was packed meanwhile
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _migrated(self, fd: int) -> int:
        """The log in the present schema, held in place of `fd` if it was not."""
        if not _is_old(self.path):
            return fd
        _rewrite(self.path)
        new = disk.hold(self.path)
        os.close(fd)
        return new

    def _settle_tail(self, line: bytes, follower: Follower) -> bytes:
        """What stands after the last end of a line. Where it is a whole event, nothing but the end may be missing, and
        it is made whole; the disk may have set aside room (zeros) that was never written. Else nobody has used what it
        says, and it is cut: nothing is returned.

        Raises:
            LogError: a whole event, and behind it something else than an end.
            StorageFault: the disk refuses.
        """
        text = line.rstrip(b"\0")
        end = os.fstat(self._fd).st_size - len(line)
        try:
            if follower.whole(text):
                os.ftruncate(self._fd, end + len(text))
                os.write(self._fd, b"\n")
                return text
            if follower.whole(text[:-1]):
                raise Damaged(self.path, follower.count + 1, "its end is damaged")
            os.ftruncate(self._fd, end)
        except OSError as error:
            raise StorageFault(self.path, error) from None
        self.cut = len(line)
        return b""


def read(path: Path) -> Iterator[Event]:
    """The events of a log, plain or packed, in order, one at a time, as the present schema has them. A torn last line
    (a writer may be at work) is left out.

    Raises:
        LogError: a damaged line, a gap in `seq`, or an unknown schema, with the number of the line.
        OSError: it cannot be read.
    """
    follower = Follower(disk.existing(path))
    return (follower.take(line) for line in lines(follower.path))


def lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a plain or packed log. Raises LogError: it was packed, and is damaged."""
    if disk.is_packed(path):
        from trellis.trajectories.packing import Pack

        with Pack(path) as pack:
            yield from pack.lines()
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder; it and the folders in which it was made known."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [folder, *(above.parent for above in missing)]


def _is_old(path: Path) -> bool:
    """Is it of another schema than the present one? Raises LogError: of an unknown one."""
    with path.open("rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        return False
    try:
        first = json.loads(line)
    except ValueError:
        first = None
    if not isinstance(first, dict):
        raise Damaged(path, 1, "not an event")
    return schema_of(first, path) != SCHEMA


def _rewrite(path: Path) -> None:
    """Write a log of an older schema anew, without the torn end that it may have."""
    follower, chain = Follower(path), b""
    with disk.replacing(path) as draft:
        for line in lines(path):
            tied_line, chain = tied(chain, encode(follower.take(line)).encode())
            draft.write(tied_line)
