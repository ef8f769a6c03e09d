"""What the viewer can open: all runs of a folder, one run, or one trajectory wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trellis.runs.errors import UsageError
from trellis.runs.finding import episodes
from trellis.runs.folder import RunFolder
from trellis.runs.results import Key, Result
from trellis.runs.summary import in_order, summarize
from trellis.trajectories.disk import LOG, is_held, log_in
from trellis.trajectories.log import LogError, read


class RunLibrary:
    """Names of episodes are `RUN/benchmark/task/agent/epoch`, as their folders are called; a trajectory that is in no
    run is `-`."""

    def __init__(self, runs_dir: Path, run: RunFolder | None = None, log: Path | None = None) -> None:
        """`run` or `log` is opened first; without them, the list of runs."""
        self._runs_dir = runs_dir
        self._run = run
        self._alone = log
        self._episode = "-"
        self._read: dict[Path, tuple[tuple[int, int, int], Mapping[Key, Result]]] = {}
        """Results, and the state of the file that they were read from."""
        if log is not None and (found := _run_of(log)) is not None:
            self._run = found
            self._episode = _name(found, log.resolve().parent)
            self._alone = None

    def first(self) -> Mapping[str, Any]:
        if self._alone is not None or self._episode != "-":
            return {"view": "episode", "episode": self._episode, "run": self._run and self._run.id}
        if self._run is not None:
            return {"view": "run", "run": self._run.id}
        return {"view": "runs"}

    def runs(self) -> Sequence[Mapping[str, Any]]:
        from trellis.runs.commands_list import runs

        try:
            return list(runs(self._runs_dir))[::-1]
        except (OSError, UsageError) as error:
            raise KeyError(str(error)) from None

    def run(self, run: str) -> Mapping[str, Any]:
        """Raises KeyError: there is no such run, or it cannot be read."""
        folder = self._folder(run)
        try:
            experiment = folder.experiment() if folder.has_experiment else None
            results = self._results(folder).values()
        except (OSError, UsageError) as error:
            raise KeyError(str(error)) from None
        ordered = in_order(experiment, results) if experiment else sorted(results, key=lambda result: result.key)
        known = {result.path for result in ordered}
        under_way = [log for log in episodes(folder) if str(log.parent.relative_to(folder.path)) not in known]
        return {
            "run": folder.id,
            "name": experiment.name if experiment else "",
            "busy": folder.busy(),
            "summary": summarize(ordered, {}).to_json(),
            "experiment": experiment.to_toml() if experiment else "",
            "episodes": [
                *({**result.to_json(), "episode": _name(folder, folder.path / result.path)} for result in ordered),
                *({"episode": _name(folder, log.parent), "outcome": None, **_named(log)} for log in under_way),
            ],
        }

    def log(self, episode: str) -> Path:
        """Raises KeyError: there is no such episode."""
        if episode == "-" and self._alone is not None:
            return self._alone
        folder, path = self._place(episode)
        log = log_in(path)
        if log is None:
            raise KeyError(f"{folder.id} has no episode {episode!r}")
        return log

    def result(self, episode: str) -> Mapping[str, Any] | None:
        if episode == "-":
            return None
        try:
            folder, path = self._place(episode)
            results = self._results(folder)
        except (KeyError, OSError, UsageError):
            return None
        found = next((r for r in results.values() if folder.path / r.path == path), None)
        if found is None or (not found.final and is_held(path / LOG)):  # it is tried again
            return None
        return found.to_json()

    def live(self, episode: str) -> bool:
        if is_held(self.log(episode)):
            return True
        return episode != "-" and self.result(episode) is None and self._place(episode)[0].busy()

    def _place(self, episode: str) -> tuple[RunFolder, Path]:
        """The run and the folder of an episode; no name leads elsewhere. Raises KeyError."""
        run, *parts = episode.split("/")
        if len(parts) != 4 or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise KeyError(f"there is no episode {episode!r}")
        folder = self._folder(run)
        return folder, folder.path.joinpath("episodes", *parts)

    def _results(self, folder: RunFolder) -> Mapping[Key, Result]:
        """Read again only where they have changed. Raises UsageError, OSError."""
        path = folder.path / "results.jsonl"
        try:
            facts = path.stat()
        except FileNotFoundError:
            return {}
        state = facts.st_ino, facts.st_size, facts.st_mtime_ns
        known = self._read.get(folder.path)
        if known is None or known[0] != state:
            known = self._read[folder.path] = (state, folder.results())
        return known[1]

    def _folder(self, run: str) -> RunFolder:
        if self._run is not None and run == self._run.id:
            return self._run
        if run in ("", ".", "..") or Path(run).name != run or "\0" in run:
            raise KeyError(f"there is no run {run!r}")
        try:
            return RunFolder(self._runs_dir / run)
        except UsageError:
            raise KeyError(f"there is no run {run!r}") from None


def _run_of(log: Path) -> RunFolder | None:
    """The run that a trajectory is an episode of; one that was set aside is none."""
    log = log.resolve()
    folders = log.parents
    if len(folders) > 5 and folders[4].name == "episodes" and log_in(log.parent) == log:
        with suppress(UsageError):
            return RunFolder(folders[5])
    return None


def _name(folder: RunFolder, episode: Path) -> str:
    return "/".join((folder.id, *episode.parts[-4:]))


def _named(log: Path) -> dict[str, Any]:
    """Of an episode that has no result yet: as its header says, which folders can only spell; of a log that cannot be
    read, as they do."""
    benchmark, task, agent, epoch = log.parent.parts[-4:]
    spelt = {"benchmark": benchmark, "task": task, "agent": agent, "epoch": int(epoch) if epoch.isdecimal() else 0}
    with suppress(OSError, LogError, StopIteration, KeyError, TypeError):
        said = next(read(log))["episode"]
        return {name: said[name] for name in spelt}
    return spelt
