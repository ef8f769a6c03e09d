"""The program that is killed: the command line of Trellis, in a fork of this process for each line of standard input.

A line is JSON: `argv`, `cwd`, and how the fork ends: `at` the how-many-th boundary it kills itself (SIGKILL, the whole
process) on `side` "before", "torn" (half of it is written) or "after"; or it is killed after `after_s` seconds. A
boundary is an event of a log, a stored submission or a line of results. With `checkpoints` every call of a tool is
followed by a snapshot. With `sabotage` the code has a fault that the suite must find. The answer is a line of JSON:
`status` (negative: the signal) and `boundaries`, how many there were.

A fork costs milliseconds where another interpreter would cost a second, and dies as thoroughly.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from parts import Post, witness  # type: ignore[import-not-found]

from trellis.environments import kinds
from trellis.environments.environment import EnvironmentSpec  # noqa: F401  (what is imported now, forks need not)
from trellis.environments.sandbox import world as _sandbox  # noqa: F401
from trellis.runs import attempt, cli, commands_run, conduct, report, results  # noqa: F401
from trellis.runs.plan import Cell
from trellis.scaffolds import baselines, best_of_n, react, world  # noqa: F401
from trellis.scaffolds.tree import repository, search  # noqa: F401
from trellis.trajectories import recorder
from trellis.trajectories.log import Log
from trellis.trajectories.recorded import Recorded

PROVENANCE = conduct.provenance()
"""Read once: half of what a short run costs otherwise."""


class Boundaries:
    """Counts what is written, and ends the process at one of them."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._file = Path(order["cwd"], "boundaries")
        self._count = 0

    def cross(self, write: Callable[[], Any], half: Callable[[], object]) -> Any:
        self._count += 1
        self._file.write_text(str(self._count))
        side = self._order.get("side") if self._count == self._order.get("at") else None
        if side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if side == "torn":
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        written = write()
        if side == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return written


def instrument(order: dict[str, Any]) -> None:
    boundaries = Boundaries(order)

    if what := order.get("sabotage"):
        sabotage(what)
    log: Any = recorder.Log  # type: ignore[attr-defined]

    def half(path: Path, write: Callable[[], Any]) -> None:
        """Of what is appended, the first half is written."""
        before = path.stat().st_size if path.exists() else 0
        write()
        os.truncate(path, (before + path.stat().st_size) // 2)

    class KillingLog(log):  # type: ignore[misc]
        def append(self, kind: str, branch: str, at: float, members: str = "", **data: Any) -> int:
            def write() -> int:
                seq: int = super(KillingLog, self).append(kind, branch, at, members, **data)
                return seq

            seq: int = boundaries.cross(write, lambda: half(self.path, write))
            return seq

    store, append = attempt.store_submission, results.append

    def kept(folder: Path, *rest: Any) -> None:
        draft = folder / ".submission.json.new"
        boundaries.cross(lambda: store(folder, *rest), lambda: draft.write_text("{"))

    def appended(path: Path, result: results.Result) -> None:
        boundaries.cross(lambda: append(path, result), lambda: half(path, lambda: append(path, result)))

    again = world.World._again

    async def made_again(self: world.World, number: int, environment: Any) -> None:
        witness("again")
        await again(self, number, environment)

    world.World._again = made_again  # type: ignore[method-assign]
    recorder.Log, attempt.store_submission, results.append = KillingLog, kept, appended  # type: ignore
    Cell.toolsets = lambda self: [Post(self.epoch)] if order.get("post") else []  # type: ignore
    conduct.provenance = lambda: PROVENANCE
    report.write_report = lambda folder, summary: folder.path / "report.html"  # the other half
    if order.get("checkpoints"):
        world.CHECKPOINT_S, world.CHECKPOINT_SHARE = 0.0, 0


class LateLog(Log):
    """Answers are used before they are in it."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._late: list[Callable[[], int]] = []

    def append(self, kind: str, branch: str, at: float, members: str = "", **data: Any) -> int:
        if kind.endswith(".done"):
            self._late.append(lambda: super(LateLog, self).append(kind, branch, at, members, **data))
            return self._late.pop(0)() if len(self._late) > 3 else 0
        return super().append(kind, branch, at, members, **data)

    def close(self) -> None:
        while self._late:
            self._late.pop(0)()
        super().close()


def sabotage(what: str) -> None:
    """Break the code in one way."""

    async def nothing(*_: Any, **__: Any) -> int:
        return 0

    match what:
        case "answers are not logged at once":
            recorder.Log = LateLog  # type: ignore
        case "recorded answers are not found":
            Recorded.next = lambda *_: None  # type: ignore
        case "worlds are not rebuilt":
            world.World._again = nothing  # type: ignore
        case "what was killed is not removed":
            kinds.reap = nothing
        case _:
            raise ValueError(what)


def carry_out(order: dict[str, Any]) -> int:
    """In the fork."""
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.update(order["environ"])
    out = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    instrument(order)
    try:
        return cli.invoke(order["argv"])
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            os._exit(carry_out(order))
        if after_s := order.get("after_s"):
            time.sleep(after_s)
            os.kill(pid, signal.SIGKILL)  # a zombie, if it has ended before
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        count = Path(order["cwd"], "boundaries")
        boundaries = int(count.read_text() or 0) if count.exists() else 0
        count.unlink(missing_ok=True)
        answer = {"status": status, "boundaries": boundaries, "took_s": time.monotonic() - began}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
