"""What the shipped scaffolds ask for is what they asked for when they were recorded: a changed prompt, tool or order of
calls shows as a readable diff. If it is meant: `pytest --trellis-update tests/regression`."""

from __future__ import annotations

import pytest

from trellis.runs.pytest_plugin import Replay


@pytest.mark.parametrize("scaffold", ["react", "best_of_n", "tree", "repo_tree"])
def test_it_asks_for_the_same(replay: Replay, scaffold: str) -> None:
    replay(f"trajectories/{scaffold}.jsonl")
