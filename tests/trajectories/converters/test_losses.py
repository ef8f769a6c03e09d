"""Whatever is another after a round trip is in the list of what was lost, on the way out or on the way in."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.models.messages import (
    Audio,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    part_to_json,
    system,
    user,
)
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec, Usage
from trellis.trajectories.converters import (
    inspect_parts,
    lost,
    telling,
    to_atif,
    to_inspect,
    to_mini,
    to_swe_agent,
)
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.importing import Import
from trellis.trajectories.converters.telling import told
from trellis.trajectories.recorded import GRADER
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.trajectory import Trajectory

SHELL = ToolSpec("shell", "Run.", {"type": "object", "properties": {"command": {"type": "string"}}})
LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {}, "required": [], "additionalProperties": False})
SIGNED = {"provider": "anthropic", "item": {"type": "thinking", "thinking": "so", "signature": "c2ln"}}
HEADER = {
    "episode": {"benchmark": "b:sample", "task": "one", "agent": "mine", "epoch": 2, "seed": 2**60 + 1},
    "benchmark": {"name": "b:sample", "version": "4", "options": {}},
    "scaffold": {"name": "react", "options": {"context": "trim"}},
    "models": {"main": "anthropic/large"},
    "budget": {"steps": 9},
}
BRANCHES = ("main", "main/a", "main/b")
BEGAN = datetime(2026, 1, 2, tzinfo=UTC)

# --- any trajectory ---

words = st.sampled_from(["", "yes", "two\nlines", "```bash\nls\n```", "diff --git a/x b/x", "\u2028é\ud83d\ude00"])
pictures = st.builds(Image, st.sampled_from([b"one", b"two"]), st.just("image/png"))


@dataclass(frozen=True)
class Done:
    """A tool call of a reply, or of the scaffold's own, and what came of it."""

    call: ToolCall
    result: ToolResult | None
    shown: str | None
    """What the model is told instead, where that is something else."""
    changes: tuple[str, ...] | None
    denied: bool


@dataclass(frozen=True)
class Said:
    branch: str
    said: tuple[Message, ...]
    shortened: bool
    reply: Reply | str | None
    """The text of an overflow; None: cut off."""
    config: GenerateConfig
    tools: tuple[ToolSpec, ...]
    role: str
    kind: str
    done: tuple[Done, ...]
    own: tuple[Done, ...]
    noted: bool
    handed_in: tuple[str, Mapping[str, bytes]] | None


@st.composite
def done(draw: st.DrawFn, call: ToolCall) -> Done:
    text, images = draw(words), draw(st.lists(pictures, max_size=1))
    facts: Any = draw(st.sampled_from([{}, {"exit_code": 0}, {"exit_code": 3, "duration_s": 0.5}]))
    result = ToolResult(call.id, call.name, (Text(text), *images), draw(st.booleans()), facts)
    cut_off = draw(st.integers(0, 9)) == 0
    return Done(call, None if cut_off else result, draw(st.sampled_from([None, None, "(cleared)"])),
                draw(st.sampled_from([None, (), ("x.py",)])), draw(st.integers(0, 9)) == 0)  # fmt: skip


@st.composite
def said(draw: st.DrawFn, number: int) -> Said:
    calls = [
        ToolCall(
            f"c{number}-{n}", draw(st.sampled_from(["shell", "look"])), draw(st.sampled_from([{}, {"command": "ls"}]))
        )
        for n in range(draw(st.integers(0, 2)))
    ]
    if calls and draw(st.integers(0, 5)) == 0:
        calls[0] = replace(calls[0], arguments={}, malformed="{not json")
    thought = st.one_of(
        words.map(Reasoning),
        st.just(Reasoning("so", SIGNED)),
        st.just(Reasoning("hm", {"provider": "openai", "item": {"id": "r"}})),
    )
    made: list[Part] = [*draw(st.lists(thought, max_size=2)), *draw(st.lists(words.map(Text), max_size=2)), *calls]
    if draw(st.integers(0, 5)) == 0:
        made.reverse()
    rare: Any = draw(st.sampled_from([{}, {"retries": 2, "throttles": 1}, {"tier": "flex", "waited_s": 0.25},
                                 {"cached": True, "dropped": ("a thing",)}]))  # fmt: skip
    usage = draw(st.sampled_from([Usage(7, output=3), Usage(1, 2, 3, output=4, reasoning=2),
                                  Usage(1, cache_write_1h=5, output=2, audio_output=1)]))  # fmt: skip
    answer: Reply | str | None = Reply(
        Message("assistant", tuple(made)), draw(st.sampled_from(["stop", "length", "refusal", "tool_calls"])), usage,
        draw(st.sampled_from([None, 0.5])), 2.0, **rare,
    )  # fmt: skip
    if draw(st.integers(0, 7)) == 0:
        answer, calls = draw(st.sampled_from(["too long", None])), []
    every = GenerateConfig(0.5, 100, "max", "required", {"type": "object", "title": "x"}, "alto", 2**60 + 1)
    config = draw(st.sampled_from([GenerateConfig(), every]))
    own = ToolCall(f"own-{number}", "shell", {"command": "pwd"})
    new = st.one_of(
        words.map(lambda text: user(text or "go on")),
        pictures.map(lambda image: user("See.", image)),
        st.just(user("a", "b")),
        st.just(user(Audio(b"beep", "audio/ogg"))),
    )
    files: Mapping[str, bytes] = draw(
        st.sampled_from([{}, {"model.patch": b"diff --git a/x b/x\n"}, {"x.bin": b"\xff"}])
    )
    return Said(
        draw(st.sampled_from(BRANCHES)), tuple(draw(st.lists(new, max_size=2))), draw(st.integers(0, 5)) == 0, answer,
        config, draw(st.sampled_from([(SHELL,), (SHELL, LOOK), ()])), draw(st.sampled_from(["main", "feedback"])),
        draw(st.sampled_from(["generate"] * 5 + ["compact"])), tuple(draw(done(call)) for call in calls),
        tuple([draw(done(own))] if draw(st.integers(0, 3)) == 0 else []), draw(st.booleans()),
        (draw(st.sampled_from(["so", "a\nb"])), files) if draw(st.integers(0, 3)) == 0 else None,
    )  # fmt: skip


@st.composite
def episodes(draw: st.DrawFn) -> list[Said]:
    return [draw(said(number)) for number in range(draw(st.integers(1, 5)))]


class Made:
    """Records an episode as ours are recorded."""

    def __init__(self, folder: Path) -> None:
        self.now = 1.0
        self.recorder = Recorder(folder, HEADER, clock=lambda: self.now)
        self.said: dict[str, list[Message]] = {}
        self.acts: dict[str, int] = {"main": 0}

    async def all(self, episode: list[Said]) -> None:
        for each in episode:
            await self.step(each)
        with suppress(ContextOverflow):
            await self.ask(GRADER, [user("Right?")], Reply(Message("assistant", (Text("Yes."),))), role="judge")
        self.recorder.close()

    async def step(self, it: Said) -> None:
        if it.branch not in self.said:
            origin = "main/a" if it.branch == "main/b" and "main/a" in self.said else "main"
            if it.branch != "main":
                self.recorder.once("branch", it.branch, origin=origin, position=self.acts.get(origin, 0) // 2)
            # a branch may go on from what its parent had said
            self.said[it.branch] = list(self.said.get("main", ()))[:3] or [system("Be quick.")]
        said = self.said[it.branch]
        if it.shortened:
            said[:] = [*said[:1], user("(what was said before, in short)")]
        said += it.said
        await self.ask(it.branch, said, it.reply, it.tools, it.config, it.role, it.kind)
        if isinstance(it.reply, Reply):
            said.append(it.reply.message)
        for act in it.done:
            await self.act(it.branch, act)
            if act.result is not None:
                shown = replace(act.result, parts=(Text(act.shown),)) if act.shown else act.result
                said.append(shown.message)
        for act in it.own:
            await self.act(it.branch, act)
        if it.noted:
            self.recorder.once("note.plan", it.branch, data={"idea": {"why": "x"}})
        if it.handed_in is not None:
            await self.submit(it.branch, *it.handed_in)

    async def ask(
        self, branch: str, said: list[Message], answer: Reply | str | None, tools: tuple[ToolSpec, ...] = (),
        config: GenerateConfig = GenerateConfig(), role: str = "main", kind: str = "generate",
    ) -> None:  # fmt: skip
        async def perform() -> Reply:
            if answer is None:
                raise TimeoutError
            if isinstance(answer, str):
                raise ContextOverflow(answer)
            self.now += answer.latency_s
            return answer

        with suppress(TimeoutError, ContextOverflow):
            await self.recorder.generate(branch, role, "anthropic/large", said, tools, config, perform, kind)

    async def act(self, branch: str, it: Done) -> None:
        request = part_to_json(it.call)
        if it.denied:

            async def decide() -> Mapping[str, Any]:
                return {"allowed": False, "reason": "no", "by": "user", "rule": 1, "asked_at": 1.0, "waited_s": 0.0}

            await self.recorder.effect("approval", branch, request, decide)

        async def perform() -> Mapping[str, Any]:
            self.now += 1
            if it.result is None:
                raise TimeoutError
            store = self.recorder.blobs.store
            answer: dict[str, Any] = {"result": part_to_json(it.result, store), "handed_in": None}
            if it.changes is not None:
                answer["changes"] = [
                    {"path": path, "kind": "added", "mode": 0o100644, "size": 2, "sha256": store(b"hi"), "text": True}
                    for path in it.changes
                ]
            return answer

        with suppress(TimeoutError):
            await self.recorder.effect("act", branch, request, perform)
            self.acts[branch] = self.acts.get(branch, 0) + (not it.denied)

    async def submit(self, branch: str, answer: str, files: Mapping[str, bytes]) -> None:
        async def collect() -> Mapping[str, Any]:
            stored = {name: self.recorder.blobs.store(data) for name, data in files.items()}
            return {"answer": answer, "files": stored}

        await self.recorder.effect("submit", branch, {"answer": answer}, collect)


# --- what it says ---


def bare(message: Message) -> tuple[Any, ...]:
    """What stands in a message, without what only its provider understands; empty parts say nothing."""
    return message.role, [part for part in map(_bare, message.parts) if part != Text("") and part != Reasoning("")]


def _bare(part: Part) -> Part:
    if isinstance(part, ToolResult):
        return replace(part, data={}, parts=tuple(each for each in part.parts if each != Text("")))
    return replace(part, raw=None)


def facts(trajectory: Trajectory, names: list[str]) -> dict[str, Any]:
    """What some branches of a trajectory say, aspect by aspect."""
    branches = [trajectory.branches[name] for name in names if name in trajectory.branches]
    asked = [trajectory.step(number) for branch in branches for number in branch.steps]
    steps = [step for step in asked if step.reply is not None]
    replies = [step.reply for step in steps if step.reply is not None]
    acts = [act for branch in branches for act in map(trajectory.act, branch.acts)]
    called = {call.id for reply in replies for call in reply.tool_calls}
    done = [act for act in acts if act.call.id in called and act.result is not None]
    return {
        "branches": [(branch.name, branch.parent, branch.position) for branch in branches],
        "unanswered": [(step.branch, step.turn, step.overflow) for step in asked if step.reply is None],
        "steps": len(steps),
        "said": [bare(reply.message) for reply in replies],
        "raw": [[raw for part in reply.message.parts if (raw := getattr(part, "raw", None))] for reply in replies],
        "sent": [[bare(message) for message in trajectory.conversation(step)] for step in steps],
        "model": [step.model for step in steps],
        "config": [(dict(step.config), step.role, step.kind) for step in asked],
        "tools": [[spec.name for spec in trajectory.tools(step.tools)] for step in asked],
        "schemas": [trajectory.tools(step.tools) for step in asked],
        "rare": [telling.rare(reply) for reply in replies],
        "usage": [reply.usage for reply in replies],
        "cost": [reply.cost_usd for reply in replies],
        "stopped": [reply.stop_reason for reply in replies],
        "times": [(round(step.begun_at, 2), round(step.ended_at or 0, 2)) for step in steps],
        "acts": [act.call for act in acts if act.call.id in called and act.result is not None],
        "cut off": [act.call for act in acts if act.call.id in called and act.result is None],
        "own": [(act.call, act.result and act.result.text) for act in acts if act.call.id not in called],
        "results": [act.result.text for act in done if act.result],
        "exit codes": [act.result.data.get("exit_code") for act in done if act.result],
        "state": [(act.result.is_error, [p for p in act.result.parts if isinstance(p, Image)],
                   {n: v for n, v in act.result.data.items() if n not in ("exit_code", "imported", "duration_s")})
                  for act in done if act.result],
        "denied": [seq not in trajectory.performed(branch.name) for branch in branches for seq in branch.acts],
        "changes": [act.followed and [(c["path"], c["kind"], c["mode"], c["sha256"]) for c in act.changes]
                    for act in done],
        "contents": [[c["text"] for c in act.changes] for act in done],
        "notes": [(note.branch, dict(note.data)) for note in trajectory.notes("plan") if note.branch in names],
        "handed in": [handed_in(trajectory, note.data["answer"]) for note in trajectory.notes("submit")],
        "judge": [step.reply and step.reply.text for step in trajectory.judgements()],
    }  # fmt: skip


def handed_in(trajectory: Trajectory, answer: Any) -> Any:
    return answer["answer"], {name: trajectory.blobs.load(blob) for name, blob in answer["files"].items()}


# --- out and in again ---

ONE = {
    "unanswered": {lost.CUT},
    "raw": {lost.UNSIGNED},
    "said": {lost.ORDER},
    "sent": {lost.ORDER, lost.MEDIA, lost.REPEATED, lost.CUT_ACTS, lost.COPIED},
    "config": {lost.CALLS},
    "tools": {lost.CALLS},
    "schemas": {lost.CALLS},
    "rare": {lost.CALLS},
    "times": {lost.CALLS},
    "cost": {lost.UNPRICED},
    "acts": {lost.CUT_ACTS},
    "cut off": {lost.CUT_ACTS},
    "own": {lost.USES},
    "results": {lost.CUT_ACTS},
    "exit codes": {lost.CUT_ACTS},
    "state": {lost.STATE, lost.CUT_ACTS},
    "denied": {lost.NOTES, lost.CUT_ACTS, lost.USES},
    "changes": {lost.STATE, lost.CUT_ACTS},
    "contents": {lost.STATE, lost.CUT_ACTS},
    "notes": {lost.NOTES},
    "handed in": {lost.HANDED_IN},
    "judge": {lost.JUDGED},
}
EXPLAINED: Mapping[str, Mapping[str, set[str]]] = {
    "atif": {
        "said": {to_atif.MEDIA, lost.ORDER, to_atif.THOUGHTS},
        "sent": {to_atif.MEDIA, lost.ORDER, to_atif.THOUGHTS, lost.REPEATED},
        "raw": {lost.PAYLOADS},
        "tools": {to_atif.TOOLS},
        "schemas": {to_atif.TOOLS},
        "times": {lost.TIMES, lost.SIDE},
        "notes": {lost.SIDE},
        "handed in": {lost.SIDE},
        "contents": {lost.CONTENTS},
        "judge": {lost.JUDGED},
    },
    "inspect": {
        "said": {inspect_parts.MEDIA, inspect_parts.ORDER},
        "sent": {inspect_parts.MEDIA, inspect_parts.ORDER},
        "raw": {lost.UNSIGNED},
        "usage": {lost.CLASSES},
        "schemas": {inspect_parts.SCHEMAS},
        "contents": {lost.CONTENTS},
    },
    "mini-swe-agent": {**ONE, "usage": {lost.CLASSES}},
    "swe-agent": {
        **ONE,
        "usage": {to_swe_agent.TOKENS},
        "stopped": {lost.CALLS},
        "acts": {lost.CUT_ACTS, to_swe_agent.ACTIONS},
        "results": {lost.CUT_ACTS, to_swe_agent.ACTIONS},
        "exit codes": {lost.CUT_ACTS, to_swe_agent.ACTIONS},
        "sent": {*ONE["sent"], lost.STATE},
    },
}
MODULES = {"atif": to_atif, "inspect": to_inspect, "mini-swe-agent": to_mini, "swe-agent": to_swe_agent}
NAMES = {"atif": "x.json", "inspect": "x.eval", "mini-swe-agent": "one.traj.json", "swe-agent": "one.traj"}


def differences(format: str, log: Path, folder: Path, outcome: telling.Outcome) -> tuple[set[str], set[str]]:
    """The aspects that are others after a round trip, and what is said to be lost."""
    losses, path = Losses(), folder / NAMES[format]
    with told(log, outcome) as each:
        MODULES[format].write([each] if format == "inspect" else each, path, losses)
        spoken = telling.spoken(each.trajectory).name
    with Import(path) as file:
        (made,) = file.write(lambda identity: folder / "again")
    missing = {loss.what for loss in (*losses, *made.losses)}
    with Trajectory(log) as before, Trajectory(made.path) as after:
        one = format in ("mini-swe-agent", "swe-agent")
        was = facts(before, [spoken] if one else list(BRANCHES))
        now = facts(after, ["main"] if one else list(BRANCHES))
    assert {loss.what for loss in losses} <= set(MODULES[format].LOSSES)
    if one:
        was["branches"] = now["branches"] = []
    return {aspect for aspect in was if was[aspect] != now[aspect]}, missing


@pytest.mark.parametrize("format", MODULES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(episodes(), st.booleans())
async def test_what_differs_is_said_to_be_lost(format: str, episode: list[Said], dated: bool) -> None:
    outcome = telling.Outcome(started_at=BEGAN) if dated else telling.Outcome()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await Made(folder / "ours").all(episode)
        different, missing = differences(format, folder / "ours" / "trajectory.jsonl", folder, outcome)
    explained = {aspect for aspect, by in EXPLAINED[format].items() if by & missing}
    assert different <= explained, missing
