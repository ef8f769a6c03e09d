"""A sample of the points of table.py, in every scaffold: each is a real SIGKILL of `trellis run`, and its resume."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trellis.environments import kinds, store

from .table import ROWS, Program, attempt, outcome, points, uninterrupted

POINTS = {"sandbox": 2, "docker": 1}


@pytest.fixture(scope="module")
def available() -> dict[str, str]:
    """Why a kind is not to be had here; empty if it is."""
    return {facts.kind: "" if facts.available else facts.reason for facts in asyncio.run(kinds.doctor())}


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """Its worlds lie in a store of their own: whoever runs `trellis clean` beside this test leaves them alone."""
    with pytest.MonkeyPatch.context() as patch:
        worlds = Path(tempfile.mkdtemp(prefix="trellis-kill-", dir="/var/tmp"))
        patch.setenv("TRELLIS_WORLDS", str(worlds))
        program = Program(worlds)
        yield program
        program.close()
        store.remove_tree(worlds)


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "sandbox") for name in ROWS), pytest.param("tree, 3 at a time", "docker", marks=pytest.mark.docker)],
)
def test_killed_anywhere_an_episode_ends_as_if_nothing_had_been(
    program: Program, available: dict[str, str], name: str, kind: str, tmp_path: Path
) -> None:
    if reason := available[kind]:
        pytest.skip(f"{kind} is not to be had here: {reason}")
    whole = uninterrupted(program, ROWS[name], kind, tmp_path)
    assert whole.run is not None
    wanted = outcome(whole.run)
    seed = int(os.environ.get("KILL_SEED") or random.randrange(1 << 32))  # other points each time
    everywhere = points(whole.boundaries, whole.took_s, seed=seed)
    for kills in random.Random(seed).sample(everywhere, POINTS[kind]):
        tried = attempt(program, ROWS[name], kind, kills, wanted)
        assert (tried.killed > 0, tried.repeated, tried.differs) == (True, 0, ""), f"KILL_SEED={seed}: {kills}"
