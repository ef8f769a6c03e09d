"""Verified replay: every recorded tool call is made again in a fresh world, without a model and without the scaffold,
and what comes of it is compared with what was recorded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from trellis.environments import kinds
from trellis.environments.environment import Environment, EnvironmentSpec, Snapshot
from trellis.models.messages import Image, ToolCall, ToolResult
from trellis.models.model import ToolSpec
from trellis.runs.reopening import Reopened
from trellis.scaffolds.changes import FollowedFiles
from trellis.scaffolds.task import Submission, submission_from_json
from trellis.scaffolds.world import NoEnvironment, as_logged, perform
from trellis.tools.tool import Tool, ToolOfSet
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.normalise import Comparison, compare_results, text_of
from trellis.trajectories.recorded import GRADER, MAIN
from trellis.trajectories.redaction import Redaction
from trellis.trajectories.trajectory import Act, Trajectory

SAME = Comparison()
SHELL = "shell"
"""The tool of ours that importers give other frameworks' shells."""
_IN_WORLD = ("act.begun", "submit.begun")
Verdict = Literal["equal", "normalised", "different", "not replayed"]
NOT: Verdict = "not replayed"


@dataclass(frozen=True, slots=True)
class Again:
    """A tool call, or a handing in, that was made again."""

    seq: int
    """Of the recorded event that begins it."""
    step: int
    """Number of the step that set it off; 0: before the first of its branch."""
    branch: str
    name: str
    """Of the tool; `submit` for what was handed in."""
    call: str
    """Its arguments in a line."""
    verdict: Verdict
    why: str = ""
    """Why it was not replayed, or what differs."""
    comparison: Comparison = SAME
    recorded: str = ""
    now: str = ""
    """The observations, where they differ."""
    files: tuple[str, ...] = ()
    """Files that came out different, one line each."""

    def to_json(self) -> dict[str, Any]:
        different = self.comparison.difference
        return {
            "step": self.step, "branch": self.branch, "event": self.seq, "tool": self.name, "call": self.call,
            "verdict": self.verdict, "why": self.why,
            "normalised": [{"what": f.name, "examples": list(map(list, f.examples))} for f in self.comparison.forgiven],
            "difference": different and {"line": different.line, "recorded": different.recorded, "now": different.now},
            "files": list(self.files),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a trajectory is replayed."""

    upto: int | None = None
    """The last step."""
    branch: str | None = None
    """Only this branch, and what its world came from."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The world of a branch while it is made again."""

    environment: Environment
    followed: FollowedFiles


class Reexecution:
    """Replays one trajectory. The worlds of its branches begin where the log says that they began."""

    def __init__(self, trajectory: Trajectory, again: Reopened, spec: EnvironmentSpec | None, bounds: Bounds) -> None:
        """`spec`: the recipe of the worlds; None for a task without one."""
        self._trajectory = trajectory
        self._again = again
        self._spec = spec
        self._wanted = _lineage(trajectory, bounds.branch)
        self._end = len(trajectory.file)
        if bounds.upto is not None:
            self._end = trajectory.last_event(trajectory.step(bounds.upto)) + 1
        self._label = f"replay/{hashlib.sha256(str(trajectory.path.resolve()).encode()).hexdigest()[:12]}"
        self._tools: dict[str, Tool] = {tool.spec.name: tool for tool in again.cell.tools()}
        self._toolsets = {toolset.name: toolset for toolset in again.cell.toolsets()}
        self._performed = {seq for branch in trajectory.branches for seq in trajectory.performed(branch)}
        self._lines: dict[str, _Line] = {}
        self._acts: Counter[str] = Counter()
        """By branch: those that its world counts."""
        self._captured: dict[tuple[str, int], Snapshot | None] = {}
        self._origins = {(b.parent, b.position) for b in trajectory.branches.values() if b.parent is not None}
        self._step_of = _steps(trajectory)
        self._imported = "imported" in trajectory.header
        self._redact = Redaction()
        self._blobs: Blobs | None = None
        self.not_compared = 0
        """Calls whose changed files were not recorded, or cannot be told here."""

    async def calls(self) -> AsyncGenerator[Again, None]:
        """Each call of the log, in its order, made again.

        Raises:
            EnvironmentFault: a world broke, or could not be started.
        """
        async with AsyncExitStack() as leaving:
            folder = leaving.enter_context(TemporaryDirectory(prefix="trellis-replay-"))
            self._blobs = Blobs(Path(folder))
            if self._spec is not None:
                leaving.push_async_callback(kinds.reap, self._label)
            leaving.push_async_callback(self._close)
            for toolset in self._toolsets.values():
                leaving.push_async_callback(toolset.close)
            last = {branch: seq for seq, kind, branch in self._events() if kind in _IN_WORLD}
            for seq, kind, branch in self._events():
                match kind:
                    case "discover.begun":
                        self._offer(seq)
                    case "act.begun":
                        yield await self._act(self._trajectory.act(seq))
                    case "submit.begun":
                        yield await self._submit(seq, branch)
                if last.get(branch) == seq and branch in self._lines:
                    await self._lines.pop(branch).environment.close()

    def _events(self) -> Iterator[tuple[int, str, str]]:
        for seq, entry in enumerate(self._trajectory.file.entries[: self._end]):
            if entry.branch != GRADER and (self._wanted is None or entry.branch in self._wanted):
                yield seq, entry.kind, entry.branch

    def _offer(self, seq: int) -> None:
        """The tools of a server, as it told of them then."""
        found = self._trajectory.note(seq).data
        toolset = self._toolsets.get(found["what"]["toolset"])
        for spec in (found["answer"] or {"tools": ()})["tools"]:
            if toolset is not None:
                self._tools[spec["name"]] = ToolOfSet(toolset, ToolSpec(**spec))

    async def _act(self, act: Act) -> Again:
        made = Again(act.seq, self._step_of.get(act.seq, 0), act.branch, act.call.name, text_of(act.call), NOT)
        if act.result is None:
            return replace(made, why="it was cut off, and has no result to compare with")
        if act.seq not in self._performed:
            return replace(made, why="it was denied")
        if why := self._no_world(act.branch) or self._not_ours(act):
            await self._count(act.branch)
            return replace(made, why=why)
        line = await self._line(act.branch)
        result, _ = await perform(self._tools, act.call, line.environment)
        taken = await line.followed.taken(line.environment)
        await self._count(act.branch)
        files: tuple[str, ...] = ()
        if act.followed and "changes" in taken:
            files = tuple(_different_files(act.changes, taken["changes"]))
            if act.more_changes != (more := taken.get("more_changes", 0)):
                files = (*files, f"{more} files more, were {act.more_changes}")
        elif self._spec is not None:
            self.not_compared += 1
        return _compared(made, act.call, act.result, as_logged(result, self._redact), files)

    def _no_world(self, branch: str) -> str:
        """Why there is no world to do anything of this branch in; empty if there is."""
        seen: set[str] = set()
        at: str | None = branch if self._spec is not None else MAIN
        while at is not None and at != MAIN and at not in seen and at in self._trajectory.branches:
            seen.add(at)
            known = self._trajectory.branches[at]
            if known.position and known.parent is not None:
                if (known.parent, known.position) in self._captured:
                    return ""
                return f"its world began after call {known.position} of {known.parent}, which was not made again"
            at = known.parent
        return "" if at == MAIN else "it is not recorded where its world began"

    def _not_ours(self, act: Act) -> str:
        """Why a call cannot be made again; empty if it can."""
        tool = self._tools.get(act.call.name)
        if act.call.malformed:
            return "its arguments were malformed: nothing was done"
        if tool is None:
            return "there is no such tool here"
        if isinstance(tool, ToolOfSet) and not tool.toolset.in_world:
            return f"its server {tool.toolset.name} is outside the world"
        if self._imported and act.call.name != SHELL and tool.spec not in self._offered(act.seq):
            return "a tool of another framework, of the same name as one of ours"
        return ""

    def _offered(self, seq: int) -> tuple[ToolSpec, ...]:
        """The tools that the model had when it made this call."""
        number = self._step_of.get(seq)
        return self._trajectory.tools(self._trajectory.step(number).tools) if number else ()

    async def _count(self, branch: str) -> None:
        """Another call of a branch's world is done. Where other branches began then, it is captured."""
        self._acts[branch] += 1
        point = branch, self._acts[branch]
        if point in self._origins and self._spec is not None and not self._no_world(branch):
            self._captured[point] = await (await self._line(branch)).environment.snapshot()

    async def _submit(self, seq: int, branch: str) -> Again:
        effect = self._trajectory.note(seq).data
        answer = effect["what"]["answer"]
        made = Again(seq, self._step_of.get(seq, 0), branch, "submit", answer, NOT)
        if effect["answer"] is None:
            return replace(made, why="it was cut off")
        if self._imported:
            return replace(made, why="what another framework takes for a submission is not collected here")
        if why := self._no_world(branch):
            return replace(made, why=why)
        was = submission_from_json(effect["answer"], self._trajectory.blobs.load)
        environment = (await self._line(branch)).environment if self._spec is not None else None
        now = await self._again.cell.planned.benchmark.collect(self._again.cell.task, environment, answer)
        different = tuple(_different_artefacts(was, now))
        return replace(made, verdict="different" if different else "equal", files=different,
                       why="what was handed in" if different else "")  # fmt: skip

    async def _line(self, branch: str) -> _Line:
        if branch not in self._lines:
            assert self._blobs is not None
            if self._spec is None:
                environment: Any = NoEnvironment()
            else:
                environment = await self._spec.start(label=self._label, snapshot=await self._origin(branch))
            followed = FollowedFiles(self._blobs, self._redact)
            self._lines[branch] = _Line(environment, followed)
            await followed.begin(environment)
        return self._lines[branch]

    async def _origin(self, branch: str) -> Snapshot | None:
        """Where a branch's world begins; None: with the task's recipe."""
        known = self._trajectory.branches[branch]
        if known.parent is None:
            return None
        if known.position == 0:
            return await self._origin(known.parent)
        return self._captured[known.parent, known.position]

    async def _close(self) -> None:
        for line in self._lines.values():
            await line.environment.close()


def _compared(made: Again, call: ToolCall, recorded: ToolResult, now: ToolResult, files: tuple[str, ...]) -> Again:
    why, comparison = compare_results(recorded, now, call)
    why = why or ("other files" if files else "other images" if _images(recorded) != _images(now) else "")
    verdict: Verdict = "different" if why else "equal" if comparison.exact else "normalised"
    made = replace(made, verdict=verdict, why=why, comparison=comparison, files=files)
    return replace(made, recorded=recorded.text, now=now.text) if why else made


def _images(result: ToolResult) -> list[bytes]:
    return [part.data for part in result.parts if isinstance(part, Image)]


def _different_files(recorded: Any, now: Any) -> Iterator[str]:
    was, is_now = ({file["path"]: file for file in files} for files in (recorded, now))
    for path in sorted(was.keys() | is_now.keys()):
        if path not in is_now:
            yield f"{path}: was {was[path]['kind']}, and is not touched now"
        elif path not in was:
            yield f"{path}: is {is_now[path]['kind']} now"
        else:
            for member in ("kind", "mode", "sha256"):
                if was[path][member] != is_now[path][member]:
                    yield f"{path}: {member} {is_now[path][member]}, was {was[path][member]}"
                    break


def _different_artefacts(was: Submission, now: Submission) -> Iterator[str]:
    if was.answer != now.answer:
        yield "the answer"
    for name in sorted(was.files.keys() | now.files.keys()):
        if was.files.get(name) != now.files.get(name):
            yield name


def _lineage(trajectory: Trajectory, branch: str | None) -> set[str] | None:
    """The branch and those that its world came from; None: all."""
    if branch is None:
        return None
    names = set()
    while branch is not None and branch not in names:
        names.add(branch)
        branch = trajectory.branches[branch].parent
    return names


def _steps(trajectory: Trajectory) -> Mapping[int, int]:
    """Event of an act or submission -> number of its step."""
    return {seq: number for number in range(1, len(trajectory) + 1) for seq in trajectory.inner(number)}
