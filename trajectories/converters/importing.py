"""From a file of another framework to a trajectory of ours: the format is found by what the file holds."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self, cast

from trellis.trajectories.converters import document
from trellis.trajectories.converters.archive import Archive
from trellis.trajectories.converters.converter import ConversionError, Imported
from trellis.trajectories.converters.native import Identity, Source, Target

FORMATS = {
    "atif": "from_atif",
    "swe-agent": "from_swe_agent",
    "mini-swe-agent": "from_mini",
    "openhands": "from_openhands",
    "aide": "from_aide",
    "inspect": "from_inspect",
}
"""What is read, and the module that reads it."""


class Reader(Protocol):
    """A module that reads a format."""

    def fits(self, value: Any) -> bool:
        """Does this JSON (or archive) look like the format?"""
        ...

    def read(self, source: Source, target: Target) -> None:
        """Write a trajectory for each episode in it. Raises ConversionError: it is damaged."""
        ...


class Import:
    """A file that was looked into: its format is known, nothing is written yet."""

    def __init__(self, path: Path, format: str | None = None) -> None:
        """Read `path`; `format` overrides what it looks like.

        Raises:
            ConversionError: no format fits or several do, the file is damaged, or it is beyond a bound.
            OSError: it cannot be read.
        """
        self._archive: Archive | None = None
        document_ = self._opened(path)
        try:
            self.format = format or _detected(path.name, document_)
            self._reader = _reader(self.format)
            if format and not self._reader.fits(document_):
                raise ConversionError(f"{path.name} does not look like {format}")
            self.source = Source(path, document.sha256_of(path), document_)
            counting = getattr(self._reader, "count_of", None)
            self.episodes = _within(path.name, lambda: counting(document_)) if counting else 1
            """How many trajectories it holds."""
        except BaseException:
            self.close()
            raise

    def _opened(self, path: Path) -> Any:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConversionError(f"{path.name} is no regular file: it is read more than once")
        if zipfile.is_zipfile(path):
            self._archive = Archive(path)
            return self._archive
        with path.open("rb") as file:
            return document.parse(document.read_bounded(file, path.name), path.name)

    def write(self, folder: Callable[[Identity], Path]) -> list[Imported]:
        """Write every trajectory, each into its folder, which must not hold one yet.

        Raises:
            ConversionError: the file is damaged; what was written so far stays behind.
            OSError: the disk refuses.
        """
        target = Target(self.source, folder)
        _within(self.source.name, lambda: self._reader.read(self.source, target))
        return target.imported

    def close(self) -> None:
        if self._archive:
            self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _within(name: str, work: Callable[[], Any]) -> Any:
    """What goes wrong names the file; a depth that only a reader of ours meets is the file's fault too."""
    try:
        return work()
    except ConversionError as error:
        raise error if name in str(error) else ConversionError(f"{name}: {error}") from None
    except RecursionError:
        raise ConversionError(f"{name}: nested too deeply") from None


def _detected(name: str, value: Any) -> str:
    """Raises ConversionError: no format fits, or several do."""
    fitting = [format for format in FORMATS if _reader(format).fits(value)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConversionError(f"{name} looks like {' and '.join(fitting)}: say which it is with --format")
    raise ConversionError(f"{name} is no trajectory of a known format ({', '.join(FORMATS)}; see --format)")


def _reader(format: str) -> Reader:
    return cast("Reader", importlib.import_module(f"trellis.trajectories.converters.{FORMATS[format]}"))
