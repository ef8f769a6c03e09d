"""Runs of every scaffold that are killed and gone on with, and what is compared with those that nobody killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trellis.environments import leftovers
from trellis.models.messages import Message, ToolResult
from trellis.runs.attempt import load_submission
from trellis.runs.registry import SCAFFOLDS
from trellis.trajectories.log import Event
from trellis.trajectories.recorded import unpack
from trellis.trajectories.trajectory import Trajectory

HERE = Path(__file__).parent
PARTS = str(HERE / "parts.py")
OF_ONE_RUN = ("time_s", "wall_s", "started_at", "ended_at", "head")


@dataclass(frozen=True)
class Row:
    """A scaffold in one of its ways to run."""

    scaffold: str
    split: str
    options: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Of `trellis run`."""
    at_a_time: int = 1
    """So many calls are in flight at most: an answer is in the log before anything comes of it."""
    order: Mapping[str, Any] = field(default_factory=dict)
    """See program.py."""


_TREE = ("review=output", "data_preview=false", "num_drafts=2")
ROWS = {
    "react": Row("react", "script", order={"post": True}),
    "react, snapshot after each call": Row("react", "script", order={"post": True, "checkpoints": True}),
    "react, tools that remember": Row("react", "tools", order={"checkpoints": True}),
    "react, without a world": Row("react", "question"),
    "react, 3 episodes, 2 at a time": Row("react", "script", flags=("--epochs", "3", "--jobs", "2"), at_a_time=2),
    "best_of_n": Row("best_of_n", "repository", ("n=2",)),
    "tree": Row("tree", "script", (*_TREE, "max_nodes=4")),
    "tree, 3 at a time": Row(
        "tree", "script", (*_TREE, "max_nodes=6", "parallel=3"), at_a_time=3, order={"checkpoints": True}
    ),
    "repo_tree": Row("repo_tree", "repository", ("max_nodes=3", "burst_steps=3", "num_drafts=1")),
    "repo_tree, 2 at a time": Row(
        "repo_tree", "repository", ("max_nodes=4", "burst_steps=3", "parallel=2"), at_a_time=2
    ),
    "oracle": Row("oracle", "script"),
    "noop": Row("noop", "script"),
}
assert {row.scaffold for row in ROWS.values()} == SCAFFOLDS.keys(), "a scaffold has no row"


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
    asked_again: int
    """Calls that were in flight when a process was killed, and that the world outside saw again."""
    repeated: int
    """Other calls that the world outside saw again."""
    differs: str = ""
    """In what the result differs from that of a run that was not killed; empty if it does not."""

    @property
    def good(self) -> bool:
        return not (self.differs or self.repeated)


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
        self.asked_again = 0
        self.repeated = 0
        """See `Tried`."""
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
        run, seen = self.run, self.seen
        in_flight = Counter(_calls(run, ended=False)) if run else Counter[str]()
        order = {
            "argv": ["resume", str(run)] if run else self._argv(), "cwd": str(self._folder),
            "environ": {"KILL_WITNESS": str(self._witness)}, **self._row.order, **(kill.to_json() if kill else {}),
        }  # fmt: skip
        answer = self._program.carry_out(order)
        twice = self.seen - Counter(set(self.seen))
        before = seen - Counter(set(seen))
        again = twice - before
        self.asked_again += (again & in_flight).total()
        self.repeated += (again - in_flight).total()
        self.took_s, self.boundaries = answer["took_s"], answer["boundaries"]
        status: int = answer["status"]
        return status

    @property
    def seen(self) -> Counter[str]:
        """The calls that the world outside saw, and how often."""
        return Counter(line for line in self._marks() if line != "again")

    def _argv(self) -> list[str]:
        row = self._row
        options = [part for option in row.options for part in ("-S", option)]
        model = [] if row.scaffold in ("oracle", "noop") else ["--model", f"{PARTS}:Author"]
        return ["run", f"{PARTS}:Small:{row.split}", "--scaffold", row.scaffold, *model,
                "--env", self._kind, "--jobs", "1", *options, *row.flags]  # fmt: skip

    def _marks(self) -> list[str]:
        return self._witness.read_text().splitlines() if self._witness.exists() else []

    @property
    def made_again(self) -> int:
        """How many recorded calls were made again to rebuild worlds."""
        return self._marks().count("again")


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

        def tried(differs: str) -> Tried:
            return Tried(killed, trial.asked_again, trial.repeated, differs)

        for kill in (*kills, None):
            status = trial.go(kill)
            if status not in (0, -9 if kill else 0):
                return tried(f"exit status {status}: {trial.output[-2000:]}")
            killed += status == -9
            if trial.run and (in_flight := Counter(_calls(trial.run, ended=False))).total() > row.at_a_time:
                return tried(f"more calls in flight than there can be: {in_flight}")
        assert trial.run is not None
        found = outcome(trial.run)
        different = [
            f"{name}: {_short(wanted[name])} became {_short(found[name])}"
            for name in wanted
            if wanted[name] != found[name]
        ]
        if lost := trial.seen.keys() - set(_calls(trial.run, ended=True)):
            different.append(f"not in the log: {lost}")
        if left := asyncio.run(leftovers.find(trial.run.name, dead_only=True)):
            different.append(f"left behind: {left}")
        return tried("; ".join(different))


def outcome(run: Path) -> dict[str, Any]:
    """What must be the same, whatever happened on the way."""
    found: dict[str, Any] = {"results": []}
    for line in (run / "results.jsonl").read_text().splitlines():
        found["results"].append({name: value for name, value in json.loads(line).items() if name not in OF_ONE_RUN})
    found["results"].sort(key=lambda result: result["path"])
    for log in sorted(run.rglob("trajectory.jsonl")):
        where, submission = log.parent.relative_to(run), load_submission(log.parent)
        found[f"{where}: submission"] = (submission.answer, dict(submission.files))
        with Trajectory(log) as trajectory:
            events = list(trajectory.file.events())
            notes = [event for event in events if event["kind"].startswith("note.")]
            found[f"{where}: journal"] = [(note["kind"], {**note["data"], "exec_time_s": 0}) for note in notes]
            found[f"{where}: branches"] = {b.name: (b.parent, b.position) for b in trajectory.branches.values()}
            found[f"{where}: effects"] = _effects(trajectory, events)
    return found


def _effects(trajectory: Trajectory, events: Sequence[Event]) -> dict[str, list[Any]]:
    """Branch by branch, what was asked and what was answered, without what clocks say."""
    done = _ends(events)
    effects: defaultdict[str, list[Any]] = defaultdict(list)
    for step in (*trajectory.steps(), *trajectory.judgements()):
        said = [_said(message) for message in trajectory.conversation(step)]
        asked = (step.kind, step.role, step.model, dict(step.config), step.tools, said)
        effects[step.branch].append((*asked, _said(step.reply.message) if step.reply else None))
    for event in events:
        if not event["kind"].endswith(".begun") or event["kind"] == "generate.begun":
            continue
        end = done.get(event["seq"])
        answer: Any = unpack(end["answer"], trajectory.blobs.load) if end else None
        if event["kind"] == "act.begun" and answer:
            result, more = answer["result"], answer.get("changes", ())
            changes = [{**change, "before": 0} for change in more]  # as it was when following began
            answer = (
                result["parts"],
                result["is_error"],
                result["data"].get("exit_code"),
                answer["handed_in"],
                changes,
            )
        effects[f"{event['branch']}, {event['kind']}"].append((event["request"], repr(answer)))
    return dict(effects)


def _said(message: Message) -> str:
    """A message as a model reads it: without how long tools took."""
    parts = (replace(part, data={}) if isinstance(part, ToolResult) else part for part in message.parts)
    return repr(replace(message, parts=tuple(parts)))


def _calls(run: Path, *, ended: bool) -> Iterator[str]:
    """The calls of models and of the server outside that the logs of a run hold, as the witness knows them: those that
    have ended, or those that were in flight."""
    for path in run.rglob("trajectory.jsonl"):
        if not path.stat().st_size or not path.read_bytes().count(b"\n"):
            continue  # killed before its first event
        with Trajectory(path) as trajectory:
            events = list(trajectory.file.events())
        done = _ends(events)
        for event in events:
            if (event["seq"] in done) != ended:
                continue
            if event["kind"] == "generate.begun":
                yield f"model {event['config']['seed']}"
            elif event["kind"] == "discover.begun":
                yield f"discover {path.parent.name}"
            elif event["kind"] == "act.begun" and event["what"]["name"] == "post":
                yield f"post {event['what']['arguments']['text']}"


def _ends(events: Sequence[Event]) -> dict[int, Event]:
    return {event["begun"]: event for event in events if event["kind"].endswith(".done")}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 600 else f"{text[:600]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"
