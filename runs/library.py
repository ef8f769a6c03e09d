"""What the viewer can open: all runs of a folder, one run, or one trajectory wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trellis.runs.errors import UsageError
from trellis.runs.finding import episodes
from trellis.runs.folder import RunFolder
from trellis.runs.results import Result
from trellis.runs.summary import in_order, summarize


class RunLibrary:
    """Names of episodes are `RUN/benchmark/task/agent/epoch`, as their folders are called; a trajectory that is in no
    run is `-`."""

    def __init__(self, runs_dir: Path, run: RunFolder | None = None, log: Path | None = None) -> None:
        """`run` or `log` is opened first; without them, the list of runs."""
        self._runs_dir = runs_dir
        self._run = run
        self._alone = log
        self._episode = "-"
        if log is not None and (found := _run_of(log)) is not None:
            self._run = found
            self._episode = "/".join((found.id, *log.parent.parts[-4:]))

    def first(self) -> Mapping[str, Any]:
        if self._alone is not None:
            return {"view": "episode", "episode": self._episode, "run": self._run and self._run.id}
        if self._run is not None:
            return {"view": "run", "run": self._run.id}
        return {"view": "runs"}

    def runs(self) -> Sequence[Mapping[str, Any]]:
        from trellis.runs.commands_list import runs

        return list(runs(self._runs_dir))[::-1]

    def run(self, run: str) -> Mapping[str, Any]:
        """Raises KeyError: there is no such run, or it cannot be read."""
        folder = self._folder(run)
        try:
            experiment, results = folder.experiment(), folder.results()
        except UsageError as error:
            raise KeyError(str(error)) from None
        ordered = in_order(experiment, results.values())
        known = {result.path for result in ordered}
        under_way = [log for log in episodes(folder) if str(log.parent.relative_to(folder.path)) not in known]
        return {
            "run": folder.id,
            "name": experiment.name,
            "busy": folder.busy(),
            "summary": summarize(ordered, {}).to_json(),
            "experiment": experiment.to_toml(),
            "episodes": [
                *({**result.to_json(), "episode": _name(folder, folder.path / result.path)} for result in ordered),
                *({"episode": _name(folder, log.parent), "outcome": None, **_named(log)} for log in under_way),
            ],
        }

    def log(self, episode: str) -> Path:
        """Raises KeyError: there is no such episode."""
        if episode == "-" and self._alone is not None:
            return self._alone
        run, _, rest = episode.partition("/")
        folder = self._folder(run)
        for log in episodes(folder):  # only what is there can be asked for: no name leads elsewhere
            if _name(folder, log.parent) == f"{run}/{rest}":
                return log
        raise KeyError(f"there is no episode {episode!r}")

    def result(self, episode: str) -> Mapping[str, Any] | None:
        if episode == "-":
            return None
        run, _, rest = episode.partition("/")
        try:
            results = self._folder(run).results()
        except (KeyError, UsageError):
            return None
        return next((r.to_json() for r in results.values() if r.path == f"episodes/{rest}" and _ended(r)), None)

    def _folder(self, run: str) -> RunFolder:
        if self._run is not None and run == self._run.id:
            return self._run
        path = self._runs_dir / run
        if not run or Path(run).name != run or not (path / "experiment.toml").is_file():
            raise KeyError(f"there is no run {run!r}")
        return RunFolder(path)


def _ended(result: Result) -> bool:
    return result.outcome != "cancelled"


def _run_of(log: Path) -> RunFolder | None:
    """The run that a trajectory lies in."""
    folders = log.resolve().parents
    if len(folders) > 5 and (folders[5] / "experiment.toml").is_file():
        return RunFolder(folders[5])
    return None


def _name(folder: RunFolder, episode: Path) -> str:
    return "/".join((folder.id, *episode.parts[-4:]))


def _named(log: Path) -> dict[str, Any]:
    """Of an episode that has no result yet."""
    benchmark, task, agent, epoch = log.parent.parts[-4:]
    return {"benchmark": benchmark, "task": task, "agent": agent, "epoch": int(epoch) if epoch.isdecimal() else 0}
