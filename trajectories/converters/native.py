"""Writes what happened elsewhere as a trajectory of ours: through the recorder, which is the one writer of the format,
on a clock that follows the foreign times. The same file always gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trellis.models.model import Usage
from trellis.trajectories.converters import document
from trellis.trajectories.converters.converter import ConversionError, Imported, Losses
from trellis.trajectories.converters.line import Line, driven
from trellis.trajectories.recorded import GRADER
from trellis.trajectories.recorder import Recorder

T = TypeVar("T")

_ODD = re.compile(r"[^A-Za-z0-9._-]+")
TIMES = "times that go back, of what ran side by side (the clock of a trajectory does not)"
_TOLERANCE_S = 0.01
"""Times are often rounded."""
_LONGEST_S = 10 * 366 * 86400.0
"""An episode takes no longer: a later time is a wrong one."""


@dataclass(frozen=True)
class Identity:
    """Which episode it was, as far as the file says."""

    format: str
    task: str
    agent: str
    version: str = ""
    epoch: int = 1
    benchmark: str = ""
    benchmark_version: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    """By role; the main one is "main"."""
    outcome: str = ""
    score: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of the episode as a whole, for the header."""


@dataclass(frozen=True)
class Source:
    """The file that is imported."""

    path: Path
    sha256: str
    document: Any
    """Its JSON, or the archive."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def stem(self) -> str:
        """The name without its endings: names of tasks have dots in them, so only known ones go."""
        name = self.name
        for ending in (".json", ".eval", ".traj"):
            name = name.removesuffix(ending)
        return name or self.name


@dataclass
class Target:
    """Where the trajectories of a file go."""

    source: Source
    folder: Callable[[Identity], Path]
    """The folder of an episode."""
    imported: list[Imported] = field(default_factory=list)
    _folders: set[Path] = field(default_factory=set)

    @contextmanager
    def episode(self, identity: Identity) -> Iterator[Writer]:
        """A trajectory to be written; on leaving it is whole, and among `imported`.

        Raises:
            ConversionError: this episode is in the file already.
        """
        folder = self.folder(identity)
        if folder in self._folders:
            raise ConversionError(
                f"{self.source.name} holds episode {identity.epoch} of task {identity.task!r} more than once"
            )
        self._folders.add(folder)
        writer = Writer(folder, identity, self.source)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        self.imported.append(writer.imported())


class Writer:
    """One trajectory in the making. It keeps the clock and counts what it writes."""

    def __init__(self, folder: Path, identity: Identity, source: Source) -> None:
        self.identity = identity
        self.losses = Losses()
        self.steps = 0
        self.tool_calls = 0
        self.messages = 0
        """As written; a reader that knows better says so."""
        self.sent = 0
        """Messages that calls sent, each as often as it was sent."""
        self.usage = Usage()
        self.cost_usd: float | None = None
        self.lines: dict[str, Line] = {}
        self._folder = folder
        self._now = 0.0
        self._zero: float | None = None
        self._recorder = Recorder(folder, _header(identity, source), clock=lambda: self._now)

    # --- time ---

    def at(self, seconds: float | None) -> None:
        """It is this time (since 1970) now. The first time that is told is the episode's zero; the clock never goes
        back."""
        if seconds is None:
            return
        if self._zero is None:
            self._zero = seconds - self._now
        if self._now < seconds - self._zero < _LONGEST_S:
            self._now = seconds - self._zero
        elif self._now - (seconds - self._zero) > _TOLERANCE_S:
            self.losses.add(TIMES)

    def passes(self, seconds: float | None) -> None:
        if seconds is not None and seconds > 0 and self._now + seconds < _LONGEST_S:
            self._now += seconds

    # --- what is written ---

    def line(self, name: str = "main", origin: str = "main", position: int | None = None) -> Line:
        """A branch by its full name; a new one begins in the world of `origin` as that is now, or was after
        `position` of its acts."""
        line = self.lines.get(name)
        if line is None:
            line = self.lines[name] = Line(self, name)
            if name not in ("main", GRADER):
                acts = self.lines[origin].acts if origin in self.lines else 0
                position = acts if position is None else min(position, acts)
                self._recorder.once("branch", name, origin=origin, position=position)
        return line

    def free_name(self, parent: str, name: str) -> str:
        """A name for a branch below `parent` that no branch has yet, like `name`."""
        plain = _ODD.sub("-", name.removeprefix(f"{parent}/"))[:60].strip(".-") or "branch"
        full, number = f"{parent}/{plain}", 2
        while full in self.lines:
            full, number = f"{parent}/{plain}-{number}", number + 1
        return full

    def submit(self, answer: str = "", files: Mapping[str, bytes] | None = None, branch: str = "main") -> None:
        """What the agent handed in."""
        store = self._recorder.blobs.store
        stored = {name: store(content) for name, content in (files or {}).items()}

        async def answered() -> Mapping[str, Any]:
            return {"answer": answer, "files": stored}

        driven(self._recorder.effect("submit", branch, {"answer": answer}, answered))

    def submit_text(self, text: str) -> None:
        """What the agent handed in as one text: a patch is a file, anything else an answer; nothing is none."""
        if "diff --git" in text:
            self.submit(files={"model.patch": text.encode("utf-8", "replace")})
        elif text:
            self.submit(text)

    def total(self, usage: Usage, cost_usd: float | None) -> None:
        """What the whole took, as the file says; it counts where it is more than what the single calls say."""
        more = usage.total > self.usage.total
        dearer = cost_usd is not None and cost_usd > (self.cost_usd or 0.0) + 1e-9
        if cost_usd is not None and (dearer or self.cost_usd is None or cost_usd > self.cost_usd - 1e-9):
            self.cost_usd = cost_usd
        if more:
            self.usage = usage
        if more or dearer:
            self.line().note("imported.total", usage=usage.to_json(), cost_usd=cost_usd)

    def finish(self) -> None:
        for line in self.lines.values():
            line.finish()

    def close(self) -> None:
        self._recorder.close()

    def imported(self) -> Imported:
        it = self.identity
        return Imported(
            it.format, it.version, self._folder, it.task, it.agent, it.epoch, it.benchmark,
            self._now, it.outcome, it.score,
            self.steps, self.tool_calls, self.messages, self.usage, self.cost_usd, self.losses,
        )  # fmt: skip


def _header(identity: Identity, source: Source) -> dict[str, Any]:
    """Of the same shape as a header of our own, but for what only the maker of an episode can say."""
    return {
        "episode": {
            "benchmark": identity.benchmark or identity.format,
            "task": identity.task,
            "agent": identity.agent,
            "epoch": identity.epoch,
            "seed": 0,
        },
        "benchmark": {"name": identity.benchmark, "version": identity.benchmark_version, "options": {}},
        "scaffold": {"name": identity.agent, "options": {}},
        "models": dict(identity.models),
        "environment": None,
        "imported": {
            "format": identity.format,
            "version": identity.version,
            "file": source.name,
            "sha256": source.sha256,
            "outcome": identity.outcome,
            "score": identity.score,
            **document.without(identity.more),
        },
    }
