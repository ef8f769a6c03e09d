"""Kill an episode wherever it can be killed, resume it, and compare with one that nobody killed.

    python tests/kill/table.py [--kinds sandbox,docker,local] [--rows react,tree] [--random N] [--every N] [--jobs N]

Prints the table of docs/durability.md: points tried, points recovered, effects repeated. Every point is a real SIGKILL
of a whole process that runs `trellis run`, and then a `trellis resume`, of which some are killed as well.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from trellis.environments import leftovers, store
from trellis.runs.attempt import load_submission
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.log import Event
from trellis.trajectories.reading import EventFile
from trellis.trajectories.recorded import unpack

HERE = Path(__file__).parent
PARTS = str(HERE / "parts.py")
SIDES = ("before", "torn", "after")
MOST_RESUMES = 3
OF_ONE_RUN = ("time_s", "wall_s", "started_at", "ended_at", "head")


@dataclass(frozen=True)
class Row:
    """A scaffold in one of its ways to run."""

    scaffold: str
    split: str
    options: tuple[str, ...] = ()
    order: Mapping[str, Any] = field(default_factory=dict)
    """See program.py."""


_TREE = ("review=output", "data_preview=false", "num_drafts=2")
ROWS = {
    "react": Row("react", "script", order={"post": True}),
    "react, snapshot after each call": Row("react", "script", order={"post": True, "checkpoints": True}),
    "best_of_n": Row("best_of_n", "repository", ("n=2",)),
    "tree": Row("tree", "script", (*_TREE, "max_nodes=4")),
    "tree, 3 at a time": Row("tree", "script", (*_TREE, "max_nodes=6", "parallel=3"), {"checkpoints": True}),
    "repo_tree": Row("repo_tree", "repository", ("max_nodes=3", "burst_steps=3", "num_drafts=1")),
    "repo_tree, 2 at a time": Row("repo_tree", "repository", ("max_nodes=4", "burst_steps=3", "parallel=2")),
}


@dataclass(frozen=True)
class Kill:
    """Where a process is killed: at a boundary, or some seconds after its start."""

    at: int = 0
    side: str = ""
    after_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.side} boundary {self.at}" if self.at else f"after {self.after_s:.3f} s"

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "side": self.side} if self.at else {"after_s": self.after_s}


@dataclass(frozen=True)
class Tried:
    """What came of one point."""

    killed: int
    """How many processes were killed: none where the run was faster."""
    repeated: int
    """Recorded effects that the world outside saw again."""
    differs: str = ""
    """In what the result differs from that of a run that was not killed; empty if it does not."""


class Program:
    """A process of program.py."""

    def __init__(self, worlds: Path) -> None:
        environ = {**os.environ, "TRELLIS_WORLDS": str(worlds), "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "program.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ,
        )  # fmt: skip

    def carry_out(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Trial:
    """One run in a folder of its own, and what the world outside sees of it."""

    def __init__(self, program: Program, row: Row, kind: str, folder: Path) -> None:
        self._program = program
        self._row = row
        self._kind = kind
        self._folder = folder
        self._witness = folder / "witness"
        self.repeated = 0
        self.took_s = 0.0
        self.boundaries = 0

    @property
    def run(self) -> Path | None:
        return next(iter(self._folder.glob("runs/*-*")), None)

    @property
    def output(self) -> str:
        return (self._folder / "output").read_text()

    def go(self, kill: Kill | None = None) -> int:
        """Begin the run, or go on with it; the exit status, or minus the number of the signal."""
        run = self.run
        seen, recorded = self._seen(), set(_recorded(self.log)) if run else set()
        argv = ["resume", str(run)] if run else self._argv()
        order = {
            "argv": argv, "cwd": str(self._folder), "environ": {"KILL_WITNESS": str(self._witness)},
            **self._row.order, **(kill.to_json() if kill else {}),
        }  # fmt: skip
        answer = self._program.carry_out(order)
        self.repeated += sum(what in recorded for what in self._seen()[len(seen) :])
        self.took_s, self.boundaries = answer["took_s"], answer["boundaries"]
        status: int = answer["status"]
        return status

    @property
    def log(self) -> Path:
        assert self.run is not None
        return self.run / "episodes" / f"parts.py-small.{self._row.split}"

    def _argv(self) -> list[str]:
        row = self._row
        options = [part for option in row.options for part in ("-S", option)]
        return ["run", f"{PARTS}:Small:{row.split}", "--scaffold", row.scaffold, "--model", f"{PARTS}:Author",
                "--env", self._kind, "--jobs", "1", *options]  # fmt: skip

    def _seen(self) -> list[str]:
        return self._witness.read_text().splitlines() if self._witness.exists() else []

    @property
    def made_again(self) -> int:
        """How many recorded calls were made again to rebuild worlds."""
        return self._seen().count("again")


def uninterrupted(program: Program, row: Row, kind: str, folder: Path) -> Trial:
    trial = Trial(program, row, kind, folder)
    status = trial.go()
    assert status == 0, trial.output
    return trial


def attempt(program: Program, row: Row, kind: str, kills: Sequence[Kill], wanted: Mapping[str, Any]) -> Tried:
    """Kill a run, and those that go on with it, and finish it."""
    with tempfile.TemporaryDirectory(prefix="trellis-kill-") as name:
        trial = Trial(program, row, kind, Path(name))
        killed = 0
        for kill in kills:
            status = trial.go(kill)
            if status not in (0, -9):
                return Tried(killed, trial.repeated, f"exit status {status}: {trial.output[-2000:]}")
            killed += status == -9
        if (status := trial.go()) != 0:
            return Tried(killed, trial.repeated, f"exit status {status}: {trial.output[-2000:]}")
        assert trial.run is not None
        found = outcome(trial.run)
        different = [
            f"{name}: {_short(wanted[name])} became {_short(found[name])}"
            for name in wanted
            if wanted[name] != found[name]
        ]
        if left := asyncio.run(leftovers.find(trial.run.name, dead_only=True)):
            different.append(f"left behind: {left}")
        return Tried(killed, trial.repeated, "; ".join(different))


def outcome(run: Path) -> dict[str, Any]:
    """What must be the same, whatever happened on the way."""
    (log,) = run.rglob("trajectory.jsonl")
    result = json.loads((run / "results.jsonl").read_text().splitlines()[-1])
    submission = load_submission(log.parent)
    events = list(_events(log))
    notes = [event for event in events if event["kind"].startswith("note.")]
    return {
        "result": {name: value for name, value in result.items() if name not in OF_ONE_RUN},
        "submission": (submission.answer, dict(submission.files)),
        "journal": [(note["kind"], {**note["data"], "exec_time_s": 0}) for note in notes],
        "effects": _effects(log, events),
    }


def _effects(log: Path, events: Sequence[Event]) -> dict[str, list[Any]]:
    """Branch by branch, what was asked and what was answered, without what clocks say."""
    load, done = Blobs(log.parent / "blobs").load, _ends(events)
    effects = defaultdict(list)
    for event in events:
        if not event["kind"].endswith(".begun"):
            continue
        end = done.get(event["seq"])
        request, answer = event["request"], end and (end.get("message") or unpack(end["answer"], load))
        if event["kind"] == "generate.begun":
            request = event["config"]["seed"]  # what came before it holds how long tools took
        elif event["kind"] == "act.begun" and answer:
            result = answer["result"]
            answer = (result["parts"], result["is_error"], answer["handed_in"], answer.get("changes"))
        effects[event["branch"]].append((event["kind"], request, repr(answer)))
    return dict(effects)


def _recorded(log: Path) -> Iterator[str]:
    """The effects whose answers are in the log, as the witness knows them."""
    for path in log.rglob("trajectory.jsonl"):
        events = list(_events(path))
        done = _ends(events)
        for event in events:
            if event["seq"] not in done:
                continue
            if event["kind"] == "generate.begun":
                yield f"model {event['config']['seed']}"
            elif event["kind"] == "discover.begun":
                yield "discover post"
            elif event["kind"] == "act.begun" and event["what"]["name"] == "post":
                yield f"post {event['what']['arguments']['text']}"


def _ends(events: Sequence[Event]) -> dict[int, Event]:
    return {event["begun"]: event for event in events if event["kind"].endswith(".done")}


def _events(log: Path) -> Iterator[Event]:
    with closing(EventFile(log)) as file:
        yield from file.events()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 600 else f"{text[:600]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def points(boundaries: int, took_s: float, *, every: int = 1, instants: int = 0, seed: int = 0) -> list[list[Kill]]:
    """Every boundary from all three sides (or every so-manieth of these), and random instants; a third of those who go
    on is killed as well."""
    chance = random.Random(seed)
    at = [Kill(number, side) for number in range(1, boundaries + 1) for side in SIDES]
    chosen = at[chance.randrange(every) :: every] + [
        Kill(after_s=chance.uniform(0.02, took_s * 1.05)) for _ in range(instants)
    ]
    again = [
        [Kill(chance.randint(1, boundaries), chance.choice(SIDES))] if chance.random() < 1 / 3 else [] for _ in chosen
    ]
    return [[first, *then] for first, then in zip(chosen, again, strict=True)]


@dataclass
class Tally:
    boundaries: int = 0
    instants: int = 0
    kills: int = 0
    recovered: int = 0
    repeated: int = 0


def measure(name: str, kind: str, programs: Queue[Program], jobs: int, every: int, instants: int) -> Tally:
    row, tally = ROWS[name], Tally()
    program = programs.get()
    with tempfile.TemporaryDirectory(prefix="trellis-kill-") as folder:
        trial = uninterrupted(program, row, kind, Path(folder))
        assert trial.run is not None
        wanted = outcome(trial.run)
    programs.put(program)

    def one(kills: Sequence[Kill]) -> Tried:
        program = programs.get()
        try:
            return attempt(program, row, kind, kills, wanted)
        finally:
            programs.put(program)

    todo = points(trial.boundaries, trial.took_s, every=every, instants=instants)
    with ThreadPoolExecutor(jobs) as threads:
        for number, (kills, tried) in enumerate(zip(todo, threads.map(one, todo), strict=True), 1):
            print(f"\r{name}, {kind}: {number} of {len(todo)} ", end="", file=sys.stderr, flush=True)
            if not tried.killed:
                continue  # it had ended before
            tally.boundaries += bool(kills[0].at)
            tally.instants += not kills[0].at
            tally.kills += tried.killed
            tally.repeated += tried.repeated
            tally.recovered += not tried.differs
            if tried.differs or tried.repeated:
                where = " and ".join(map(str, kills))
                print(f"\n  killed {where}: {tried.repeated} repeated; {tried.differs}", file=sys.stderr)
    print(file=sys.stderr)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="sandbox,docker,local")
    parser.add_argument("--rows", default="", help="beginnings of names")
    parser.add_argument("--random", type=int, default=10, help="random instants per row")
    parser.add_argument("--every", type=int, default=1, help="every so-manieth boundary point")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    worlds = Path(tempfile.mkdtemp(prefix="trellis-kill-", dir="/var/tmp"))
    os.environ["TRELLIS_WORLDS"] = str(worlds)
    programs: Queue[Program] = Queue()
    made = [Program(worlds) for _ in range(options.jobs)]
    for program in made:
        programs.put(program)
    head = "| scaffold | world | boundaries | instants | kills | recovered | effects repeated |"
    lines = [head, "|---|---|---:|---:|---:|---:|---:|"]
    good = True
    try:
        for kind in options.kinds.split(","):
            for name in (name for name in ROWS if name.startswith(tuple(options.rows.split(",")))):
                tally = measure(name, kind, programs, options.jobs, options.every, options.random)
                tried = tally.boundaries + tally.instants
                good &= tally.recovered == tried and not tally.repeated
                lines.append(
                    f"| {name} | {kind} | {tally.boundaries} | {tally.instants} | {tally.kills} | "
                    f"{tally.recovered} of {tried} | {tally.repeated} |"
                )
                print(lines[-1], file=sys.stderr)
    finally:
        for program in made:
            program.close()
        store.remove_tree(worlds)
    print("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
