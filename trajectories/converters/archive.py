"""Zip archives of others, read within bounds: nothing is unpacked onto the disk, and no name leads anywhere."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from trellis.trajectories.converters import document
from trellis.trajectories.converters.converter import ConversionError

if sys.version_info >= (3, 14):
    import zipfile

    from compression.zstd import ZstdError
else:  # the same, which can read zstd
    from backports.zstd import ZstdError, zipfile

MAX_TOTAL_BYTES = 8 * 1024 * 1024 * 1024
"""Of all members that are read, unpacked."""
_BROKEN = (zipfile.BadZipFile, zlib.error, ZstdError, EOFError, NotImplementedError, RuntimeError, ValueError, OSError,
           IndexError, KeyError, OverflowError)  # fmt: skip
"""What `zipfile` raises for damaged archives."""


class Archive:
    """The members of a zip archive (stored, deflated, or compressed with zstd), by name."""

    def __init__(self, path: Path) -> None:
        """Raises ConversionError: it is no archive, or a name stands in it twice. OSError: it cannot be read."""
        self.name = path.name
        self._file: BinaryIO = path.open("rb")
        self._read = 0
        try:
            self._zip = zipfile.ZipFile(self._file)
            members = self._zip.infolist()
        except _BROKEN as error:
            self._file.close()
            raise ConversionError(f"{self.name}: not a whole zip archive: {error}") from None
        self._members = {member.filename: member for member in members}
        if len(self._members) < len(members):
            self.close()
            raise ConversionError(f"{self.name}: two of its members have the same name")

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    @property
    def bytes_read(self) -> int:
        """Of all members so far, unpacked."""
        return self._read

    def json(self, name: str) -> Any:
        """A member as JSON. Raises ConversionError: there is none, it is damaged, or too large."""
        place = f"{self.name}, {name}"
        if name not in self._members:
            raise ConversionError(f"{place}: not in the archive")
        try:
            with self._zip.open(self._members[name]) as file:
                data = document.read_bounded(cast("BinaryIO", file), place)
        except _BROKEN as error:
            raise ConversionError(f"{place}: damaged: {error}") from None
        self._read += len(data)
        if self._read > MAX_TOTAL_BYTES:
            raise ConversionError(f"{self.name}: more than {MAX_TOTAL_BYTES // 1024**3} GB, unpacked")
        return document.parse(data, place)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
