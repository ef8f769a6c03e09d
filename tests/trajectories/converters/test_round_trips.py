"""What is exported and imported again is what it was, but for what the exporter, or the importer, said was lost."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import (
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    part_to_json,
    system,
    user,
)
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.trajectories.converters import inspect_parts, lost, to_aide, to_atif, to_inspect, to_mini, to_swe_agent
from trellis.trajectories.converters.converter import Imported, Losses
from trellis.trajectories.converters.importing import Import
from trellis.trajectories.converters.lost import BRANCHES, JUDGED, PAYLOADS, TIMES
from trellis.trajectories.converters.telling import told
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.trajectory import Step, Trajectory

DOT = (Path(__file__).parent / "samples" / "pictures" / "dot.png").read_bytes()
SHELL = ToolSpec("shell", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}})
SIGNED = Reasoning(
    "Look first.",
    {"provider": "anthropic", "item": {"type": "thinking", "thinking": "Look first.", "signature": "c2ln"}},
)
HEADER = {
    "episode": {"benchmark": "sums:sample", "task": "one", "agent": "react-mine", "epoch": 2, "seed": 7},
    "benchmark": {"name": "sums:sample", "version": "4", "options": {}},
    "scaffold": {"name": "react", "options": {"context": "trim"}},
    "models": {"main": "anthropic/claude-test"},
}


class Written:
    """A trajectory of ours in the making."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.recorder = Recorder(folder, HEADER, clock=lambda: self.now)
        self.said: dict[str, list[Message]] = {}

    async def reply(self, branch: str, said: Sequence[Message], message: Message, **more: Any) -> None:
        messages = self.said.setdefault(branch, [])
        messages += said

        async def answer() -> Reply:
            self.now += 2
            return Reply(message, latency_s=2.0, **more)

        config = GenerateConfig(temperature=0.5, seed=11)
        role = "judge" if branch == "grader" else "main"
        await self.recorder.generate(branch, role, "anthropic/claude-test", messages, (SHELL,), config, answer)
        messages.append(message)

    async def act(self, branch: str, call: ToolCall, result: ToolResult | None, *, tell: bool = True) -> None:
        async def answer() -> Mapping[str, Any]:
            self.now += 1
            if result is None:
                raise TimeoutError
            return {"result": part_to_json(result, self.recorder.blobs.store), "handed_in": None}

        with suppress(TimeoutError):
            await self.recorder.effect("act", branch, part_to_json(replace(call, raw=None)), answer)
            if result is not None and tell:
                self.said[branch].append(result.message)


@pytest.fixture
async def episode(tmp_path: Path) -> Path:
    """Replies with reasoning, several calls, an image and an error; a branch; a judge; something handed in."""
    made = Written(tmp_path / "ours")
    look, see, fail = (ToolCall(f"c{n}", "shell", {"command": command}) for n, command in enumerate(("ls", "see", "x")))
    told_ = [system("Use tools."), user("What is there?", Image(DOT, "image/png"))]
    await made.reply("main", told_, assistant(SIGNED, "I look.", look, see), stop_reason="tool_calls",
                     usage=Usage(10, 20, 3, output=7, reasoning=2), cost_usd=0.25)  # fmt: skip
    await made.act("main", look, ToolResult("c0", "shell", (Text("a\nb"),), data={"exit_code": 0, "duration_s": 0.5}))
    await made.act("main", see, ToolResult("c1", "shell", (Text("a dot"), Image(DOT, "image/png"))))
    made.recorder.once("note.plan", "main", data={"idea": "look closer"})
    await made.reply(
        "main", [], assistant("Again.", fail), stop_reason="tool_calls", usage=Usage(40, output=5), cost_usd=0.5
    )
    await made.act("main", fail, ToolResult("c2", "shell", (Text("no such command"),), True, {"exit_code": 127}))
    made.recorder.once("branch", "main/check", origin="main", position=3)
    await made.act("main/check", ToolCall("main/check-use-1", "shell", {"command": "pwd"}),
                   ToolResult("main/check-use-1", "shell", (Text("/w"),)), tell=False)  # fmt: skip
    await made.reply("main/check", [user("Is it right?")], assistant("Yes."), usage=Usage(5, output=1), cost_usd=0.125)
    await made.reply("main", [user("Then say it.")], assistant("A dot."), usage=Usage(50, output=3), cost_usd=0.0625)

    async def handed_in() -> Mapping[str, Any]:
        return {"answer": "a dot", "files": {}}

    await made.recorder.effect("submit", "main", {"answer": "a dot"}, handed_in)
    await made.reply("grader", [user("Is a dot right?")], assistant("Right."), usage=Usage(4, output=1), cost_usd=0.01)
    made.recorder.close()
    return tmp_path / "ours"


@pytest.fixture
async def search(tmp_path: Path) -> Path:
    """A tree search of three nodes."""
    made = Written(tmp_path / "ours")
    for id, (parent, metric) in enumerate([(None, 0.5), (0, None), (1, 0.75)]):
        branch, code = f"main/node-{id}", f"print({id})"
        made.recorder.once("branch", branch, origin="main", position=0)
        await made.reply(branch, [user("Write.")], assistant(f"Plan {id}.\n\n```python\n{code}\n```"))
        call = ToolCall(f"{branch}-use-1", "python", {"code": code, "fresh": True})
        facts = {"exit_code": int(metric is None), "timed_out": False, "duration_s": 1.5}
        output = "Traceback\nValueError: x" if metric is None else f"{id}"
        await made.act(branch, call, ToolResult(call.id, "python", (Text(output),), data=facts), tell=False)
        made.recorder.once(
            "note.node", "main",
            data={"id": id, "parent": parent, "branch": branch, "stage": ("draft", "improve", "debug")[id],
                  "plan": f"Plan {id}.", "is_buggy": metric is None, "metric": metric, "lower_is_better": False,
                  "analysis": f"Seen {id}.", "exec_time_s": 1.5, "best": metric is not None},
        )  # fmt: skip
    made.recorder.close()
    return tmp_path / "ours"


Again = Callable[[Any, Path, str], tuple[Imported, Losses, Trajectory, Trajectory]]


@pytest.fixture
def again(tmp_path: Path, opened: Callable[[Path], Trajectory]) -> Again:
    """Exports and imports again."""

    def run(module: Any, folder: Path, name: str) -> tuple[Imported, Losses, Trajectory, Trajectory]:
        losses = Losses()
        path = tmp_path / name
        with told(folder / "trajectory.jsonl") as each:
            module.write([each] if module is to_inspect else each, path, losses)
        with Import(path) as file:
            (made,) = file.write(lambda identity: tmp_path / "again")
        return made, losses, opened(folder), opened(made.path)

    return run


def plain(message: Message) -> Message:
    """As a model is sent it: the facts of a result are not."""
    return replace(
        message, parts=tuple(replace(part, data={}) if isinstance(part, ToolResult) else part for part in message.parts)
    )


def without_raw(message: Message) -> Message:
    return replace(message, parts=tuple(replace(p, raw=None) if isinstance(p, Reasoning) else p for p in message.parts))


def steps(trajectory: Trajectory, message: Callable[[Message], Message] = plain) -> list[tuple[Any, ...]]:
    return [
        (step.branch, step.turn, step.model, dict(step.config), step.tools,
         step.reply and (message(step.reply.message), step.reply.usage, step.reply.cost_usd, step.reply.stop_reason),
         [message(plain(each)) for each in trajectory.conversation(step)])
        for step in trajectory.steps()
    ]  # fmt: skip


def acts(step: Step) -> list[tuple[Any, ...]]:
    return [(act.call, act.result) for act in step.acts]


def times(trajectory: Trajectory) -> list[tuple[float, ...]]:
    """A log of Inspect has milliseconds."""
    return [(round(step.begun_at, 2), round(step.ended_at or 0, 2)) for step in trajectory.steps()]


def lines(losses: Losses) -> list[str]:
    return [str(loss) for loss in losses]


def test_atif(episode: Path, again: Again) -> None:
    made, losses, before, after = again(to_atif, episode, "episode.json")
    assert steps(after, without_raw) == steps(before, without_raw)
    assert lines(losses) == [f"1 {PAYLOADS}", f"1 {JUDGED}", f"1 {TIMES}"]
    assert [acts(step) for step in after.steps()] == [acts(step) for step in before.steps()]
    assert [(b.name, b.parent, b.position, len(b.acts)) for b in after.branches.values()] == [
        ("main", None, 0, 3), ("main/check", "main", 3, 1),
    ]  # fmt: skip
    assert [dict(note.data) for note in after.notes("plan")] == [{"idea": "look closer"}]
    assert after.header["episode"]["task"] == "one"
    assert after.header["benchmark"]["version"] == "4"
    assert after.header["models"] == {"main": "anthropic/claude-test"}
    assert (made.steps, made.epoch, made.cost_usd) == (4, 2, 0.9375)


def test_inspect(episode: Path, again: Again) -> None:
    made, losses, before, after = again(to_inspect, episode, "episode.eval")
    assert lines(losses) == [f"1 {inspect_parts.SCHEMAS}"]
    strict = [(each[:4], *each[5:]) for each in steps(after)]  # schemas of tools are told in Inspect's own way
    assert strict == [(each[:4], *each[5:]) for each in steps(before)]
    assert [acts(step) for step in after.steps()] == [acts(step) for step in before.steps()]
    assert [(b.name, b.parent, b.position, len(b.acts)) for b in after.branches.values() if b.name != "grader"] == [
        ("main", None, 0, 3), ("main/check", "main", 3, 1),
    ]  # fmt: skip
    assert [step.reply and step.reply.text for step in after.judgements()] == ["Right."]
    assert [dict(note.data) for note in after.notes("plan")] == [{"idea": "look closer"}]
    assert times(after) == times(before)
    assert (made.benchmark, made.task, made.agent, made.epoch) == ("sums:sample", "one", "react-mine", 2)


def test_mini_swe_agent(episode: Path, again: Again) -> None:
    made, losses, before, after = again(to_mini, episode, "one.traj.json")
    assert f"1 {BRANCHES}" in lines(losses)
    kept = [step for step in before.steps() if step.branch == "main"]
    assert [step.reply and step.reply.message for step in after.steps()] == [
        step.reply and step.reply.message for step in kept
    ]
    assert [[act.call for act in step.acts] for step in after.steps()] == [[a.call for a in step.acts] for step in kept]
    assert [act.result and act.result.text for step in after.steps() for act in step.acts] == [
        act.result and act.result.text for step in kept for act in step.acts
    ]
    assert [step.reply and step.reply.cost_usd for step in after.steps()] == [0.25, 0.5, 0.0625]
    assert made.usage.total == sum(step.reply.usage.total for step in kept if step.reply)
    assert (made.task, made.outcome) == ("one", "Submitted")


def test_swe_agent(episode: Path, again: Again) -> None:
    made, losses, before, after = again(to_swe_agent, episode, "one.traj")
    assert f"1 {lost.BRANCHES}" in lines(losses)
    kept = [step for step in before.steps() if step.branch == "main"]
    assert [(step.reply.text, step.reply.tool_calls) for step in after.steps() if step.reply] == [
        (step.reply.text, step.reply.tool_calls) for step in kept if step.reply
    ]
    assert [[act.call for act in step.acts] for step in after.steps()] == [[a.call for a in step.acts] for step in kept]
    assert [message.role for message in after.conversation(after.step(3))] == [
        message.role for message in before.conversation(kept[-1])
    ]
    assert (made.steps, made.tool_calls, made.cost_usd, made.outcome) == (3, 3, 0.8125, "submitted")
    assert made.usage.total == sum(step.reply.usage.total for step in kept if step.reply)


def test_aide(search: Path, again: Again) -> None:
    _, losses, before, after = again(to_aide, search, "journal.json")
    assert f"3 {to_aide.PROMPTS}" in lines(losses)
    assert [dict(note.data) for note in after.notes("node")] == [dict(note.data) for note in before.notes("node")]
    assert [step.branch for step in after.steps()] == [step.branch for step in before.steps()]
    assert [step.reply and step.reply.text for step in after.steps()] == [
        step.reply and step.reply.text for step in before.steps()
    ]
    assert [act.call for step in after.steps() for act in step.acts] == [
        act.call for step in before.steps() for act in step.acts
    ]
    runs = [act.result for step in after.steps() for act in step.acts if act.result]
    assert [(run.text, run.data["exit_code"], run.data["duration_s"]) for run in runs] == [
        ("0", 0, 1.5), ("Traceback\nValueError: x", 1, 1.5), ("2", 0, 1.5),
    ]  # fmt: skip
