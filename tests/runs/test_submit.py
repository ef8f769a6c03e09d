"""A typed answer from the task to the score: what does not fit comes back, and the episode goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(("benchmark", "answer", "steps"), [("TypedSums", "10", 2), ("Sums", "It is 10.", 1)])
def test_a_wrong_answer_comes_back_and_the_right_one_counts(
    trellis: Callable[..., Any], sums: str, tmp_path: Path, benchmark: str, answer: str, steps: int
) -> None:
    ran = trellis("run", f"{sums}:{benchmark}", "--model", f"{sums}:Submitter", "--limit", "1", "--json")
    assert ran.status == 0, ran.err
    (line,) = next((tmp_path / "runs").rglob("results.jsonl")).read_text().splitlines()
    result = json.loads(line)
    assert (result["score"]["explanation"], result["steps"]) == (answer, steps)
    events = [json.loads(line) for line in next(tmp_path.rglob("trajectory.jsonl")).read_text().splitlines()]
    (specs,) = [event["specs"] for event in events if event["kind"] == "tools"]
    kind = next(s for s in specs if s["name"] == "submit")["parameters"]["properties"]["answer"]["type"]
    assert kind == ("integer" if benchmark == "TypedSums" else "string")
    results = [event["answer"]["result"] for event in events if event["kind"] == "act.done"]
    assert [r["is_error"] for r in results] == [True, False][-steps:]
    if steps == 2:
        assert 'you gave "It is 10."' in results[0]["parts"][0]["text"]


def test_words_alone_are_no_typed_answer(trellis: Callable[..., Any], sums: str, tmp_path: Path) -> None:
    """In a task without a world a reply without tool calls is the answer, but not one that must be checked."""
    arguments = ["--model", f"{sums}:Adder", "--limit", "1", "--max-steps", "3", "--json"]
    assert trellis("run", f"{sums}:TypedSums", *arguments).document["outcomes"] == {"limit": 1}
    assert trellis("run", f"{sums}:Sums", *arguments).document["outcomes"] == {"completed": 1}
    unoffered = trellis("run", f"{sums}:TypedSums", *arguments, "--tools", "shell")
    assert unoffered.document["outcomes"] == {"completed": 1}, "where submit is not on offer nothing can check"
