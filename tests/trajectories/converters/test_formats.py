"""Every format is read: messages, calls and what came of them, tokens, costs, times, branches; what is lost is said."""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Image, Message, Reasoning, ToolCall
from trellis.models.model import Usage
from trellis.trajectories.converters.converter import ConversionError, Imported
from trellis.trajectories.trajectory import Step, Trajectory

if sys.version_info >= (3, 14):
    zstd = zipfile
else:
    from backports.zstd import zipfile as zstd

One = Callable[..., tuple[Imported, Trajectory]]
Many = Callable[..., list[Imported]]
Sample = Callable[[str], Any]


def reply(step: Step) -> Message:
    assert step.reply is not None
    return step.reply.message


def calls(trajectory: Trajectory) -> list[tuple[str, dict[str, Any]]]:
    return [(act.call.name, dict(act.call.arguments)) for step in trajectory.steps() for act in step.acts]


def results(trajectory: Trajectory) -> list[str | None]:
    return [act.result.text if act.result else None for step in trajectory.steps() for act in step.acts]


def lost(imported: Imported) -> dict[str, int]:
    return {loss.what.partition(" (")[0]: loss.count for loss in imported.losses}


def test_atif(imported: One) -> None:
    made, trajectory = imported("atif.json")
    assert (made.format, made.version, made.task, made.agent) == ("atif", "1.7", "count-files", "walker")
    assert (made.steps, made.tool_calls) == (4, 3)
    assert made.usage == Usage(input=465, cache_read=100, cache_write=5, output=48, reasoning=10)
    assert made.cost_usd == 0.061
    assert lost(made) == {"lists of log probabilities": 1, "replies copied from a trajectory before": 1}

    first, second, inner, last = trajectory.steps()
    assert [part.text for part in reply(first).parts if isinstance(part, Reasoning)] == ["Listing is enough."]
    assert first.given[1].parts[1] == Image(
        (Path(__file__).parent / "samples/pictures/dot.png").read_bytes(), "image/png"
    )
    assert [(act.call.id, act.call.name, act.result.text) for act in first.acts if act.result] == [
        ("b", "browse", "nothing"),
        ("a", "shell", "3"),
    ]
    assert first.acts[1].result is not None
    assert first.acts[1].result.data == {"imported": {"tool": "bash"}}
    assert first.config == {"reasoning_effort": "low"}
    assert [spec.name for spec in trajectory.tools(first.tools)] == ["shell"]
    assert (first.begun_at, second.begun_at) == (2.0, 9.0)
    assert [message.text for message in second.given][-1] == "An old word."
    assert (inner.branch, inner.model, reply(inner).text) == ("main/checker-1", "acme/small", "It is right.")
    assert trajectory.branches["main/checker-1"].parent == "main"
    assert trajectory.branches["main/checker-1"].position == 3
    assert (last.model, reply(last).text) == ("acme/small", "Three.")
    assert [note.data["extra"] for note in trajectory.notes("imported.extra")] == [{"sure": True}]
    assert trajectory.header["imported"]["notes"] == "made by hand"


@pytest.mark.parametrize("version", ["1.0", "1.4", "1.7"])
def test_atif_of_any_version_with_the_least_that_it_must_hold(imported: One, version: str) -> None:
    steps = [{"step_id": 1, "source": "agent", "message": "Hi."}]
    made, trajectory = imported({"schema_version": f"ATIF-v{version}", "agent": {"name": "a"}, "steps": steps})
    assert (made.version, made.steps, made.usage, made.cost_usd) == (version, 1, Usage(), None)
    assert [reply(step).text for step in trajectory.steps()] == ["Hi."]


def test_an_agent_step_without_a_call_of_a_model_is_no_reply(imported: One) -> None:
    steps = [
        {"step_id": 1, "source": "agent", "message": "", "llm_call_count": 0,
         "tool_calls": [{"tool_call_id": "1", "function_name": "bash", "arguments": {"command": "ls"}}],
         "observation": {"results": [{"source_call_id": "1", "content": "a"}]}},
        {"step_id": 2, "source": "agent", "message": "Hi."},
    ]  # fmt: skip
    made, trajectory = imported({"schema_version": "ATIF-v1.7", "agent": {"name": "a"}, "steps": steps})
    assert (made.steps, made.tool_calls) == (1, 1)
    assert trajectory.act(trajectory.branches["main"].opening[0]).call.arguments == {"command": "ls"}


def test_what_only_our_own_exporter_means_is_only_taken_from_it(imported: One) -> None:
    """A foreign `extra` may have members of the same names."""
    told = {"usage": {"input_tokens": 9}, "latency_s": 5}
    step = {"source": "agent", "message": "Hi.", "metrics": {"prompt_tokens": 7, "completion_tokens": 2, "extra": told},
            "extra": {"notes": [{"kind": "node"}], "data": 1}}  # fmt: skip
    made, trajectory = imported({"schema_version": "ATIF-v1.4", "agent": {"name": "a"}, "steps": [step]})
    assert made.usage == Usage(input=7, output=2)
    assert [note.data["extra"] for note in trajectory.notes("imported.metrics")] == [told]
    assert [note.data["extra"] for note in trajectory.notes("imported.extra")] == [step["extra"]]
    assert not list(trajectory.notes("node"))


def test_context_copied_from_elsewhere_is_whole(imported: One) -> None:
    call = {"tool_call_id": "1", "function_name": "f", "arguments": {}}
    result = {"source_call_id": "1", "content": "done"}
    copied = {"source": "agent", "message": "", "tool_calls": [call], "observation": {"results": [result]},
              "is_copied_context": True}  # fmt: skip
    steps = [{"source": "user", "message": "Go."}, copied, {"source": "agent", "message": "Hi."}]
    made, trajectory = imported({"schema_version": "ATIF-v1.4", "agent": {"name": "a"}, "steps": steps})
    assert (made.steps, made.tool_calls) == (1, 0)
    assert [(m.role, m.text) for m in trajectory.step(1).given] == [
        ("user", "Go."),
        ("assistant", ""),
        ("tool", "done"),
    ]


def test_an_image_beside_the_file_is_read_and_none_elsewhere(imported: One, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    names = ["../secret.png", str(tmp_path / "secret.png"), "link.png", "missing.png", "\0"]
    message = [{"type": "image", "source": {"media_type": "image/png", "path": name}} for name in names]
    steps = [{"source": "user", "message": message}, {"source": "agent", "message": "?"}]
    (folder / "t.json").write_text(json.dumps({"schema_version": "ATIF-v1.6", "agent": {}, "steps": steps}))
    made, trajectory = imported(folder / "t.json")
    assert lost(made) == {"images in files that are not beside the trajectory": len(names)}
    assert not any(isinstance(part, Image) for part in trajectory.step(1).given[0].parts)


def test_swe_agent_before_version_1(imported: One) -> None:
    made, trajectory = imported("old.traj")
    assert (made.format, made.version, made.outcome) == ("swe-agent", "0", "submitted")
    assert (made.steps, made.tool_calls, made.messages) == (4, 3, 8)
    assert (made.usage, made.cost_usd) == (Usage(input=5000, output=300), 0.5)
    assert calls(trajectory) == [
        ("find_file", {"command": 'find_file "sum.py"\n'}),
        ("shell", {"command": "sed -i s/-/+/ sum.py\n"}),
        ("submit", {}),
    ]
    assert results(trajectory) == ["Found 1 match", "(no output)", "\ndiff --git a/sum.py b/sum.py\n+a + b\n"]
    third = trajectory.step(3)
    told = [message.text for message in trajectory.conversation(third)]
    assert told[:3] == ["Use the commands.", "Here is a demonstration ...", "Mend the sum."]
    assert [message.role for message in trajectory.conversation(third)][3:] == ["assistant", "tool"]
    assert "I forgot the action." not in told  # the model was asked again as if it had not said that
    assert (third.acts[0].begun_at, third.acts[0].ended_at) == (0.0, 0.25)
    assert third.acts[0].result is not None
    assert third.acts[0].result.data["imported"] == {"tool": "bash", "state": {"working_dir": "/repo"}}
    (submission,) = [note for step in trajectory.steps() for note in step.notes if note.kind == "submit"]
    patch = trajectory.blobs.load(submission.data["answer"]["files"]["model.patch"])
    assert patch.decode() == "\ndiff --git a/sum.py b/sum.py\n+a + b\n"


def test_attempts_of_swe_agent_are_branches(imported: One) -> None:
    made, trajectory = imported("attempts.traj")
    assert (made.task, made.version, made.steps, made.tool_calls, made.messages) == ("repo__repo-7", "1.1", 3, 3, 10)
    assert list(trajectory.branches) == ["main", "main/attempt-0", "main/attempt-1"]
    assert trajectory.header["models"] == {"main": "acme/large"}
    assert trajectory.header["imported"]["environment"] == {"image": "repo:latest", "name": "main",
                                                            "repo": {"base_commit": "abc"}}  # fmt: skip
    first, second, third = trajectory.steps()
    thought = next(part for part in reply(first).parts if isinstance(part, Reasoning))
    assert thought.raw == {"provider": "anthropic",
                           "item": {"type": "thinking", "thinking": "Listing first.", "signature": "c2ln"}}  # fmt: skip
    assert calls(trajectory) == [
        ("shell", {"command": "ls"}),
        ("str_replace_editor", {"command": "view", "path": "/repo/sum.py"}),
        ("submit", {}),
    ]
    assert third.kept == 2
    assert third.given[0] == reply(second)
    assert [note.data["best"] for note in trajectory.notes("imported.attempt")] == [False, True]


def test_a_trajectory_of_swe_agent_without_its_history(imported: One, sample: Sample) -> None:
    data = sample("old.traj")
    made, trajectory = imported({"trajectory": data["trajectory"], "info": {}, "environment": "main"})
    assert (made.steps, made.tool_calls) == (4, 3)
    roles = [message.role for message in trajectory.conversation(trajectory.step(4))]
    assert roles == ["assistant", "tool", "assistant", "assistant", "tool"]


def test_mini_swe_agent_1(imported: One) -> None:
    made, trajectory = imported("mini-1.traj.json")
    assert (made.format, made.version, made.task, made.outcome) == ("mini-swe-agent", "1", "repo__repo-7", "Submitted")
    assert (made.steps, made.tool_calls, made.messages) == (3, 2, 8)
    assert (made.usage, made.cost_usd) == (Usage(input=100, output=20), 0.31)
    assert calls(trajectory)[0] == ("shell", {"command": "printf 'a - b\\n' | tee sum.py"})
    act = trajectory.step(1).acts[0]
    assert act.result is not None
    assert (act.result.text, act.result.data["exit_code"]) == ("a - b", 0)
    assert act.result.data["imported"] == {"tool": "bash"}
    assert [message.role for message in trajectory.conversation(trajectory.step(3))] == [
        "system", "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert trajectory.step(1).model == "acme-large-2"


def test_mini_swe_agent_2(imported: One) -> None:
    made, trajectory = imported("mini-2.traj.json")
    assert (made.version, made.steps, made.tool_calls, made.messages) == ("1.1", 3, 3, 8)
    assert made.usage == Usage(input=660, cache_read=300, cache_write=150, output=94, reasoning=30)
    unparsed, two, last = trajectory.steps()
    assert (reply(unparsed).text, unparsed.acts) == ("It is 42, I believe.", ())
    assert unparsed.given[-1].parts[-1].__class__ is Image
    assert [(act.call.id, act.result.data["exit_code"]) for act in two.acts if act.result] == [
        ("toolu_2", 1), ("toolu_1", 0),
    ]  # fmt: skip
    assert two.acts[1].result is not None
    assert [act.result.text for act in two.acts if act.result] == ["[exit code 1]", "42"]
    assert trajectory.conversation(last)[-1].text == "<returncode>0</returncode>\n<output>42</output>"
    hidden = next(part for part in reply(last).parts if isinstance(part, Reasoning))
    assert hidden.text == "Hand it in."
    assert hidden.raw is not None
    assert hidden.raw["item"]["encrypted_content"] == "ZW5j"
    assert last.acts == ()  # nobody knows what came of it
    assert (last.begun_at, last.ended_at) == (1.5, 8.5)
    assert [note.data["content"] for note in trajectory.notes("imported.exit")] == ["42"]


def test_a_bare_list_of_messages(imported: One, sample: Sample) -> None:
    made, _ = imported(sample("mini-1.traj.json")["messages"])
    assert (made.format, made.version, made.steps, made.tool_calls) == ("mini-swe-agent", "", 3, 2)


def test_openhands(imported: One) -> None:
    made, trajectory = imported("openhands.json")
    assert (made.format, made.agent, made.outcome) == ("openhands", "CodeActAgent", "finish")
    assert (made.steps, made.tool_calls, made.messages) == (5, 4, 10)
    assert made.usage == Usage(input=110, cache_read=90, cache_write=100, output=30)
    assert made.cost_usd == 0.03
    assert calls(trajectory) == [
        ("shell", {"command": "ls"}),
        ("think", {"thought": "few"}),
        ("browse", {"url": "http://localhost"}),
    ]
    assert results(trajectory) == ["a\nb", "Your thought has been logged.", "no such page"]
    run, _, browse, message, finish = trajectory.steps()
    assert [(call.name, call.arguments) for call in reply(finish).tool_calls] == [("finish", {"final_thought": "Two."})]
    assert run.acts[0].result is not None
    assert run.acts[0].result.data["exit_code"] == 0
    assert run.acts[0].result.data["imported"]["tool"] == "execute_bash"
    assert browse.acts[0].result is not None
    assert browse.acts[0].result.is_error
    assert (reply(run).text, reply(message).text) == ("I look twice.", "There are two.")
    assert [step.reply.cost_usd for step in (run, finish) if step.reply] == pytest.approx([0.01, 0.02])
    assert [spec.name for spec in trajectory.tools(run.tools)] == ["shell"]
    assert (run.begun_at, run.ended_at, run.acts[0].ended_at) == (2.0, 5.0, 6.0)
    assert lost(made) == {
        "media behind an address": 1,
        "raw replies of the provider": 1,
        "replies with several tool calls": 1,
    }


def test_a_trajectory_of_openhands_as_its_server_gives_it(imported: One, sample: Sample) -> None:
    made, _ = imported({"trajectory": sample("openhands.json")})
    assert (made.format, made.steps) == ("openhands", 5)


def test_aide(imported: One) -> None:
    made, trajectory = imported("aide.json")
    assert (made.format, made.version, made.steps, made.tool_calls) == ("aide", "2", 4, 4)
    nodes = [dict(note.data) for note in trajectory.notes("node")]
    assert nodes[2] == {
        "id": 2, "parent": 1, "branch": "main/node-2", "stage": "debug", "plan": "Mended.", "is_buggy": False,
        "metric": 0.3, "lower_is_better": True, "analysis": "Better.", "exec_time_s": 1.0, "best": True,
    }  # fmt: skip
    assert [(node["stage"], node["is_buggy"], node["metric"], node["best"]) for node in nodes] == [
        ("draft", False, 0.5, True), ("draft", True, None, False), ("debug", False, 0.3, True),
        ("improve", True, None, False),
    ]  # fmt: skip
    broken = trajectory.step(2).acts[0]
    assert broken.call == ToolCall("main/node-1-use-1", "python", {"code": "raise ValueError('x')", "fresh": True})
    assert broken.result is not None
    assert (broken.result.text, broken.result.data["exit_code"]) == ("Traceback\n", 1)
    assert trajectory.step(4).acts[0].result is None
    assert [step.begun_at for step in trajectory.steps()] == [0.0, 10.0, 20.0, 30.0]


def test_inspect(importing: Many, opened: Callable[[Path], Trajectory]) -> None:
    one, two = importing("inspect.json")
    assert (one.format, one.benchmark, one.task, one.agent, one.score) == ("inspect", "sums", "one", "react", 1.0)
    assert (one.steps, one.tool_calls, one.messages) == (3, 1, 5)
    assert one.usage == Usage(input=20, cache_read=100, output=9)
    assert one.cost_usd == 0.002
    trajectory = opened(one.path)
    first, inner, last = trajectory.steps()
    assert [message.text for message in first.given] == ["You are a calculator.", "What is 6 * 7?"]
    assert (first.begun_at, first.ended_at) == (1.0, 3.0)
    assert first.config == {"temperature": 0.5, "max_output_tokens": 100}
    thought = next(part for part in reply(first).parts if isinstance(part, Reasoning))
    assert thought.raw == {"provider": "anthropic",
                           "item": {"type": "thinking", "thinking": "Compute.", "signature": "c2ln"}}  # fmt: skip
    (act,) = first.acts
    assert (act.call.name, act.call.arguments, act.result and act.result.text) == (
        "shell", {"command": "echo $((6*7))"}, "42",
    )  # fmt: skip
    assert act.ended_at == 6.0
    assert inner.branch == "main/checker"
    assert (inner.begun_at, inner.ended_at) == (4.0, 4.5)  # the tool that ran meanwhile ended later
    assert (last.kept, reply(last).text, last.reply and last.reply.retries) == (2, "42", 1)
    assert [reply(step).text for step in trajectory.judgements()] == ["Right."]
    assert [note.data["error"] for note in trajectory.notes("imported.failed")] == ["overloaded"]
    assert [note.data["name"] for note in trajectory.notes("imported.score")] == ["match", "style"]
    assert trajectory.header["benchmark"] == {"name": "sums", "version": "3", "options": {}}

    assert (two.task, two.outcome, two.score, two.steps, two.tool_calls) == ("2", "limit", None, 2, 1)
    trajectory = opened(two.path)
    assert trajectory.step(1).given[0].parts[1].__class__ is Image
    denied = trajectory.step(1).acts[0].result
    assert denied is not None
    assert (denied.text, denied.is_error) == ("no paint", True)


def test_calls_that_were_not_done_are_no_part_of_a_world(imported: One) -> None:
    """One was rejected and one never ended: the world of a subagent begins after the third alone, and no replay makes
    the rejected one again."""

    def tool(id: str, **more: Any) -> dict[str, Any]:
        return {"event": "tool", "id": id, "function": "bash", "arguments": {"cmd": "ls"}, "span_id": "a", **more}

    calls = [{"id": id, "function": "bash", "arguments": {"cmd": "ls"}} for id in ("no", "gone", "done")]
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    approval = {"event": "approval", "call": calls[0], "decision": "reject", "approver": "human", "explanation": "no"}
    events = [
        {"event": "span_begin", "id": "a", "type": "agent", "name": "a"},
        {"event": "model", "model": "m", "input": [], "span_id": "a", "output": {"choices": [{"message": said}]}},
        tool("no", error={"type": "approval", "message": "no"}),
        approval,
        tool("gone", pending=True),
        tool("done", result="x"),
        {"event": "span_begin", "id": "b", "parent_id": "a", "type": "agent", "name": "b"},
    ]
    log = {"version": 2, "eval": {"task": "t", "model": "m"}, "samples": [{"id": 1, "epoch": 1, "events": events}]}
    made, trajectory = imported(log)
    assert (made.steps, made.tool_calls) == (1, 3)
    assert [trajectory.act(seq).call.id for seq in trajectory.branches["main"].acts] == ["no", "gone", "done"]
    assert [trajectory.act(seq).call.id for seq in trajectory.performed("main")] == ["done"]
    assert (trajectory.branches["main/b"].parent, trajectory.branches["main/b"].position) == ("main", 1)


def test_events_of_kinds_that_nobody_knows_are_counted(imported: One) -> None:
    output = {"choices": [{"message": {"role": "assistant", "content": "Hi."}}]}
    events = [{"event": "model", "model": "m", "input": [], "output": output}, {"event": "brand_new"}, {"event": ["x"]}]
    log = {"version": 2, "eval": {"task": "t", "model": "m"}, "samples": [{"id": 1, "epoch": 1, "events": events}]}
    assert lost(imported(log)[0]) == {"events of a kind that is not known": 2}


def archive(path: Path, log: dict[str, Any], compression: int, *, chunks: int = 0, ended: bool = True) -> Path:
    """A `.eval` of a log: with whole samples, or in chunks of so many items."""
    log = dict(log)
    samples = log.pop("samples")
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("_journal/start.json", json.dumps({name: log[name] for name in ("version", "eval", "plan")}))
        for sample in samples:
            prefix = f"samples/{sample['id']}_epoch_{sample['epoch']}"
            if not chunks:
                file.writestr(f"{prefix}.json", json.dumps(sample))
                continue
            shell = dict(sample)
            pool = shell.pop("events_data", {"messages": []})["messages"]
            shell["message_refs"] = [[len(pool), len(pool) + len(shell["messages"])]]
            sequences = {"messages": [*pool, *shell.pop("messages")], "events": shell.pop("events"),
                         "attachments": list(shell.pop("attachments", {}).values())}  # fmt: skip
            file.writestr(f"{prefix}/sample.json", json.dumps(shell).replace("attachment://long", "attachment://0"))
            for name, items in sequences.items():
                for start in range(0, len(items), chunks):
                    text = json.dumps(items[start : start + chunks])
                    file.writestr(f"{prefix}/{name}/{start}.json", text.replace("attachment://long", "attachment://0"))
        if ended:
            file.writestr("header.json", json.dumps(log))
    return path


@pytest.mark.parametrize("chunks", [0, 3])
@pytest.mark.parametrize("ended", [True, False])
def test_an_archive_holds_the_same_as_json(
    importing: Many, sample: Sample, tmp_path: Path, chunks: int, ended: bool
) -> None:
    path = archive(tmp_path / "log.eval", sample("inspect.json"), zipfile.ZIP_DEFLATED, chunks=chunks, ended=ended)
    plain = {made.task: made for made in importing("inspect.json")}
    packed = importing(path)
    assert [made.task for made in packed] == ["2", "one"]
    for made in packed:
        events = [without_file(path / "trajectory.jsonl") for path in (made.path, plain[made.task].path)]
        assert events[0] == events[1]


def without_file(path: Path) -> list[dict[str, Any]]:
    """What a log says, but for the file that it was imported from."""
    events: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("file", "sha256", "metadata"):
        events[0]["imported"].pop(name, None)
    return [{name: value for name, value in event.items() if name != "chain"} for event in events]


def test_an_archive_compressed_with_zstd(importing: Many, sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    archive(tmp_path / "stored", sample("inspect.json"), zipfile.ZIP_STORED)
    with zipfile.ZipFile(tmp_path / "stored") as stored, zstd.ZipFile(path, "w", zstd.ZIP_ZSTANDARD) as file:
        for name in stored.namelist():
            file.writestr(name, stored.read(name))
    made = importing(path)
    assert [each.steps for each in made] == [2, 3]


def test_the_same_file_gives_the_same_bytes(importing: Many, sample: Sample) -> None:
    for name in ("atif.json", "old.traj", "attempts.traj", "mini-1.traj.json", "mini-2.traj.json", "openhands.json",
                 "aide.json", "inspect.json"):  # fmt: skip
        first, second = importing(name), importing(name)
        for one, two in zip(first, second, strict=True):
            assert (one.path / "trajectory.jsonl").read_bytes() == (two.path / "trajectory.jsonl").read_bytes()


def test_what_a_file_is_can_be_said(imported: One, sample: Sample) -> None:
    messages = sample("mini-1.traj.json")["messages"]
    both = {"messages": messages, "trajectory_format": "mini-swe-agent-1", "schema_version": "ATIF-v1.2", "agent": {}}
    with pytest.raises(ConversionError, match="looks like atif and mini-swe-agent: say which it is with --format"):
        imported(both)
    assert imported(both, "mini-swe-agent")[0].steps == 3
    with pytest.raises(ConversionError, match="does not look like aide"):
        imported(both, "aide")
