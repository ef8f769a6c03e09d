"""Finished logs, compressed with zstd: `trajectory.jsonl` becomes `trajectory.jsonl.zst`, and back.

A packed log is in the seekable format of zstd: frames that do not depend on each other, each of some whole lines, and
at the end a table of where they lie, so that any event is read by decompressing one frame. `zstd -d` reads it too.
Before that table stands an index (in a frame that decompressors skip): a digest of all that is compressed, because some
bits of it mean nothing to zstd; and, compressed, the length of each line and its head.
"""

from __future__ import annotations

import os
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from trellis.trajectories import disk
from trellis.trajectories.chain import LogError, StorageFault
from trellis.trajectories.log import Log, lines
from trellis.trajectories.reading import head_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME_BYTES = 256 * 1024
"""Of a log in a frame; a longer line has a frame of its own."""
LEVEL = 6
_SKIPPABLE = struct.Struct("<II")  # magic number, size of what follows
_INDEX = 0x184D2A50
_TABLE = 0x184D2A5E
_ENTRY = struct.Struct("<II")  # compressed and decompressed size of a frame
_FOOTER = struct.Struct("<IBI")  # number of frames, flags, magic number
_DIGEST_BYTES = 32
_FOOTER_MAGIC = 0x8F92EAB1


class Sizes(NamedTuple):
    """Of a log in bytes, plain and packed."""

    plain: int
    packed: int


class Pack:
    """A packed log, read by parts."""

    def __init__(self, path: Path) -> None:
        """Raises LogError: it is cut or damaged. OSError: it cannot be read."""
        self._path = path
        self._file: BinaryIO = path.open("rb")
        self._last: tuple[int, bytes] = (-1, b"")
        self._indexed = False
        try:
            with self._told():
                *self._sizes, _ = self._table()
        except BaseException:
            self._file.close()
            raise
        self._places = list(accumulate((size for size, _ in self._sizes), initial=0))
        self._offsets = list(accumulate((size for _, size in self._sizes), initial=0))

    @property
    def sizes(self) -> Sizes:
        return Sizes(self._offsets[-1], self._path.stat().st_size)

    def read(self, offset: int, length: int) -> bytes:
        """So much of the log, all of one line. Raises LogError: its frame is damaged."""
        number = bisect_right(self._offsets, offset) - 1
        if self._last[0] != number:
            self._last = (number, self._frame(number))
        start = offset - self._offsets[number]
        return self._last[1][start : start + length]

    def lines(self) -> Iterator[bytes]:
        """All lines. Raises LogError: a frame is damaged."""
        for number in range(len(self._sizes)):
            yield from self._frame(number).splitlines(keepends=True)

    def index(self) -> Iterator[tuple[int, bytes]]:
        """The length of each line, and its head; told once. Raises LogError: it is damaged."""
        if self._indexed:
            return iter(())
        self._indexed = True
        with self._told():
            rows = zstd.decompress(self._index()[1]).splitlines()
            index = [(int(length), head) for length, head in (row.split(b" ", 1) for row in rows)]
        return iter(index)

    def check_bytes(self) -> None:
        """Raises LogError: a byte of what is compressed is not what was written."""
        with self._told():
            digest, index = self._index()
            found = sha256()
            self._file.seek(0)
            for size, _ in self._sizes:
                found.update(self._file.read(size))
            found.update(index)
            if found.digest() != digest:
                raise ValueError

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _index(self) -> tuple[bytes, bytes]:
        """The digest of what is compressed, and the index, compressed. Raises ValueError: it is none."""
        self._file.seek(self._places[-1])
        magic, size = _SKIPPABLE.unpack(self._file.read(_SKIPPABLE.size))
        if magic != _INDEX or size < _DIGEST_BYTES:
            raise ValueError
        return self._file.read(_DIGEST_BYTES), self._file.read(size - _DIGEST_BYTES)

    def _frame(self, number: int) -> bytes:
        compressed, size = self._sizes[number]
        with self._told():
            self._file.seek(self._places[number])
            decompressor = zstd.ZstdDecompressor()
            data = decompressor.decompress(self._file.read(compressed), max_length=size)
            if len(data) != size or not decompressor.eof or decompressor.unused_data:
                raise ValueError
        return data

    def _table(self) -> list[tuple[int, int]]:
        """Compressed and decompressed size of each frame; the last is that of the index."""
        end = self._file.seek(0, 2)
        self._file.seek(max(0, end - _FOOTER.size))
        count, flags, magic = _FOOTER.unpack(self._file.read())
        length = count * _ENTRY.size + _FOOTER.size
        if length > end - _SKIPPABLE.size:
            raise ValueError
        self._file.seek(end - length - _SKIPPABLE.size)
        head = _SKIPPABLE.unpack(self._file.read(_SKIPPABLE.size))
        sizes = list(_ENTRY.iter_unpack(self._file.read(count * _ENTRY.size)))
        frames = end - length - _SKIPPABLE.size
        if (magic, flags, head) != (_FOOTER_MAGIC, 0, (_TABLE, length)) or sum(size for size, _ in sizes) != frames:
            raise ValueError
        if not sizes or sizes[-1][1]:
            raise ValueError
        return sizes

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (zstd.ZstdError, ValueError, struct.error, EOFError):
            raise LogError(f"{self._path}: the packed log is cut or damaged") from None


def pack(path: Path) -> Sizes:
    """Pack the log at `path`; where it is packed already, nothing is done. It is read through first, and the plain file
    goes when the packed one is on stable storage and reads the same: a crash leaves one of them whole.

    Raises:
        LogError: a process writes it, or it is damaged or empty.
        StorageFault: the disk refuses.
        OSError: it cannot be read.
    """
    plain, packed = disk.plain(path), disk.packed(path)
    if disk.existing(path) == packed:
        with Pack(packed) as held:
            return held.sizes
    with closing(Log(plain)) as log:
        if not sum(1 for _ in log.history()):
            raise LogError(f"{plain}: not a trajectory: it is empty")
        try:
            with disk.replacing(packed) as draft:
                _write(lines(plain), draft)
                draft.flush()
                with Pack(Path(draft.name)) as made:
                    if any(ours != theirs for ours, theirs in zip(made.lines(), lines(plain), strict=True)):
                        raise LogError(f"{plain}: what was packed does not read the same; it stays as it is")
                    sizes = made.sizes
            disk.remove(plain)
        except OSError as error:
            raise StorageFault(packed, error) from None
    return sizes


def unpack(path: Path) -> Sizes:
    """Unpack the log at `path`; where it is plain, nothing is done (its packed size is then 0). A crash leaves one of
    the two whole.

    Raises:
        LogError: it is damaged, or another process packs or unpacks it.
        StorageFault: the disk refuses.
        OSError: it cannot be read.
    """
    plain, packed = disk.plain(path), disk.packed(path)
    if disk.existing(path) == plain:
        return Sizes(plain.stat().st_size, 0)
    try:
        fd = disk.hold(packed)
    except BlockingIOError:
        raise LogError(f"{packed} is being unpacked by another process") from None
    try:
        with Pack(packed) as held:
            sizes = held.sizes
            with disk.replacing(plain) as draft:
                draft.writelines(held.lines())
        disk.remove(packed)
    except OSError as error:
        raise StorageFault(plain, error) from None
    finally:
        os.close(fd)
    return sizes


def check(path: Path) -> None:
    """Raises LogError: a byte of a packed log is not what was written, or its index does not tell what is in it."""
    with Pack(path) as held:
        held.check_bytes()
        there = ((len(line), head_of(line)) for line in held.lines())
        if any(told != found for told, found in zip_longest(held.index(), there)):
            raise LogError(f"{path}: the index of the packed log does not tell what is in it")


def _write(log: Iterable[bytes], out: BinaryIO) -> None:
    frames: list[tuple[int, int]] = []
    index: list[bytes] = []
    waiting: list[bytes] = []
    size, digest = 0, sha256()

    def end_frame() -> None:
        data = _compressed(b"".join(waiting))
        digest.update(data)
        out.write(data)
        frames.append((len(data), size))
        waiting.clear()

    for line in log:
        if waiting and size + len(line) > FRAME_BYTES:
            end_frame()
            size = 0
        waiting.append(line)
        size += len(line)
        index.append(b"%d %s" % (len(line), head_of(line)))
    if waiting:
        end_frame()
    data = _compressed(b"\n".join(index))
    digest.update(data)
    data = digest.digest() + data
    out.write(_SKIPPABLE.pack(_INDEX, len(data)) + data)
    frames.append((_SKIPPABLE.size + len(data), 0))
    table = b"".join(_ENTRY.pack(*frame) for frame in frames) + _FOOTER.pack(len(frames), 0, _FOOTER_MAGIC)
    out.write(_SKIPPABLE.pack(_TABLE, len(table)) + table)


def _compressed(data: bytes) -> bytes:
    """A frame, with a checksum of what is in it."""
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.compress(data, options=options)
