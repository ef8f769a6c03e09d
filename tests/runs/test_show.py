"""`trellis show`: episodes and steps as text and as JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trellis.models.messages import assistant, message_from_json, user
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, Usage
from trellis.runs.forks import read_reply
from trellis.trajectories.recorder import Recorder

Trellis = Callable[..., Any]
Write = Callable[..., Any]

TWO = [
    ("I look around.", [("shell", {"command": "ls"}, "a.py\nb.py")]),
    ("I edit.", [("edit", {"path": "a.py", "old": "1", "new": "2\n3"}, "done"), ("submit", {}, "handed in")]),
]


def steers(text: str) -> list[str]:
    """Characters that would steer a terminal."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


async def test_an_episode_as_text(trellis: Trellis, write_log: Write, tmp_path: Path) -> None:
    log = await write_log(tmp_path / "e", TWO)
    shown = trellis("show", str(log)).out
    assert shown.startswith("b t · react · epoch 1\nno result · 2 steps, 3 tool calls · 30 tokens · $0.50")
    assert (
        "step 1 · main:1 · test/model · 10 in, 5 out · $0.2500 · 0.5 s\n  │ I look around.\n    → shell: ls\n" in shown
    )
    assert "    │ a.py\n    │ b.py\n    (exit 0 · 0.0 s)\n" in shown
    assert "    → edit\n    ⋮ path: a.py\n    ⋮ old: 1\n    ⋮ new: 2\n    ⋮ 3\n" in shown
    assert "Be good." not in shown
    assert "  « system: Be good.\n  « user: Go.\n" in trellis("show", str(log), "--conversation").out


async def test_a_step_with_everything(trellis: Trellis, write_log: Write, tmp_path: Path) -> None:
    long = "\n".join(f"line {n}" for n in range(1000))
    log = await write_log(tmp_path / "e", [*TWO, ("Well.", [("shell", {"command": "seq"}, long)])], think="Hmm.")
    assert "characters cut here" in trellis("show", str(log)).out
    assert "characters cut here" not in trellis("show", str(log), "--full").out
    shown = trellis("show", str(log), "main:3").out
    assert "line 500\n" in shown
    assert "  ┆ Hmm.\n  │ Well.\n" in shown
    whole = trellis("show", str(log), "3", "--conversation").out
    assert whole.index("« user: Go.") < whole.index("« assistant: Hmm.") < whole.index("« result: a.py")


async def test_a_step_as_json_is_a_reply_to_edit(trellis: Trellis, write_log: Write, tmp_path: Path) -> None:
    log = await write_log(tmp_path / "e", TWO)
    document = trellis("show", str(log), "1", "--json").document
    assert message_from_json(document["reply"]).tool_calls[0].arguments == {"command": "ls"}
    assert document["acts"][0]["result"]["parts"][0]["text"] == "a.py\nb.py"
    document["reply"]["parts"][0]["text"] = "I look elsewhere."
    (tmp_path / "edited.json").write_text(json.dumps(document))
    assert message_from_json(read_reply(tmp_path / "edited.json")).text == "I look elsewhere."
    whole = trellis("show", str(log), "--json").document
    assert [each["step"] for each in whole["events"]] == [1, 2]
    assert (whole["task"], whole["steps"], whole["acts"], whole["cost_usd"]) == ("t", 2, 3, 0.5)


async def test_what_was_cut_off_or_too_long_is_said(trellis: Trellis, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "e", {"episode": "own"})

    async def answer() -> Reply:
        return Reply(assistant("yes"), "length", Usage(), None, 0.0)

    async def overflow() -> Reply:
        raise ContextOverflow("too many tokens")

    recorder.once("note.plan", "main", data={"idea": "this"})
    await recorder.generate("main", "main", "m", [user("go")], (), GenerateConfig(), answer)
    try:
        await recorder.generate("main", "review", "m", [user("go")], (), GenerateConfig(), overflow)
    except ContextOverflow:
        recorder.event("generate.begun", "main", role="main", model="m", after=None, keep=0, messages=[], tools="",
                       config={}, request="x")  # fmt: skip
    recorder.close()
    shown = trellis("show", str(tmp_path / "e")).out
    assert 'main, before its first step\n  * plan: {"idea": "this"}' in shown
    assert "step 1 · main:1 · m · 0 in, 0 out · unpriced · 0.0 s\n  │ yes\n  (length)" in shown
    assert "step 2 · main:2 · m as review\n  │ (the conversation was too long: too many tokens)" in shown
    assert "step 3 · main:3 · m\n  │ (cut off)" in shown
    assert [each.get("step") for each in trellis("show", str(tmp_path / "e"), "--json").document["events"]] == [
        None, 1, 2, 3,
    ]  # fmt: skip


async def test_nothing_that_others_wrote_steers_the_terminal(
    trellis: Trellis, write_log: Write, hostile: str, tmp_path: Path
) -> None:
    change = {"path": hostile, "kind": "added", "mode": 0o100644, "size": 3, "sha256": "", "text": False}
    log = await write_log(
        tmp_path / "e", [(hostile, [(hostile, {hostile: hostile}, hostile)])], task=hostile, agent=hostile,
        model=hostile, think=hostile, changes=[change], note=("n" + hostile, {"x": hostile}),
    )  # fmt: skip
    for arguments in ((), ("1",), ("--full", "--conversation"), ("1", "--conversation")):
        shown = trellis("show", str(log), *arguments).out
        assert steers(shown) == []
        assert "red" in shown
        ours = [line for line in shown.splitlines() if line.startswith("step ")]
        assert len(ours) == 1, "nobody else begins a step"
    document = trellis("show", str(log), "1", "--json").document
    assert message_from_json(document["reply"]).tool_calls[0].arguments == {hostile: hostile}


async def test_very_long_lines_are_shown_whole_where_asked_for(
    trellis: Trellis, write_log: Write, tmp_path: Path
) -> None:
    log = await write_log(tmp_path / "e", [("x" * 300_000, [])])
    assert len(trellis("show", str(log)).out) < 10_000
    assert trellis("show", str(log), "1").out.count("x") == 300_000


async def test_wrong_usage_is_one_line(trellis: Trellis, write_log: Write, tmp_path: Path) -> None:
    log = await write_log(tmp_path / "e", TWO)
    assert "steps 1 to 2" in trellis("show", str(log), "9").complaint
    assert "is no trajectory" in trellis("show", "nowhere").complaint


def test_changed_files_can_be_left_unrecorded(trellis: Trellis, sums: str) -> None:
    ran = trellis(
        "run", f"{sums}:Sums:world", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "--limit", "1",
        "--env", "local", "--no-record-changes", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    run: str = ran.document["run"]
    assert "record_changes = false" in (Path(run) / "experiment.toml").read_text()
    events = trellis("show", run, "--json").document["events"]
    assert [act["changes"] for step in events for act in step["acts"]] == [[], [], []]
