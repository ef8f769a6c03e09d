"""What the pages of the viewer ask for: runs, a run, an episode, its steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from trellis.trajectories.log import LogError
from trellis.trajectories.trajectory import Trajectory
from trellis.trajectories.viewer.data import EpisodeData, clipped, text_at
from trellis.trajectories.viewer.server import NotThere

WINDOW = 100
"""Steps that are sent at a time, at most."""
FOUND = 500
"""Steps that a search finds, at most."""
TEXT = 1_000_000
"""Characters of a text that are sent at a time."""
WAIT_S = 20.0
POLL_S = 0.3
"""How long a request waits for something new, and how often it looks."""


class Library(Protocol):
    """Where trajectories are, and what is known of them besides."""

    def first(self) -> Mapping[str, Any]:
        """What is opened first: `{"view": "runs" | "run" | "episode", ...}`."""
        ...

    def runs(self) -> Sequence[Mapping[str, Any]]: ...

    def run(self, run: str) -> Mapping[str, Any]:
        """Raises KeyError: there is no such run."""
        ...

    def log(self, episode: str) -> Path:
        """Where the trajectory of an episode is. Raises KeyError: there is no such episode."""
        ...

    def result(self, episode: str) -> Mapping[str, Any] | None:
        """How it ended; None: it has not, or it is not known."""
        ...


class LibraryShelf:
    """Opens trajectories when they are asked for, and keeps them open."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._open: dict[str, EpisodeData] = {}
        self._lock = threading.Lock()
        self._answers: dict[str, Callable[[EpisodeData, Mapping[str, str]], Any]] = {
            "timeline": lambda data, _: data.timeline(),
            "steps": lambda data, query: data.steps(_number(query, "from"), min(WINDOW, _number(query, "count"))),
            "judgements": lambda data, _: data.judgements(),
            "opening": lambda data, query: data.opening(query.get("branch", "")),
            "conversation": lambda data, query: data.conversation(_number(query, "n")),
            "raw": lambda data, query: clipped(data.events(_number(query, "n"))),
            "node": lambda data, query: clipped(data.node(_number(query, "id"))),
            "search": lambda data, query: data.search(query.get("q", ""), FOUND),
            "text": _text,
        }

    def answer(self, path: str, query: Mapping[str, str]) -> Any:
        try:
            match path:
                case "first":
                    return self._library.first()
                case "runs":
                    return self._library.runs()
                case "run":
                    return self._library.run(query.get("run", ""))
                case "episode":
                    return self._overview(query.get("e", ""))
                case "news":
                    return self._news(query.get("e", ""), _number(query, "after"))
            if path not in self._answers:
                raise NotThere(f"there is no {path!r}")
            with self._lock:
                return self._answers[path](self._data(query.get("e", "")), query)
        except (KeyError, IndexError) as error:
            raise NotThere(str(error)) from None
        except (LogError, OSError) as error:
            raise NotThere(str(error)) from None

    def blob(self, episode: str, name: str) -> bytes:
        try:
            with self._lock:
                return self._data(episode).trajectory.blobs.load(name)
        except (KeyError, OSError, ValueError, LogError):
            raise NotThere("there is no such blob") from None

    def close(self) -> None:
        for data in self._open.values():
            data.trajectory.close()

    def _overview(self, episode: str) -> dict[str, Any]:
        with self._lock:
            data = self._data(episode)
            data.trajectory.refresh()
            return {**data.overview(), "result": self._library.result(episode)}

    def _news(self, episode: str, after: int) -> dict[str, Any]:
        """Waits until the log has more than `after` events, or the episode has ended, or for a while."""
        deadline = time.monotonic() + WAIT_S
        while True:
            with self._lock:
                data = self._data(episode)
                data.trajectory.refresh()
                events = len(data.trajectory.file)
            result = self._library.result(episode)
            if events > after or result is not None or time.monotonic() > deadline:
                return {"events": events, "steps": len(data.trajectory), "ended": result is not None}
            time.sleep(POLL_S)

    def _data(self, episode: str) -> EpisodeData:
        if episode not in self._open:
            self._open[episode] = EpisodeData(Trajectory(self._library.log(episode)))
        return self._open[episode]


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise NotThere(f"{name} is not a number: {text[:20]!r}")
    return int(text)


def _text(data: EpisodeData, query: Mapping[str, str]) -> dict[str, Any]:
    """A part of a text that was clipped."""
    whole = text_at(data.step(_number(query, "n")), query.get("at", ""))
    start = _number(query, "from")
    return {"text": whole[start : start + TEXT], "chars": len(whole)}
