"""Is a trajectory what was written, from its first event to the last byte of its blobs?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trellis.trajectories import disk
from trellis.trajectories.blobs import Blobs, is_name
from trellis.trajectories.chain import SCHEMA, Damaged, Event, Follower, LogError
from trellis.trajectories.log import lines
from trellis.trajectories.recorded import unpack

_FREE = ("arguments", "data", "raw", "facts", "specs")
"""Members that hold what others wrote: what looks like the name of a blob there is none."""
_HANDS_IN = {"submit.done": "answer", "handed_in": "submission"}
"""Events that tell of something handed in, and the member that holds it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    file: Path
    line: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{f', line {self.line}' if self.line else ''}: {self.what}"


@dataclass
class Verified:
    """What was found in a trajectory."""

    log: Path
    events: int = 0
    chained: bool = False
    """Logs of the first schema are not, as long as nobody goes on with them."""
    head: str = ""
    """The chain value of the last event."""
    torn: int = 0
    """Bytes behind the last whole event: a process writes it, or was killed."""
    blobs: int = 0
    problems: list[Problem] = field(default_factory=list)


class Verifier:
    """Verifies trajectories. A blob that several of them share by a link is read once."""

    def __init__(self) -> None:
        self._whole: set[tuple[str, int, int]] = set()

    def verify(self, log: Path) -> Verified:
        """Go through the log and the blobs that it and the submission beside it name. Nothing is raised for what is
        wrong with them: it is told."""
        found = Verified(log)
        blobs = Blobs(log.parent / "blobs")
        named: dict[str, int] = {}
        handed_in: Any = {"answer": "", "files": {}}
        follower, size = Follower(log), 0
        try:
            for line in lines(log):
                size += len(line)
                event = follower.take(line)
                if event["kind"] in _HANDS_IN:
                    handed_in = event.get(_HANDS_IN[event["kind"]])
                if b'"blob":' in line or b'"files":' in line:
                    for name in self._of_event(event, blobs):
                        named.setdefault(name, follower.count)
            if not follower.count:
                found.problems.append(Problem(log, None, "it holds no event"))
            if disk.is_packed(log):
                from trellis.trajectories.packing import check

                check(log)
            else:
                found.torn = max(0, log.stat().st_size - size)
        except Damaged as damaged:
            found.problems.append(Problem(log, damaged.line, damaged.what))
        except (LogError, OSError) as error:
            found.problems.append(Problem(log, None, _said(error, log)))
        found.events, found.head = follower.count, follower.chain.decode()
        found.chained = follower.schema == SCHEMA
        for name, line_number in named.items():
            if problem := self._wrong(blobs, name):
                found.problems.append(Problem(log, line_number, f"blob {problem}"))
        found.problems.extend(self._of_submission(log, blobs, named, None if found.problems else handed_in))
        found.blobs = len(named)
        return found

    def _of_event(self, event: Event, blobs: Blobs) -> Iterator[str]:
        for value in (event, event.get("what"), event.get("answer")):
            name = value.get("blob") if isinstance(value, Mapping) else None
            if isinstance(name, str) and is_name(name) and not event["kind"].startswith("note."):
                try:
                    yield from blobs_in(json.loads(blobs.load(name)))
                except (OSError, ValueError):
                    continue  # it is told when this blob is looked at
        yield from blobs_in(event)

    def _of_submission(self, log: Path, blobs: Blobs, named: dict[str, int], handed_in: Any) -> Iterator[Problem]:
        """`handed_in`: what the log has as handed in last; None where that is not known."""
        if disk.plain(log).name != disk.LOG:
            return  # there is a newer log, and it is that one's
        path = log.with_name("submission.json")
        try:
            content = json.loads(path.read_text("utf-8"))
            names = list(content["files"].values())
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            yield Problem(path, None, "not a submission")
            return
        with suppress(OSError, ValueError):  # of a blob, which is told
            if isinstance(handed_in, Mapping) and content != unpack(handed_in, blobs.load):
                yield Problem(path, None, "it is not what was handed in last, as the log tells")
        for name in names:
            if name not in named:
                named[name] = 0
                if problem := self._wrong(blobs, name):
                    yield Problem(path, None, f"blob {problem}")

    def _wrong(self, blobs: Blobs, name: str) -> str:
        try:
            place = (name, *blobs.place(name))
            if place not in self._whole:
                blobs.load(name)
                self._whole.add(place)
        except FileNotFoundError:
            return f"{name} is missing"
        except ValueError:
            return f"{name} is damaged: its content does not have the hash in its name"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        return ""


def blobs_in(value: Any) -> Iterator[str]:
    """The names of the blobs that an event, or a part of one, refers to."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "blob" and isinstance(inner, str) and is_name(inner):
                yield inner
            elif key == "files" and isinstance(inner, Mapping):  # of a submission
                yield from (name for name in inner.values() if isinstance(name, str) and is_name(name))
            elif key not in _FREE:
                yield from blobs_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from blobs_in(inner)


def _said(error: Exception, log: Path) -> str:
    said = str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
    return said.removeprefix(f"{log}: ")
