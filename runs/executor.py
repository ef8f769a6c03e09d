"""Sees to it that every episode of a run is attempted: so many at a time, faults retried, and stopped cleanly."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Protocol

from trellis.benchmarks.benchmark import GraderFault
from trellis.environments.environment import EnvironmentFault
from trellis.models.model import ModelFault, ModelRequestError
from trellis.runs.attempt import Attempt, RunContext, leaves
from trellis.runs.errors import RunStopped
from trellis.runs.plan import Cell
from trellis.runs.results import Result
from trellis.scaffolds.world import Diverged
from trellis.trajectories.blobs import BlobDamaged, BlobMissing
from trellis.trajectories.log import LogError, StorageFault
from trellis.trajectories.redaction import Redaction
from trellis.trajectories.source import ReplayMismatch

RETRYABLE = (EnvironmentFault, ModelFault, GraderFault)
STUCK = (Diverged, ReplayMismatch, BlobMissing, BlobDamaged)
"""Going on from the log would end there again, now or later."""
RETRY_DELAYS_S = (0.2, 2.0, 10.0, 30.0)
CLEANUP_DEADLINE_S = 60.0
"""How long episodes that were cancelled may take to close their worlds."""


class Watcher(Protocol):
    """Is told what happens."""

    def begun(self, attempt: Attempt) -> None: ...

    def ended(self, result: Result) -> None: ...

    def waits(self, line: str) -> None:
        """What models wait for, where it takes long; empty when it is over."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Within it nothing is drawn: the terminal belongs to somebody else."""
        ...


class Interrupted(Exception):
    """Ctrl-C: everything that was under way is closed, and the run can be resumed."""


async def execute(cells: Sequence[Cell], run: RunContext, *, jobs: int, watcher: Watcher) -> None:
    """Attempt every cell, in order, `jobs` at a time, and record each result as soon as it is known.

    Raises:
        RunStopped: a wrong key or a spent cost cap; what was under way is recorded as cancelled.
        Interrupted: after the first SIGINT or SIGTERM.
    """
    waiting = deque(cells)

    async def work() -> None:
        while waiting:
            run.meter.check()
            result = await _see_through(waiting.popleft(), run, watcher)
            try:
                run.folder.record(result)
            except StorageFault as fault:
                raise RunStopped(str(fault)) from None
            watcher.ended(result)

    workers = [asyncio.create_task(work()) for _ in range(min(jobs, len(waiting)))]
    if not workers:
        return
    with _interruptible(workers) as interrupted:
        _, pending = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        if pending:
            _close(pending, status=1)
        await asyncio.gather(*workers, return_exceptions=True)
    if interrupted:
        raise Interrupted
    for worker in workers:
        if not worker.cancelled() and (error := worker.exception()):
            raise error


async def _see_through(cell: Cell, run: RunContext, watcher: Watcher) -> Result:
    """Attempt a cell until it has a result that is no fault, or no retry is left."""
    retries = run.experiment.retries
    for retry in range(retries + 1):
        attempt = Attempt(cell, run)
        watcher.begun(attempt)
        try:
            return replace(await attempt.run(), retries=retry)
        except BaseException as error:
            causes = list(leaves(error))
            stop = next((e for e in causes if isinstance(e, ModelRequestError | RunStopped | StorageFault)), None)
            if stop is not None or _is_cancelled():
                cancelled = attempt.result("cancelled", retries=retry)
                with suppress(StorageFault):  # no line says the same to who resumes
                    run.folder.record(cancelled)
                watcher.ended(cancelled)
                if stop is None:
                    raise
                raise RunStopped(_one_line(stop)) from None
            if not all(isinstance(e, Exception | asyncio.CancelledError) for e in causes):
                raise  # KeyboardInterrupt, SystemExit
            broken = all(isinstance(e, RETRYABLE) for e in causes)
            stuck = next((e for e in causes if isinstance(e, STUCK)), None)
            if retry == retries or stuck is not None or not broken:
                if not broken:
                    _keep_traceback(attempt, run, error)
                said = _fault_text(stuck or causes[0])
                return attempt.result("fault", fault=said, stuck=stuck is not None, retries=retry)
        await asyncio.sleep(RETRY_DELAYS_S[min(retry, len(RETRY_DELAYS_S) - 1)])
    raise AssertionError("unreachable: the last retry returns")


def _is_cancelled() -> bool:
    """Was this worker cancelled from outside? (A scaffold may also leak a CancelledError of its own: a bug.)"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fault_text(error: BaseException) -> str:
    way_on = ". Begin the episode anew with: trellis resume RUN --afresh" if isinstance(error, STUCK) else ""
    return f"{type(error).__name__}: {_one_line(error)}{way_on}"


def _one_line(error: BaseException) -> str:
    return " ".join(Redaction()(str(error)).split())[:600]


def _keep_traceback(attempt: Attempt, run: RunContext, error: BaseException) -> None:
    """A bug of the scaffold's, the benchmark's or ours: whoever mends it wants more than one line. What is wrong with
    a log is said in one."""
    if all(isinstance(e, LogError) for e in leaves(error)):
        return
    folder = run.folder.path / run.folder.episode(attempt.cell.key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fault.txt").write_text(Redaction()("".join(traceback.format_exception(error))), "utf-8")


def _close(workers: Iterable[asyncio.Task[None]], status: int) -> None:
    """Cancel the workers; what does not let itself be cancelled ends with the process when the deadline is over."""

    def give_up() -> None:
        print("some episodes did not close in time; trellis clean removes what they left", file=sys.stderr, flush=True)
        os._exit(status)

    asyncio.get_running_loop().call_later(CLEANUP_DEADLINE_S, give_up)
    for worker in workers:
        worker.cancel()


@contextmanager
def _interruptible(workers: Sequence[asyncio.Task[None]]) -> Iterator[list[int]]:
    """Within it, the first SIGINT or SIGTERM cancels the workers and is noted; the second ends the process."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def receive(number: int) -> None:
        if received:
            os._exit(130)
        received.append(number)
        print("stopping: closing what is under way (once more to kill)", file=sys.stderr, flush=True)
        _close(workers, status=130)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
