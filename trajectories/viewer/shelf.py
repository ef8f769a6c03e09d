"""What the pages of the viewer ask for: runs, a run, an episode, its steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from trellis.trajectories.blobs import BlobDamaged, BlobMissing
from trellis.trajectories.log import LogError
from trellis.trajectories.trajectory import Trajectory
from trellis.trajectories.viewer.data import EpisodeData
from trellis.trajectories.viewer.documents import CLIP, shortened
from trellis.trajectories.viewer.server import NotThere

WINDOW = 100
"""Steps that are sent at a time, at most."""
FOUND = 500
"""Steps that a search finds, at most."""
TEXT = 1_000_000
"""Characters of a text that are sent at a time."""
WAIT_S = 20.0
POLL_S = 0.3
LIVE_S = 2.0
"""How long a request waits for something new, how often it looks, and how often it asks whether more can come."""
SLICE = 200
"""Steps that are read for a timeline before others come in."""
KEPT = 16
"""Trajectories that are kept open."""


class Library(Protocol):
    """Where trajectories are, and what is known of them besides."""

    def first(self) -> Mapping[str, Any]:
        """What is opened first: `{"view": "runs" | "run" | "episode", ...}`."""
        ...

    def runs(self) -> Sequence[Mapping[str, Any]]:
        """Raises KeyError: they cannot be read."""
        ...

    def run(self, run: str) -> Mapping[str, Any]:
        """Raises KeyError: there is no such run."""
        ...

    def log(self, episode: str) -> Path:
        """Where the trajectory of an episode is. Raises KeyError: there is no such episode."""
        ...

    def result(self, episode: str) -> Mapping[str, Any] | None:
        """How it ended; None: it has not, or it is not known."""
        ...

    def live(self, episode: str) -> bool:
        """May its log still grow? Raises KeyError: there is no such episode."""
        ...


class LibraryShelf:
    """Opens trajectories when they are asked for, and keeps the last ones open."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        """Held for moments alone; each open trajectory has a lock of its own."""
        self._open: dict[tuple[str, bool], _Opened] = {}
        """By the name of the episode, and whether it is open for searching. The last used is last."""
        self._answers: dict[str, Callable[[EpisodeData, Mapping[str, str]], Any]] = {
            "timeline": lambda data, _: data.timeline(),
            "steps": lambda data, query: data.steps(_number(query, "from"), min(WINDOW, _number(query, "count"))),
            "judgements": lambda data, _: data.judgements(),
            "opening": lambda data, query: data.opening(query.get("branch", "")),
            "conversation": lambda data, query: data.conversation(_number(query, "n")),
            "raw": lambda data, query: data.events(_number(query, "n")),
            "node": lambda data, query: data.node(query.get("id", "")),
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
            if path == "timeline":
                self._read_ahead(query.get("e", ""))
            if path not in self._answers:
                raise NotThere(f"there is no {path!r}")
            searching = path == "search"  # takes seconds: on a reader of its own, it holds nobody up
            with self._data(query.get("e", ""), searching=searching) as data:
                if searching:
                    data.trajectory.refresh()
                return self._answers[path](data, query)
        except (KeyError, IndexError) as error:
            raise NotThere(str(error.args[0]) if error.args else "there is no such thing") from None
        except OSError as error:
            raise NotThere(str(error)) from None
        except LogError as error:
            raise NotThere(str(error)) from None
        except RecursionError:
            raise NotThere("what is in the log is nested too deeply to be shown") from None

    def blob(self, episode: str, name: str) -> bytes:
        try:
            with self._data(episode) as data:
                blobs = data.trajectory.blobs
            return blobs.load(name)
        except (KeyError, OSError, ValueError, LogError):
            raise NotThere("there is no such blob") from None

    def close(self) -> None:
        with self._lock:
            for key in list(self._open):
                self._forget(key)

    def _overview(self, episode: str) -> dict[str, Any]:
        with self._data(episode) as data:
            data.trajectory.refresh()
            overview = data.overview()
        result = self._library.result(episode)
        return {**overview, "result": shortened(result, CLIP), "live": self._library.live(episode)}

    def _news(self, episode: str, after: int) -> dict[str, Any]:
        """Waits until the log has other than `after` events, or the episode has ended, or for a while."""
        deadline = time.monotonic() + WAIT_S
        look = 0.0
        live = True
        while True:
            with self._data(episode) as data:
                data.trajectory.refresh()
                events, steps = len(data.trajectory.file), len(data.trajectory)
            now = time.monotonic()
            if now >= look:
                live, look = self._library.live(episode), now + LIVE_S
            if events != after or not live or now > deadline:
                return {"events": events, "steps": steps, "ended": not live}
            time.sleep(POLL_S)

    def _read_ahead(self, episode: str) -> None:
        """What a timeline needs, by and by: the first steps are asked for at the same time."""
        first, more = 1, True
        while more:
            with self._data(episode) as data:
                more = data.read_ahead(first, SLICE)
            first += SLICE
            time.sleep(0.001)  # a lock that is taken again at once lets nobody else in

    @contextmanager
    def _data(self, episode: str, *, searching: bool = False) -> Iterator[EpisodeData]:
        """An episode, for this thread alone. Raises KeyError, LogError, OSError."""
        key = episode, searching
        log = self._library.log(episode)
        facts = log.stat()
        place = log, facts.st_dev, facts.st_ino
        with self._lock:
            opened = self._open.pop(key, None)
            if opened is not None and opened.place != place:  # begun afresh, packed, unpacked
                self._open[key] = opened
                self._forget(key)
                opened = None
            self._open[key] = opened = opened or _Opened(place)
            opened.users += 1
            for other in list(self._open)[:-KEPT]:
                self._forget(other)
        try:
            with opened.lock:
                if opened.data is None:
                    opened.data = EpisodeData(Trajectory(log))
                yield opened.data
        except (BlobMissing, BlobDamaged):
            raise
        except (LogError, OSError):  # whoever asks again reads it again
            with self._lock:
                if self._open.get(key) is opened:
                    self._forget(key)
            raise
        finally:
            with self._lock:
                opened.users -= 1
                opened.close_if_unused()

    def _forget(self, key: tuple[str, bool]) -> None:
        opened = self._open.pop(key)
        opened.forgotten = True
        opened.close_if_unused()


class _Opened:
    """A trajectory that is open, and who reads in it."""

    def __init__(self, place: tuple[Path, int, int]) -> None:
        self.place = place
        """The file that was opened: another one may stand there later."""
        self.lock = threading.Lock()
        self.data: EpisodeData | None = None
        self.users = 0
        self.forgotten = False

    def close_if_unused(self) -> None:
        if self.forgotten and not self.users and self.data is not None:
            self.data.trajectory.close()


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise NotThere(f"{name} is not a number: {text[:20]!r}")
    return int(text)


def _text(data: EpisodeData, query: Mapping[str, str]) -> dict[str, Any]:
    """A part of a text that was clipped."""
    whole = data.text(query.get("at", ""))
    start = _number(query, "from")
    return {"text": whole[start : start + TEXT], "chars": len(whole)}
