"""A run on disk: its folder, its experiment, its results, and the lock of the one process that works on it."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from trellis.runs import experiment as experiments
from trellis.runs import results
from trellis.runs.errors import UsageError
from trellis.runs.experiment import Experiment
from trellis.runs.results import Key, Result
from trellis.trajectories.disk import is_held, replacing, sync
from trellis.trajectories.durability import Storage
from trellis.trajectories.log import StorageFault


class RunFolder:
    """An existing run."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError: this is not the folder of a run."""
        if not _is_run(path):
            raise UsageError(f"{path} is not a run: it has no experiment.toml (trellis list runs shows runs)")
        self.path = path.resolve()

    @classmethod
    def create(cls, runs_dir: Path, experiment: Experiment) -> RunFolder:
        """Make `<date>-<time>-<name>-<4 hex>` under `runs_dir`, with its experiment in it.

        Raises:
            UsageError: the folder cannot be written; nothing is left behind.
        """
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        name = "-".join(filter(None, (stamp, experiment.name and safe_name(experiment.name), secrets.token_hex(2))))
        path = runs_dir / name
        missing = [folder for folder in (runs_dir, *runs_dir.parents) if not folder.exists()]
        draft = runs_dir / f".{name}"
        try:
            draft.mkdir(parents=True)
            (draft / "experiment.toml").write_text(experiment.to_toml(), "utf-8")
            draft.rename(path)
            sync([path / "experiment.toml", path, runs_dir])
        except OSError as error:
            for leftover in (draft / "experiment.toml", draft, *missing):
                _remove(leftover)
            raise UsageError(f"cannot write to {runs_dir}: {error.strerror} (choose another with --runs-dir)") from None
        return cls(path)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def has_experiment(self) -> bool:
        """Episodes that were imported together have none."""
        return (self.path / "experiment.toml").exists()

    def experiment(self) -> Experiment:
        """Raises UsageError: the experiment was damaged, or the episodes were imported."""
        path = self.path / "experiment.toml"
        if not self.has_experiment:
            raise UsageError(f"{self.path} was imported: it has no experiment that could be gone on with")
        return experiments.read(path)

    def results(self) -> dict[Key, Result]:
        """Raises UsageError: a damaged line."""
        try:
            return results.read(self.path / "results.jsonl")
        except ValueError as error:
            raise UsageError(str(error)) from None

    def record(self, result: Result) -> None:
        """Raises StorageFault: the disk refuses."""
        path = self.path / "results.jsonl"
        try:
            results.append(path, result)
        except OSError as error:
            raise StorageFault(path, error) from None

    def write(self, name: str, text: str) -> Path:
        """Write a file that can be made again at any time. Where the disk refuses, it stays as it was, and standard
        error says so."""
        path = self.path / name
        try:
            with replacing(path) as draft:
                draft.write(text.encode())
        except OSError as error:
            print(StorageFault(path, error), file=sys.stderr)
        return path

    def storage(self, *, fsync: bool) -> Storage:
        """How the logs of its episodes are kept."""
        return Storage(fsync, self.path / "blobs")

    def episode(self, key: Key) -> Path:
        """The folder of an episode, relative to the run's."""
        return Path("episodes", safe_name(key.benchmark.replace(":", ".")), safe_name(key.task),
                    safe_name(key.agent), str(key.epoch))  # fmt: skip

    def logs_set_aside(self, key: Key) -> list[Path]:
        """The logs that an episode had before it was begun anew."""
        return set_aside_in(self.path / self.episode(key))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; the lock goes with the process, however that ends.

        Raises:
            UsageError: another process works on the run, or the folder cannot be written.
        """
        try:
            fd = os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(fd, 32).decode().strip() or "unknown"
                raise UsageError(f"{self.path} is being worked on by process {holder}") from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(fd)

    def busy(self) -> bool:
        """Does a process work on the run?"""
        return is_held(self.path / "run.lock")


def find(text: str, runs_dir: Path) -> RunFolder:
    """A run by its path, or by its name (or the only ending that fits, such as its four hex digits) under `runs_dir`.

    Raises:
        UsageError: there is no such run, or more than one.
    """
    if _is_run(Path(text)):
        return RunFolder(Path(text))
    fitting = [p.parent for p in sorted(runs_dir.glob("*/experiment.toml")) if p.parent.name.endswith(text)]
    if len(fitting) > 1:
        raise UsageError(f"{text!r} fits {len(fitting)} runs: {', '.join(p.name for p in fitting[:3])} ...")
    return RunFolder(fitting[0] if fitting and text else Path(text))


def _is_run(path: Path) -> bool:
    """Episodes that were imported together have results and no experiment."""
    return (path / "experiment.toml").is_file() or ((path / "results.jsonl").is_file() and (path / "episodes").is_dir())


def safe_name(text: str, limit: int = 80) -> str:
    """`text` as the name of one file; what had to be changed is told apart by a hash."""
    name = re.sub(r"[^A-Za-z0-9._@+-]+", "-", text)[:limit].lstrip(".-")
    if name and name == text:
        return name
    return "-".join(filter(None, (name, sha256(text.encode()).hexdigest()[:6])))


def set_aside(log: Path) -> None:
    """Keep the log of an episode that is to begin anew beside the new one: `trajectory.1.jsonl`, and so on. What was
    handed in stands in it; nothing is any more."""
    log.with_name("submission.json").unlink(missing_ok=True)
    number = 1 + max((int(old.name.split(".")[1]) for old in set_aside_in(log.parent)), default=0)
    log.rename(log.with_name(log.name.replace("trajectory", f"trajectory.{number}", 1)))


def set_aside_in(folder: Path) -> list[Path]:
    """The logs in an episode's folder of which there is a newer one."""
    return sorted(folder.glob("trajectory.[0-9]*.jsonl*"))


def _remove(path: Path) -> None:
    try:
        path.rmdir() if path.is_dir() else path.unlink()
    except OSError:
        return  # it was never made, or it holds something that is not ours
