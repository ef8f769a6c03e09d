"""A conversation that never fits ends its episode as a limit, scored, and says so; the rest of the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ran

MODEL = '''
from trellis.models.messages import assistant
from trellis.models.model import ContextOverflow, Reply, Usage


class Small:
    """Answers sums of up to 11; longer conversations are too long for it."""

    name = "small"

    async def generate(self, messages, *, tools=(), config=None):
        with open("marks", "a") as marks:
            marks.write("x")
        number = int(messages[-1].text.split()[2])
        if number > 1:
            raise ContextOverflow("small: the conversation is too long")
        return Reply(assistant(str(number + 10)), usage=Usage(input=5, output=1), cost_usd=0.0)
'''


@pytest.mark.parametrize("policy", ["none", "trim"])
def test_an_overflow_is_a_limit(trellis: Callable[..., Ran], sums: str, tmp_path: Path, policy: str) -> None:
    Path("small.py").write_text(MODEL)
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "react", "-S", f"context={policy}",
                  "--model", "small.py:Small", "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    [results] = tmp_path.glob("runs/*/results.jsonl")
    ended = [json.loads(line) for line in results.read_text().splitlines()]
    assert (
        sorted((end["outcome"], end.get("limit", "")) for end in ended)
        == [("completed", "")] * 2 + [("limit", "context")] * 2
    )
    assert all(end["score"] is not None for end in ended)
    assert trellis("reprice", str(results.parent)).status == 0  # calls without an answer have no price to change
    assert len(Path("marks").read_text()) == 4  # nothing can be left out of them, so nobody asks again


def test_the_options_are_the_scaffolds(trellis: Callable[..., Ran], sums: str) -> None:
    for scaffold in ("react", "best_of_n", "repo_tree"):
        ran = trellis(
            "run", f"{sums}:Sums:plain", "--scaffold", scaffold, "-S", "context=triim", "--model", "offline/chance"
        )
        assert ran.status == 2
        assert "context" in ran.complaint
        assert "'trim'" in ran.complaint
