"""An episode is a durable program: one attempt of a scaffold at a task, in which every effect is recorded.

`generate` asks a model, `act` calls a tool in the world, `branch` forks the world, `submit` hands in. Each is appended
to the trajectory before its result is handed back; opened over an existing trajectory, recorded effects answer from
it, and the rest happens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from trellis.environments import kinds
from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, Snapshot, StartWorld
from trellis.models.messages import Message, Text, ToolCall, ToolResult, part_from_json, part_to_json
from trellis.models.model import GenerateConfig, Model, Reply, TokenCount, ToolSpec, Usage
from trellis.scaffolds.approval import Approve, Decision
from trellis.scaffolds.asking import ContextFull, Models, Window, same_limit, spent
from trellis.scaffolds.budget import Budget, LimitReached
from trellis.scaffolds.changes import FollowedFiles
from trellis.scaffolds.task import Submission, Task, submission_from_json, submission_to_json
from trellis.scaffolds.world import World, WorldSnapshot, no_environment, recorded_snapshots
from trellis.tools.tool import Tool, ToolOfSet, Toolset
from trellis.trajectories.durability import Storage
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.source import Source

__all__ = ["Budget", "ContextFull", "Episode", "LimitReached", "Refused", "WorldSnapshot"]

Collect = Callable[[Environment | None, str], Awaitable[Submission]]


class Refused(Exception):
    """The model declined the task. The episode ends with that outcome and is scored with what was handed in."""


@dataclass
class _Shared:
    """What all branches of an episode have in common."""

    recorder: Recorder
    models: Models
    collect: Collect
    tools: dict[str, Tool]
    """By name; worlds share it."""
    has_world: bool
    approve: Approve | None = None
    record_changes: bool = True
    worlds: list[World] = field(default_factory=list)
    branches: set[str] = field(default_factory=set)
    submitted: Submission | None = None
    submitted_seq: int = -1
    """Of the event that tells of it."""

    async def close_worlds(self) -> None:
        for world in self.worlds:
            await world.close()


class Episode:
    """All that a loop can reach; one object per branch, the root is `main`."""

    def __init__(self, name: str, task: Task, tools: Sequence[Tool], budget: Budget, shared: _Shared, world: World):
        self.name = name
        self.task = task
        self.tools = tools
        self.budget = budget
        self.random = Random(f"{shared.models.seed}/{name}")
        self._shared = shared
        self._world = world
        self._used = 0
        self._handed_in: Submission | None = None
        followed = shared.has_world and shared.record_changes
        self._files = FollowedFiles(shared.recorder.blobs, shared.recorder.log.redact) if followed else None
        shared.worlds.append(world)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path | None,
        *,
        task: Task,
        tools: Sequence[Tool],
        models: Mapping[str, Model],
        seed: int,
        budget: Budget,
        collect: Collect,
        label: str,
        environment: EnvironmentSpec | None,
        header: Mapping[str, Any],
        start_world: StartWorld = EnvironmentSpec.start,
        approve: Approve | None = None,
        toolsets: Sequence[Toolset] = (),
        source: Source | None = None,
        record_changes: bool = True,
        storage: Storage = Storage(),
    ) -> AsyncIterator[Episode]:
        """Open an episode over `folder/trajectory.jsonl`, or re-open it: recorded effects then answer from the log.
        What it does not hold, `source` may answer (a fork, a replay). Without a folder nothing is written.

        `header["episode"]` identifies the episode and must be the same when it is re-opened. `models` go by role
        ("main", "judge", ...). What the `toolsets` offer comes after the `tools`. `approve` decides on every tool call
        before it is made; without it all are made. With `record_changes`, which files a call changed is recorded with
        its result, where the environment tells it. On exit every world of the episode is closed.

        Raises:
            LogError: the log is damaged, in use, or another episode's.
            StorageFault: the disk refuses, now or at any effect.
            EnvironmentFault: a toolset cannot be used.
        """
        recorder = Recorder(folder, header, source=source, storage=storage)
        budget.clock = lambda: recorder.now
        budget.ahead = lambda: spent(recorder.ahead())

        async def start(snapshot: Snapshot | None, branch: str) -> Environment:
            assert environment is not None

            def happened(kind: str, facts: Mapping[str, Any]) -> None:
                recorder.event(f"environment.{kind}", branch, facts=facts)

            return await start_world(environment, label=label, snapshot=snapshot, on_event=happened)

        by_name = {tool.spec.name: tool for tool in tools}
        world = World("main", by_name, start if environment else no_environment, recorder)
        asked = Models(models, seed, recorder, source)
        shared = _Shared(recorder, asked, collect, by_name, environment is not None, approve, record_changes)
        episode = cls("main", task, tools, budget, shared, world)
        async with AsyncExitStack() as leaving:  # all of it is done, whatever fails
            leaving.callback(recorder.close)
            if environment is not None and not (source and source.alone):
                leaving.push_async_exit(_reap(label, recorder.log.path))
            leaving.push_async_callback(shared.close_worlds)
            for toolset in toolsets:
                leaving.push_async_callback(toolset.close)
            for toolset in toolsets:
                await episode._discover(toolset)
            yield episode

    # --- effects ---

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] | None = None,
        role: str = "main",
        config: GenerateConfig | None = None,
    ) -> Reply:
        """Ask the model of `role` (the main model where the agent has none for that role). `tools=None` offers the
        episode's tools, `()` none.

        Raises:
            LimitReached: the budget is spent.
            ContextFull: the model says that the conversation is too long for it.
            ModelFault, ModelRequestError: the provider failed, or the request can never succeed.
        """
        models, specs = self._shared.models, self._specs(tools)
        return await models.spend(self.budget, self.name, role, messages, specs, config)

    async def compact(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] | None = None, role: str = "main"
    ) -> Reply:
        """Have the provider shorten a conversation (see `Compacts`): an effect like any call of a model, and a step on
        the agent's budget. Raises as `generate` does, ModelRequestError also where the model cannot do it."""
        models, specs = self._shared.models, self._specs(tools)
        return await models.spend(self.budget, self.name, role, messages, specs, kind="compact")

    async def act(self, call: ToolCall) -> ToolResult:
        """Use a tool in this branch's world. The model's mistakes come back as results, and so do calls that are not
        approved.

        Raises:
            LimitReached: the time is up.
            EnvironmentFault: the world broke.
        """
        request = part_to_json(call)
        request.pop("raw", None)
        recorder = self._shared.recorder
        if not (recorder.recorded("act", self.name) or recorder.recorded("approval", self.name)):
            with same_limit(recorder, "act", self.name):
                self.budget.check()
        refusal = await self._refusal(call, request)

        async def answer() -> Mapping[str, Any]:
            if refusal:
                return {
                    "result": part_to_json(ToolResult(call.id, call.name, (Text(refusal),), True)),
                    "handed_in": None,
                }
            environment = await self._world.environment()
            if self._files:
                await self._files.begin(environment)
            result, output = await self._world.perform(call)
            changed = await self._files.taken(environment) if self._files else {}
            return {"result": part_to_json(result, recorder.blobs.store), "handed_in": output.answer, **changed}

        answered, from_log = await recorder.effect("act", self.name, request, answer)
        result = part_from_json(answered["result"], recorder.blobs.load)
        assert isinstance(result, ToolResult)
        if not refusal:  # what was not done is not done again when the world is rebuilt
            await self._world.remember(call, result, performed=not from_log)
        if answered["handed_in"] is not None:
            await self.submit(answered["handed_in"])
        return result

    async def _refusal(self, call: ToolCall, request: Mapping[str, Any]) -> str:
        """What the model is told of a call that is not approved; empty if it is. Recorded: nobody is asked twice."""
        approve, budget = self._shared.approve, self.budget
        if approve is None:
            return ""

        async def decide() -> Mapping[str, Any]:
            asked_at = budget.begin_wait()
            try:
                decision = await approve(call, self.name)
            finally:
                waited_s = budget.end_wait(asked_at)
            return {**decision.to_json(), "asked_at": round(asked_at, 6), "waited_s": round(waited_s, 6)}

        answered, from_log = await self._shared.recorder.effect("approval", self.name, request, decide)
        if from_log:
            budget.wait(answered["asked_at"], answered["asked_at"] + answered["waited_s"])
        return "" if answered["allowed"] else Decision(False, answered["reason"], answered["by"]).refusal

    async def use(self, tool: str, **arguments: Any) -> ToolResult:
        """The scaffold's own use of one of its tools; recorded like any other act."""
        self._used += 1
        return await self.act(ToolCall(f"{self.name}-use-{self._used}", tool, arguments))

    @asynccontextmanager
    async def branch(self, name: str, *, at: WorldSnapshot | None = None) -> AsyncIterator[Episode]:
        """A line of effects of its own, in a world forked from `at`, or from this branch's world as it is now.

        The branch shares budget and submission with the episode; its world is closed on exit.

        Raises:
            ValueError: the episode has a branch of this name already.
        """
        full = f"{self.name}/{name}"
        if full in self._shared.branches:
            raise ValueError(f"there is a branch {full} already; give each branch a name of its own")
        self._shared.branches.add(full)
        origin = at or await self._world.snapshot()
        self._shared.recorder.once("branch", full, origin=origin.world.branch, position=origin.position)
        child = Episode(full, self.task, self.tools, self.budget, self._shared, self._world.fork(full, origin))
        try:
            yield child
        except BaseException:  # it may be gone on with
            await child._world.close()
            raise
        await child._world.close(for_good=True)

    async def snapshot(self) -> WorldSnapshot:
        """This branch's world as it is now, for `branch(at=...)`."""
        return await self._world.snapshot()

    async def submit(self, answer: str = "") -> Submission:
        """Hand in this branch's work as it is now: the benchmark takes its artefacts out of the world. May be repeated;
        the last submission of the episode counts.

        Raises:
            EnvironmentFault: the world broke.
        """
        recorder = self._shared.recorder

        async def collect() -> Mapping[str, Any]:
            environment = await self._world.environment() if self._shared.has_world else None
            submission = await self._shared.collect(environment, answer)
            return submission_to_json(submission, recorder.blobs.store)

        answered, _ = await recorder.effect("submit", self.name, {"answer": answer}, collect)
        submission = submission_from_json(answered, recorder.blobs.load)
        self._hand_in(submission, recorder.ended("submit", self.name))
        return submission

    async def judge(self, messages: Sequence[Message], *, config: GenerateConfig | None = None) -> Reply:
        """A grader's call of the judge model: recorded in branch `grader`, and not on the agent's budget."""
        return await self._shared.models.judge(messages, config)

    # --- the rest ---

    def window(self, role: str = "main") -> Window:
        """What is known of the model of `role`. It may be another when an episode is opened again: see `decide`."""
        return self._shared.models.window(role)

    async def count_tokens(self, messages: Sequence[Message], *, role: str = "main") -> TokenCount | None:
        """What the provider counts for messages and tools; None where it does not, or failed to. It is not recorded:
        what comes of it is, by `decide`."""
        return await self._shared.models.count(role, messages, self._specs(None))

    def _specs(self, tools: Sequence[ToolSpec] | None) -> Sequence[ToolSpec]:
        return [tool.spec for tool in self.tools] if tools is None else tools

    @property
    def submitted(self) -> Submission | None:
        """What the episode handed in last, on whichever branch."""
        return self._shared.submitted

    @property
    def handed_in(self) -> Submission | None:
        """What this branch handed in last."""
        return self._handed_in

    @property
    def steps(self) -> int:
        return self.budget.spent_steps

    @property
    def usage(self) -> Usage:
        """Tokens of the agent's own calls, without a judge's."""
        return self.budget.spent_usage

    @property
    def cost_usd(self) -> float | None:
        """None when a call had no known price."""
        return self.budget.spent_cost_usd

    @property
    def resumed(self) -> bool:
        """Did the log hold something when the episode was opened?"""
        return self._shared.recorder.resumed

    @property
    def head(self) -> str:
        """The chain value of the log's last event."""
        return self._shared.recorder.head

    def hand_in(self, submission: Submission) -> None:
        """Hand in something that did not come out of the world (a gold submission)."""
        stored = submission_to_json(submission, self._shared.recorder.blobs.store)
        self._hand_in(submission, self._shared.recorder.once("handed_in", self.name, submission=stored)["seq"])

    def _hand_in(self, submission: Submission, seq: int) -> None:
        """Of what the branches hand in the last counts: the last in the log, which may be gone through in another
        order than it was written in."""
        self._handed_in = submission
        if seq > self._shared.submitted_seq:
            self._shared.submitted, self._shared.submitted_seq = submission, seq

    async def finish(self) -> Submission:
        """What the agent handed in; where it handed in nothing, what the benchmark finds in the world it leaves. Its
        worlds are closed then: what it left running is gone before anything is graded."""
        untouched = self._shared.has_world and not self._world.touched
        if self._shared.submitted is None and not untouched:
            await self.submit()
        await self._shared.close_worlds()
        return self._shared.submitted or Submission()

    def now(self) -> float:
        """Seconds since the episode began, as recorded the first time this was asked here."""
        value: float = self._shared.recorder.recall("now", self.name, value=self._shared.recorder.now)["value"]
        return value

    def note(self, kind: str, **data: Any) -> None:
        """A scaffold's own event (a search node, a plan), for viewers and converters."""
        self._shared.recorder.once(f"note.{kind}", self.name, data=data)

    async def decide(
        self, kind: str, decide: Callable[[], Awaitable[Mapping[str, Any] | None]]
    ) -> Mapping[str, Any] | None:
        """A note that the program acts on, and that may depend on anything (a provider's count, a model's window): the
        decision whether to do something before the next call of a model. `decide` is asked once; None is no, and
        leaves no trace. Where the log goes on, it tells what was decided."""
        event = f"note.{kind}"
        recorder = self._shared.recorder
        held = recorder.holds(event, self.name, before="generate.begun")
        decision = await decide() if held is None else None
        if held or decision is not None:
            noted: Mapping[str, Any] = recorder.recall(event, self.name, data=decision)["data"]
            return noted
        return None

    async def _discover(self, toolset: Toolset) -> None:
        """Learn what a toolset offers, once: a recorded effect, so that a resume or replay needs no server for it."""

        async def ask() -> Mapping[str, Any]:
            specs = await toolset.discover(await self._world.environment())
            return {"tools": [spec.to_json() for spec in specs]}

        answered, _ = await self._shared.recorder.effect("discover", self.name, {"toolset": toolset.name}, ask)
        for found in answered["tools"]:
            spec = ToolSpec(**found)
            if spec.name in self._shared.tools:
                raise EnvironmentFault(f"two tools are called {spec.name}; give the server {toolset.name} another name")
            self._shared.tools[spec.name] = ToolOfSet(toolset, spec)
        self.tools = tuple(self._shared.tools.values())


def _reap(label: str, log: Path) -> Callable[..., Awaitable[None]]:
    """What an episode leaves when its worlds are closed: nothing if it came to its end, else the snapshots that its log
    tells of, from which it is gone on with."""

    async def reap(_: object, error: BaseException | None, __: object) -> None:
        await kinds.reap(label, sparing=recorded_snapshots(log) if error else ())

    return reap
