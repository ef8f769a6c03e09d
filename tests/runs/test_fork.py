"""Episodes go on from a step of one that was: the world is made again, what is kept is not asked again, and what comes
of it is a run like any other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Reasoning, Text
from trellis.trajectories.trajectory import Trajectory

Trellis = Callable[..., "Ran"]  # type: ignore[name-defined]  # noqa: F821


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the model was asked since the last look."""
    path = tmp_path / "marks"
    monkeypatch.setenv("SUMS_MARKS", str(path))

    def look() -> int:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return len(lines)

    return look


@pytest.fixture
def old(trellis: Trellis, sums: str, marks: Callable[[], int]) -> str:
    """An episode of three votes, each of which left a line in its world."""
    ran = trellis(
        "run", f"{sums}:Sums:world", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "-M", "error_rate=0",
        "--limit", "1", "--env", "local", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert marks() == 3
    run: str = ran.document["run"]
    return run


def results(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "results.jsonl").read_text().splitlines()]


def trajectory(run: str) -> Trajectory:
    (path,) = Path(run).rglob("trajectory.jsonl")
    return Trajectory(path)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_what_is_kept_is_not_asked_again_and_the_world_is_made_again(
    trellis: Trellis, old: str, marks: Callable[[], int], at: int
) -> None:
    ran = trellis("fork", old, "--at", str(at), "--json")
    assert ran.status == 0, ran.err
    assert marks() == 3 - at
    (result,) = results(ran.document["run"])
    assert result["agent"] == f"Asker@{at}"
    assert result["score"]["evidence"] == {"steps": "3"}
    with trajectory(ran.document["run"]) as forked:
        assert forked.header["fork"]["at"] == str(at)
        assert forked.header["fork"]["episode"]["agent"] == "Asker"
        assert [step.reply.cached for step in forked.steps() if step.reply] == [True] * at + [False] * (3 - at)


def test_what_was_paid_already_counts_for_the_episode_and_not_for_the_run(trellis: Trellis, old: str) -> None:
    ran = trellis("fork", old, "--at", "main:2", "--max-cost-usd", "0.02", "--json")
    assert ran.status == 0, ran.err
    (result,) = results(ran.document["run"])
    assert result["cost_usd"] == pytest.approx(0.03)
    assert result["calls"]["saved_usd"] == pytest.approx(0.02)


def test_several_forks_go_different_ways(trellis: Trellis, old: str) -> None:
    ran = trellis("fork", old, "--at", "1", "-n", "4", "-M", "error_rate=0.5", "--json")
    assert ran.status == 0, ran.err
    texts = set()
    for path in Path(ran.document["run"]).rglob("trajectory.jsonl"):
        with Trajectory(path) as forked:
            replies = [step.reply.text for step in forked.steps() if step.reply]
            assert replies[0] == "10"
            texts.add(tuple(replies))
    assert len(texts) > 1


def test_another_model_and_other_options(trellis: Trellis, old: str, sums: str, marks: Callable[[], int]) -> None:
    ran = trellis("fork", old, "--at", "2", "--model", f"{sums}:Priceless", "-S", "votes=5", "--json")
    assert ran.status == 0, ran.err
    assert marks() == 3
    with trajectory(ran.document["run"]) as forked:
        assert len(forked) == 5
        assert forked.header["models"] == {"main": "test/adder"}
        assert forked.header["scaffold"]["options"] == {"votes": 5}


def test_something_is_said_to_the_model(trellis: Trellis, old: str) -> None:
    ran = trellis("fork", old, "--at", "2", "--message", "Think of 7.", "--json")
    assert ran.status == 0, ran.err
    asked = sent(ran.document["run"])
    assert [texts[-1] for texts in asked[:2]] != ["Think of 7."] * 2
    assert asked[2][-1] == "Think of 7."


def sent(run: str) -> list[list[str]]:
    """What the model was asked at each step."""
    with trajectory(run) as forked:
        return [[message.text for message in forked.conversation(step)] for step in forked.steps()]


def test_what_was_said_stays_in_forks_of_the_fork(trellis: Trellis, old: str) -> None:
    first = trellis("fork", old, "--at", "1", "--message", "Think of 7.", "--json").document["run"]
    second = trellis("fork", first, "--at", "2", "--message", "And of 8.", "--json").document["run"]
    third = trellis("fork", second, "--at", "3", "-S", "votes=4", "--json").document["run"]
    told = [[text for text in texts if text.startswith(("Think", "And"))] for texts in sent(third)]
    assert told == [[], ["Think of 7."], ["Think of 7.", "And of 8."], ["Think of 7.", "And of 8."]]
    assert sent(third)[1][-1] == "Think of 7."
    for run in (first, second, third):
        ran = trellis("replay", run, "--recorded")
        assert ran.status == 0, ran.out
    before = trellis("fork", second, "--at", "1", "--json").document["run"]
    assert not any("Think of 7." in texts for texts in sent(before)), "it was said afterwards"


@pytest.mark.parametrize(
    "edited",
    [
        "99",
        json.dumps({"role": "assistant", "parts": [{"kind": "text", "text": "99"}]}),
        json.dumps({"step": 2, "reply": {"role": "assistant", "parts": [{"kind": "text", "text": "99"}]}}),
    ],
    ids=["text", "message", "step"],
)
def test_another_reply_stands_for_the_recorded_one(
    trellis: Trellis, old: str, tmp_path: Path, marks: Callable[[], int], edited: str
) -> None:
    (tmp_path / "reply").write_text(edited)
    ran = trellis("fork", old, "--at", "2", "--edit", "reply", "--json")
    assert ran.status == 0, ran.err
    assert marks() == 1
    with trajectory(ran.document["run"]) as forked:
        assert [step.reply.text for step in forked.steps() if step.reply] == ["10", "99", "10"]
        assert forked.header["fork"]["edited"] is True
    (result,) = results(ran.document["run"])
    assert result["score"]["evidence"] == {"steps": "3"}, "what the edited reply set off was done again"


def test_a_provider_is_not_sent_its_own_item_for_a_part_that_was_edited(
    trellis: Trellis, sums: str, tmp_path: Path
) -> None:
    code = f"""
from dataclasses import replace
from trellis.models.messages import Reasoning, Text, assistant
from trellis.runs.registry import resolve

class Provider(resolve("model", {sums + ":Adder"!r})):
    async def generate(self, messages, *, tools=(), config=None):
        reply = await super().generate(messages, tools=tools, config=config)
        item = {{"provider": "p", "item": {{"text": reply.message.text}}}}
        return replace(reply, message=assistant(Reasoning("", item), Text(reply.message.text, item)))
"""
    (tmp_path / "provider.py").write_text(code)
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--limit", "1",
                  "--model", f"{tmp_path}/provider.py:Provider", "--json")  # fmt: skip
    run = ran.document["run"]
    shown = trellis("show", run, "2", "--json").document
    shown["reply"]["parts"][1]["text"] = "99"
    (tmp_path / "reply.json").write_text(json.dumps(shown))
    forked = trellis("fork", run, "--at", "2", "--edit", "reply.json", "--json").document["run"]
    with trajectory(forked) as log:
        reply = log.step(2).reply
        assert reply is not None
        reasoning, text = reply.message.parts
    assert text == Text("99")
    assert isinstance(reasoning, Reasoning)
    assert reasoning.raw is not None


def test_a_fork_is_forked_and_resumed(trellis: Trellis, old: str, marks: Callable[[], int]) -> None:
    first = trellis("fork", old, "--at", "1", "--json").document["run"]
    marks()
    second = trellis("fork", first, "--at", "2", "--json").document["run"]
    assert marks() == 1
    (Path(second) / "results.jsonl").unlink()
    with trajectory(second) as forked:
        path, entries = forked.path, forked.file.entries
    kept = next(entry for entry in entries[5:] if entry.kind == "generate.done")
    path.write_bytes(path.read_bytes()[: kept.offset + kept.length])
    ran = trellis("resume", second, "--json")
    assert ran.status == 0, ran.err
    assert marks() == 1
    (result,) = results(second)
    assert result["score"]["evidence"] == {"steps": "3"}
    assert result["agent"] == "Asker@1@2"


def test_what_was_said_is_said_once_when_the_fork_is_resumed(trellis: Trellis, old: str) -> None:
    forked = trellis("fork", old, "--at", "1", "--message", "Think of 7.", "--json").document["run"]
    before = sent(forked)
    with trajectory(forked) as log:
        path, second = log.path, log.file.entries[log.step(2).done or 0]
    path.write_bytes(path.read_bytes()[: second.offset + second.length])
    (Path(forked) / "results.jsonl").unlink()
    ran = trellis("resume", forked, "--json")
    assert ran.status == 0, ran.err
    assert sent(forked) == before
    assert [texts.count("Think of 7.") for texts in before] == [0, 1, 1]


def test_the_chance_of_success_along_a_trajectory(trellis: Trellis, old: str) -> None:
    ran = trellis("fork", old, "--each", "-n", "2", "--score", "-M", "error_rate=1", "--json")
    assert ran.status == 0, ran.err
    each = ran.document["each"]
    assert [point["step"] for point in each] == [0, 1, 2, 3]
    assert [point["success"]["value"] for point in each] == [0, 0, 1, 1], "two right votes of three win"
    assert [point["episodes"] for point in each] == [2] * 4
    assert (ran.document["won_at"], ran.document["lost_at"]) == (2, None)
    assert "shell echo 0 >> steps.txt" in each[1]["did"]
    assert "won most" in Path(ran.document["chart"]).read_text()
    assert Path(ran.document["report"]).exists()
    shown = trellis("fork", old, "--each", "--score", "-M", "error_rate=1")
    assert "won most at step 2" in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say where to fork: --at STEP, or --each for every step"),
        (("--at", "9"), "has steps 1 to 3; there is no step 9"),
        (("--at", "side:1"), "has no steps on branch 'side'"),
        (("--at", "1", "--each"), "say where to fork"),
        (("--each", "--message", "x"), "--edit and --message go with --at"),
        (("--at", "1", "--score"), "it goes with --each"),
        (("--at", "1", "--edit", "gone"), "--edit gone: No such file"),
        (("--at", "0", "--edit", "marks"), "name the step"),
        (("--at", "1", "--edit", "user.json"), "of role 'user', and a reply's is assistant"),
        (("--at", "1", "--edit", "odd.json"), "not a message"),
        (("--at", "1", "-S", "voices=2"), "voices"),
    ],
)
def test_wrong_usage_is_one_line(
    trellis: Trellis, old: str, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "marks").write_text("a reply")
    (tmp_path / "user.json").write_text(json.dumps({"role": "user", "parts": []}))
    (tmp_path / "odd.json").write_text(json.dumps({"parts": 5}))
    ran = trellis("fork", old, *arguments)
    assert ran.status == 2
    assert said in ran.complaint
