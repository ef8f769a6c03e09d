"""A sample of the points of table.py, in every scaffold: each is a real SIGKILL of `trellis run`, and its resume."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trellis.environments import kinds, leftovers, store

from .table import points
from .trials import ROWS, Kill, Program, Trial, attempt, outcome, uninterrupted

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


Whole = Callable[[str, str], Trial]


@pytest.fixture(scope="module")
def whole(program: Program, available: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What nobody killed, of each row and kind once; what is not to be had here is skipped."""

    @functools.cache
    def run(name: str, kind: str) -> Trial:
        return uninterrupted(program, ROWS[name], kind, tmp_path_factory.mktemp("whole"))

    def found(name: str, kind: str) -> Trial:
        if reason := available[kind]:
            pytest.skip(f"{kind} is not to be had here: {reason}")
        return run(name, kind)

    return found


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sandbox", pytest.param("docker", marks=pytest.mark.docker)])
@pytest.mark.parametrize("cleaned", [False, True])
def test_worlds_go_on_from_snapshots_of_killed_processes_while_those_are_there(
    program: Program, whole: Whole, kind: str, cleaned: bool, tmp_path: Path
) -> None:
    name = "react, snapshot after each call"
    wanted = whole(name, kind)
    killed = Trial(program, ROWS[name], kind, tmp_path)
    assert killed.go(Kill(wanted.boundaries * 3 // 4, "after")) == -9
    assert killed.run is not None
    assert wanted.run is not None
    if cleaned:
        left = asyncio.run(leftovers.find(killed.run.name, dead_only=True))
        assert any(each.what == "snapshot" for each in left)
        asyncio.run(leftovers.remove(left))
    assert killed.go() == 0, killed.output
    assert outcome(killed.run) == outcome(wanted.run)
    assert (killed.made_again > 1) == cleaned  # one may have come after the last snapshot
    assert asyncio.run(leftovers.find(killed.run.name, dead_only=True)) == []


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "found"),
    [
        ("answers are not logged at once", "in flight"),
        ("recorded answers are not found", "repeated"),
        ("worlds are not rebuilt", "submission"),
        ("what was killed is not removed", "left behind"),
    ],
)
def test_the_suite_finds_what_is_broken(program: Program, whole: Whole, sabotage: str, found: str) -> None:
    wanted = whole("react", "sandbox")
    assert wanted.run is not None
    broken = replace(ROWS["react"], order={**ROWS["react"].order, "sabotage": sabotage})
    kill = Kill(wanted.boundaries // 2, "after")
    tried = attempt(program, broken, "sandbox", [kill], outcome(wanted.run))
    assert not tried.good
    assert found in (f"{tried.repeated} repeated; " if tried.repeated else "") + tried.differs


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "sandbox") for name in ROWS), pytest.param("tree, 3 at a time", "docker", marks=pytest.mark.docker)],
)
def test_killed_anywhere_an_episode_ends_as_if_nothing_had_been(
    program: Program, whole: Whole, name: str, kind: str
) -> None:
    trial = whole(name, kind)
    assert trial.run is not None
    wanted = outcome(trial.run)
    seed = int(os.environ.get("KILL_SEED") or random.randrange(1 << 32))  # other points each time
    everywhere = points(trial.boundaries, trial.took_s, seed=seed)
    for kills in random.Random(seed).sample(everywhere, POINTS[kind]):
        tried = attempt(program, ROWS[name], kind, kills, wanted)
        assert (tried.killed > 0, tried.repeated, tried.differs) == (True, 0, ""), f"KILL_SEED={seed}: {kills}"
