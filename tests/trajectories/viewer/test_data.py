"""The documents of an episode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trellis.trajectories.trajectory import Trajectory
from trellis.trajectories.viewer.data import EpisodeData
from trellis.trajectories.viewer.documents import CLIP, clipped, encoded, loose, text_at, texts

from .conftest import PNG, Written


def data_of(log: Written) -> EpisodeData:
    return EpisodeData(Trajectory(log.close()))


async def test_what_an_episode_was_and_its_columns(written: Written) -> None:
    await written.step("one", [("shell", {"command": "ls"}, "a.py")])
    await written.step("two", [("shell", {"command": "x"}, "no")], error=True)
    written.branch("main/b")
    await written.step("three", branch="main/b")
    data = data_of(written)
    overview = data.overview()
    assert overview["steps"] == 3
    assert overview["header"]["episode"]["task"] == "t"
    assert [(b["name"], b["parent"], b["steps"]) for b in overview["branches"]] == [
        ("main", None, 2),
        ("main/b", "main", 1),
    ]
    columns = data.timeline()
    assert columns["branch"] == ["main", "main", "main/b"]
    assert columns["input"] == [10, 10, 10]
    assert [len(names) for names in columns["tools"]] == [1, 1, 0]
    assert columns["errors"] == [0, 1, 0]
    assert data.timeline() == columns
    (step,) = data.steps(2, 1)
    assert step["reply"]["parts"][0] == {"kind": "text", "text": "two"}
    assert step["acts"][0]["call"]["arguments"] == {"command": "x"}
    assert [step["number"] for step in data.steps(2, 100)] == [2, 3]
    assert data.steps(4, 100) == []
    data.trajectory.close()


async def test_long_texts_are_cut_and_can_be_had_whole(written: Written) -> None:
    long = "x" * CLIP + "tail"
    changes = [written.change("f.py", long, "before")]
    await written.step(
        long, [("shell", {"a/b~c": long, "command": "ls"}, long)], asked=long, think=long, changes=changes
    )
    written.node(id=1, parent=None, branch="main", stage="draft", plan=long, metric=1.0)
    data = data_of(written)
    (step,) = data.steps(1, 1)
    found = []

    def look(value: Any) -> None:
        if isinstance(value, dict) and "clipped" in value:
            found.append(value)
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                look(inner)

    look(step)
    look(data.conversation(1))
    look(data.node("1"))
    assert len(found) >= 8
    for each in found:
        whole = data.text(each["at"])
        assert len(whole) == each["chars"] > CLIP
        assert whole.startswith(each["clipped"])
    for at in (
        "",
        "step/1",
        "step/9/reply",
        "step/x/reply",
        "message/00/parts",
        "node/7/plan",
        "act/0/call",
        "judge/0/x",
    ):
        with pytest.raises((KeyError, IndexError)):
            data.text(at)
    data.trajectory.close()


async def test_numbers_that_are_none_and_ids_that_are_no_numbers(written: Written) -> None:
    await written.step("a", [("python", {"code": "one\ntwo"}, "out")], cost_usd=float("nan"))
    written.branch("main/n")
    await written.step("b", [("python", {"code": "one\n2"}, "out 2")], branch="main/n")
    nan, big = float("nan"), 2**60
    written.node(id="first", parent=None, branch="main", stage="draft", metric=nan, is_buggy=True, plan="p")
    written.node(id=big, parent="first", branch="main/n", metric=float("-inf"), best=True)
    written.node(id=["odd"], parent={"no": "sense"}, branch=7, metric="<b>")
    data = data_of(written)
    nodes = json.loads(encoded(data.overview()))["nodes"]
    assert [node["metric"] for node in nodes] == ["NaN", "-Infinity", "<b>"]
    assert nodes[1]["id"] == str(big)
    assert data.timeline()["cost_usd"] == [None, 0.25]
    node = data.node(str(big))
    assert (node["code"], node["output"], node["steps"]) == ("one\n2", "out 2", [2])
    assert "-two" in node["diff"].splitlines()
    assert data.node('["odd"]')["code"] == ""
    with pytest.raises(KeyError):
        data.node("none")
    assert json.loads(encoded(data.steps(1, 2)))[0]["reply"]["cost_usd"] == "NaN"
    data.trajectory.close()


async def test_search_finds_replies_results_and_what_was_asked(written: Written) -> None:
    await written.step(
        "Nothing.", [("shell", {"command": "grep STRASSE"}, "x" * 40_000 + "needle")], asked="A Question"
    )
    await written.step("Other.", [("edit", {"path": "thing.py"}, "done")])
    data = data_of(written)
    for text, found in (
        ("question", [1]),
        ("straße", [1]),
        ("NEEDLE", [1]),
        ("thing.PY", [2]),
        ("absent", []),
        ("", []),
    ):
        assert data.search(text, 10) == found, text
    assert data.search("o", 1) == [1]
    data.trajectory.close()


async def test_a_damaged_blob_costs_one_step(written: Written) -> None:
    await written.step("one", [("shell", {"command": "x"}, "y" * 50_000)])
    await written.step("two", [("shell", {"command": "x"}, "z")])
    data = data_of(written)
    blob = max((written.path.parent / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"damaged")
    first, _ = data.steps(1, 2)
    assert first["number"] == 1
    assert blob.name in first["damaged"]
    assert "\n" not in first["damaged"]
    assert data.timeline()["branch"] == ["main", "main"]
    assert data.search("two", 5) == [2]
    data.trajectory.close()


async def test_images_are_named_and_what_belongs_to_the_provider_is_not_sent(written: Written) -> None:
    await written.step("look", [("view_image", {"path": "a.png"}, "an image")], images=[PNG])
    data = data_of(written)
    (step,) = data.steps(1, 1)
    image = step["acts"][0]["result"]["parts"][1]
    assert data.trajectory.blobs.load(image["blob"]) == PNG
    assert data.events(1)[0]["kind"] == "generate.begun"
    data.trajectory.close()


async def test_the_last_messages_of_a_long_conversation(written: Written) -> None:
    for number in range(300):
        await written.step(f"step {number}", [("shell", {"command": "x"}, f"result {number}")])
    data = data_of(written)
    sent = data.conversation(300)
    assert (sent["before"], len(sent["messages"])) == (99, 500)
    assert sent["messages"][-1]["parts"][0]["parts"][0]["text"] == "result 298"
    assert data.conversation(1)["before"] == 0
    data.trajectory.close()


def test_documents_of_anything() -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = {"in": deep}
    shown = loose({"deep": deep, "wide": list(range(5000)), "__proto__": {"x": 1}, "plain": [1, "a"]})
    assert shown["plain"] == [1, "a"]
    assert shown["__proto__"] == {"x": 1}
    assert json.loads(shown["wide"]) == list(range(5000))
    assert "bottom" in shown["deep"]
    assert loose({"x": [{"clipped": "a", "chars": 9}]})["x"] == '[{"clipped": "a", "chars": 9}]'
    assert set(loose({str(n): n for n in range(2000)})) == {""}
    assert list(texts(deep)) == ["bottom"]
    document = clipped({"a/b~": ["x" * (CLIP + 1)], "n": 2**60, "f": float("inf"), "s": "\ud800"}, ("step", 1))
    assert json.loads(encoded(document))["s"] == "\ud800"
    assert document["n"] == str(2**60)
    assert document["f"] == "Infinity"
    at = document["a/b~"][0]["at"]
    assert text_at({"a/b~": ["whole"]}, at.split("/")[2:]) == "whole"
    assert encoded([float("nan")]) == '["NaN"]'


async def test_a_header_without_an_episode(tmp_path: Path) -> None:
    from trellis.trajectories.recorder import Recorder

    Recorder(tmp_path, {"other": "x" * (CLIP + 10)}).close()
    with Trajectory(tmp_path) as trajectory:
        overview = EpisodeData(trajectory).overview()
    assert overview["header"]["episode"]["task"] == "trajectory.jsonl"
    assert len(overview["header"]["other"]) < CLIP + 100
