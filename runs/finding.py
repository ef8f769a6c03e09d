"""What somebody means on the command line: a trajectory, and a step of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from trellis.runs.errors import UsageError
from trellis.runs.folder import RunFolder, find, safe_name, set_aside_in
from trellis.trajectories.disk import LOG, log_in
from trellis.trajectories.log import LogError
from trellis.trajectories.trajectory import Step, Trajectory

_SHOWN = 4
"""How many of the things that would be right are named."""


def episodes(run: RunFolder) -> list[Path]:
    """The trajectories of a run, sorted by benchmark, task, agent and epoch."""
    folders = sorted((run.path / "episodes").glob("*/*/*/*"), key=_in_order)
    return [log for folder in folders if (log := log_in(folder))]


def logs_of(run: RunFolder) -> list[Path]:
    """All its trajectories: of its episodes, those of when they were scored again, and those that were set aside."""
    logs = []
    for episode in episodes(run):
        scored = (log_in(folder) for folder in sorted(episode.parent.glob("scored-*")))
        logs += [episode, *filter(None, scored), *set_aside_in(episode.parent)]
    return logs


def find_logs(text: str, runs_dir: Path) -> tuple[RunFolder | None, list[Path]]:
    """All trajectories of the run that `text` names, or else the one that it names. Raises UsageError."""
    path = Path(text)
    if not path.is_file() and log_in(path) is None:
        with suppress(UsageError):
            run = find(text, runs_dir)
            return run, logs_of(run)
    return None, [find_trajectory(text, runs_dir)]


def find_trajectory(text: str, runs_dir: Path) -> Path:
    """The trajectory that `text` names: the path of one (plain or packed), an episode's folder, `RUN/TASK/AGENT/EPOCH`
    (as much of it as is needed to tell one episode from the others; RUN as `folder.find` takes it).

    Raises:
        UsageError: there is none, or more than one.
    """
    path = Path(text)
    if path.is_file():
        return path
    if log := log_in(path):
        return log
    run, rest = _split(text, runs_dir)
    there = episodes(run)
    if not there:
        raise UsageError(f"{run.path} has no episodes yet")
    fitting = [log for log in there if _fits(rest, log.parent.parts[-4:]) or _fits(rest, log.parent.parts[-3:])]
    if not fitting:
        wanted, names = "/".join(rest), [name_of(log) for log in there]
        near = get_close_matches(wanted, names, n=_SHOWN, cutoff=0.6)
        raise UsageError(f"{run.path} has no episode {wanted}; it has {_some([*near, *sorted({*names} - {*near})])}")
    if len(fitting) > 1:
        named = _some(f"{run.id}/{name_of(log)}" for log in fitting)
        raise UsageError(f"{text} has {len(fitting)} episodes; say which: {named}")
    return fitting[0]


def find_trajectories(text: str, runs_dir: Path) -> list[Path]:
    """All that `text` names: those of a whole run, or one as `find_trajectory` takes it.

    Raises:
        UsageError: there is none.
    """
    path = Path(text)
    if not path.is_file() and log_in(path) is None:
        with suppress(UsageError):
            if there := episodes(find(text, runs_dir)):
                return there
    return [find_trajectory(text, runs_dir)]


def open_trajectory(text: str, runs_dir: Path) -> Trajectory:
    """The trajectory that `text` names, opened.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    path = find_trajectory(text, runs_dir)
    try:
        return Trajectory(path)
    except LogError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def find_step(trajectory: Trajectory, text: str) -> Step:
    """The step of this number, or of this `BRANCH:TURN`.

    Raises:
        UsageError: there is none.
    """
    branch, colon, turn = text.rpartition(":")
    if not turn.isascii() or not turn.isdecimal():
        raise UsageError(f"{text!r} is no step: give its number, such as 3, or BRANCH:TURN, such as main:3")
    if not colon:
        try:
            return trajectory.step(int(turn))
        except IndexError as error:
            raise UsageError(str(error)) from None
    steps = {name: numbers for name, held in trajectory.branches.items() if (numbers := [n for n in held.steps if n])}
    if branch not in steps:
        raise UsageError(f"{trajectory.path} has no steps on branch {branch!r}; its branches are {_some(steps)}")
    numbers = steps[branch]
    if not 1 <= int(turn) <= len(numbers):
        raise UsageError(f"branch {branch} has turns 1 to {len(numbers)}; there is no turn {turn}")
    return trajectory.step(numbers[int(turn) - 1])


def name_of(log: Path) -> str:
    """ "TASK/AGENT/EPOCH" of a trajectory in a run."""
    return "/".join(log.parent.parts[-3:])


def _split(text: str, runs_dir: Path) -> tuple[RunFolder, Sequence[str]]:
    """The run that `text` begins with (the longest beginning that is one), and the rest of it. Raises UsageError."""
    parts = text.rstrip("/").split("/")
    problem = ""
    for end in range(len(parts), 0, -1):
        try:
            return find("/".join(parts[:end]), runs_dir), parts[end:]
        except UsageError as error:
            problem = str(error) if end == len(parts) or parts[0] else problem
    raise UsageError(
        f"{text} is no trajectory (a path to a {LOG}, an episode's folder, or RUN/TASK/AGENT/EPOCH): {problem}"
    )


def _fits(rest: Sequence[str], names: Sequence[str]) -> bool:
    """Does the rest of an argument say these names of folders, or the first of them? What is said may hold slashes."""
    if not rest:
        return True
    if not names:
        return False
    return any(
        names[0] in (said := "/".join(rest[:end]), safe_name(said)) and _fits(rest[end:], names[1:])
        for end in range(1, len(rest) + 1)
    )


def _in_order(folder: Path) -> tuple[object, ...]:
    epoch = folder.name
    return (*folder.parts[-4:-1], int(epoch) if epoch.isdecimal() else 0, epoch)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (f" ... ({len(listed)})" if len(listed) > _SHOWN else "")
