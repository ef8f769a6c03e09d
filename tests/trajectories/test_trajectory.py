"""Trajectories are read as branches, steps and tool calls; another log's answers can stand in for the world."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trellis.models.messages import Message, Text, ToolCall, ToolResult, assistant, part_to_json, system, user
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec, Usage
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.log import read
from trellis.trajectories.recorded import Recorded
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.source import ReplayMismatch, Source
from trellis.trajectories.trajectory import Trajectory

HEADER = {"episode": {"task": "t", "epoch": 1}}
SHELL = ToolSpec("shell", "Run a command.", {"type": "object"})


class Asked:
    """What an episode would perform: counts what was performed."""

    def __init__(self) -> None:
        self.count = 0

    def replies(self, message: Message) -> Any:
        async def perform() -> Reply:
            self.count += 1
            return Reply(message, "stop", Usage(input=3, output=1), 0.5, 1.0)

        return perform

    def results(self, result: ToolResult) -> Any:
        async def perform() -> Mapping[str, Any]:
            self.count += 1
            return {"result": part_to_json(result), "handed_in": None}

        return perform


async def ask(recorder: Recorder, messages: Sequence[Message], perform: Any, branch: str = "main") -> Reply:
    reply, _ = await recorder.generate(branch, "main", "m", messages, (SHELL,), GenerateConfig(seed=1), perform)
    return reply


async def act(recorder: Recorder, command: str, output: str, asked: Asked, branch: str = "main") -> str:
    call = ToolCall(f"id-{command}", "shell", {"command": command})
    perform = asked.results(ToolResult(call.id, "shell", (Text(output),)))
    answer, _ = await recorder.effect("act", branch, part_to_json(call), perform)
    text: str = answer["result"]["parts"][0]["text"]
    return text


async def two_steps(folder: Path, prompt: str = "p", asked: Asked | None = None, source: Source | None = None) -> Asked:
    asked = asked or Asked()
    recorder = Recorder(folder, HEADER, source=source)
    try:
        messages = [system(prompt), user("go")]
        first = await ask(recorder, messages, asked.replies(assistant("one", ToolCall("id-ls", "shell"))))
        await act(recorder, "ls", "a b", asked)
        recorder.once("note.plan", "main", data={"idea": "x"})
        messages += [first.message, ToolResult("id-ls", "shell", (Text("a b"),)).message]
        await ask(recorder, messages, asked.replies(assistant("two")))
        recorder.once("branch", "main/b", origin="main", position=1)
        await act(recorder, "pwd", "/w", asked, "main/b")
        await ask(recorder, [user("other")], asked.replies(assistant("three")), "main/b")
    finally:
        recorder.close()
    return asked


async def test_steps_with_what_was_sent_answered_and_done(tmp_path: Path) -> None:
    await two_steps(tmp_path)
    trajectory = Trajectory(tmp_path)
    first, second, third = trajectory.steps()
    assert (first.number, first.branch, first.turn, first.kept) == (1, "main", 1, 0)
    assert [message.text for message in first.given] == ["p", "go"]
    assert first.reply is not None
    assert (first.reply.text, first.reply.usage) == ("one", Usage(input=3, output=1))
    assert first.reply.cost_usd == 0.5
    assert [(a.call.arguments["command"], a.result and a.result.text) for a in first.acts] == [("ls", "a b")]
    assert [(note.kind, note.data) for note in first.notes] == [("plan", {"idea": "x"})]
    assert (second.kept, [m.role for m in second.given]) == (2, ["assistant", "tool"])
    assert [m.role for m in trajectory.conversation(second)] == ["system", "user", "assistant", "tool"]
    assert (third.number, third.branch, third.turn) == (3, "main/b", 1)
    branch = trajectory.branches["main/b"]
    assert (branch.parent, branch.position, branch.steps) == ("main", 1, [3])
    assert [trajectory.act(seq).call.arguments["command"] for seq in branch.opening] == ["pwd"]
    assert [spec.name for spec in trajectory.tools(first.tools)] == ["shell"]
    with pytest.raises(IndexError, match="steps 1 to 3; there is no step 4"):
        trajectory.step(4)
    trajectory.close()


async def test_any_conversation_is_put_together_again(tmp_path: Path) -> None:
    """However a scaffold edits its history between calls."""
    random = Random(7)
    recorder = Recorder(tmp_path, HEADER)
    sent: list[list[Message]] = []
    messages = [system("s")]
    for number in range(60):
        messages.append(user(f"m{number}"))
        match random.randrange(4):
            case 0 if len(messages) > 3:
                del messages[random.randrange(len(messages) - 1)]
            case 1:
                messages[random.randrange(len(messages))] = user(f"changed {number}")
            case 2 if random.random() < 0.3:
                messages = [user("afresh"), *messages[-2:]]
        sent.append(list(messages))
        await ask(recorder, messages, Asked().replies(assistant(str(number))))
    recorder.close()
    trajectory = Trajectory(tmp_path)
    assert [trajectory.conversation(step) for step in trajectory.steps()] == sent
    trajectory.close()


async def test_what_was_cut_off_and_what_did_not_fit_are_told_apart(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, HEADER)

    async def too_long() -> Reply:
        raise ContextOverflow("9 tokens too many")

    async def killed() -> Reply:
        raise KeyboardInterrupt

    with pytest.raises(ContextOverflow):
        await ask(recorder, [user("long")], too_long)
    with pytest.raises(KeyboardInterrupt):
        await ask(recorder, [user("short")], killed)
    recorder.close()
    trajectory = Trajectory(tmp_path)
    long, short = trajectory.steps()
    assert (long.reply, long.overflow, long.done is None) == (None, "9 tokens too many", False)
    assert (short.reply, short.overflow, short.done) == (None, "", None)
    trajectory.close()


async def test_a_log_that_grows_is_followed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, HEADER)
    await ask(recorder, [user("1")], Asked().replies(assistant("one")))
    trajectory = Trajectory(tmp_path)
    assert (len(trajectory), trajectory.refresh()) == (1, False)
    await ask(recorder, [user("1"), user("2")], Asked().replies(assistant("two")))
    assert trajectory.refresh()
    assert len(trajectory) == 2
    assert [m.text for m in trajectory.conversation(trajectory.step(2))] == ["1", "2"]
    recorder.close()
    trajectory.close()


def source_of(folder: Path, *, strict: bool, upto: int | None = None) -> Source:
    events = list(read(folder / "trajectory.jsonl"))[1:upto]
    return Source(Recorded(events, Blobs(folder / "blobs").load), strict=strict)


async def test_a_source_answers_everything_and_the_new_log_is_whole(tmp_path: Path) -> None:
    await two_steps(tmp_path / "old")
    asked = await two_steps(tmp_path / "new", source=source_of(tmp_path / "old", strict=True))
    assert asked.count == 0
    old, new = ([(e["kind"], e["branch"]) for e in read(tmp_path / f / "trajectory.jsonl")] for f in ("old", "new"))
    assert old == new
    assert (await two_steps(tmp_path / "new")).count == 0, "the new log needs the old one no more"


async def test_a_source_answers_as_far_as_it_goes(tmp_path: Path) -> None:
    await two_steps(tmp_path / "old")
    upto = next(e["seq"] for e in read(tmp_path / "old" / "trajectory.jsonl") if e["kind"] == "note.plan")
    asked = await two_steps(tmp_path / "new", source=source_of(tmp_path / "old", strict=True, upto=upto))
    assert asked.count == 3


async def test_a_changed_program_is_stopped_or_answered_as_the_source_says(tmp_path: Path) -> None:
    await two_steps(tmp_path / "old")
    with pytest.raises(ReplayMismatch) as caught:
        await two_steps(tmp_path / "strict", prompt="another", source=source_of(tmp_path / "old", strict=True))
    assert (caught.value.kind, caught.value.branch) == ("generate", "main")
    asked = await two_steps(tmp_path / "free", "another", source=source_of(tmp_path / "old", strict=False))
    assert asked.count == 0
    trajectory = Trajectory(tmp_path / "free")
    assert trajectory.conversation(trajectory.step(2))[0].text == "another"
    trajectory.close()


async def test_a_source_goes_on_where_the_new_log_was_cut_off(tmp_path: Path) -> None:
    await two_steps(tmp_path / "old")
    await two_steps(tmp_path / "new", source=source_of(tmp_path / "old", strict=True))
    path = tmp_path / "new" / "trajectory.jsonl"
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for end in ends:
        path.write_bytes(whole[:end])
        asked = await two_steps(tmp_path / "new", source=source_of(tmp_path / "old", strict=True))
        assert asked.count == 0
