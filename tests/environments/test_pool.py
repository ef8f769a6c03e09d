"""Starts that are limited and come ahead of their use."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trellis.environments import store
from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, Kind
from trellis.environments.pool import Pool

LABEL = f"test-{os.getpid()}/pool"


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def owners() -> list[str]:
    return sorted(
        json.loads((folder / store.OWNER).read_text())["label"] for folder in store.labelled(LABEL, dead_only=False)
    )


async def test_no_more_start_at_a_time_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0
    start = EnvironmentSpec.start

    async def counted(self: EnvironmentSpec, **rest: Any) -> Environment:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await start(self, **rest)
        finally:
            under_way -= 1

    monkeypatch.setattr(EnvironmentSpec, "start", counted)
    pool = Pool(starts=3)
    worlds = await asyncio.gather(*(pool.start(EnvironmentSpec(kind="local"), label=LABEL) for _ in range(12)))
    assert most == 3
    assert (await asyncio.gather(*(world.exec("echo all run") for world in worlds)))[11].stdout == b"all run\n"
    await asyncio.gather(*(world.close() for world in worlds))
    await pool.close()


async def test_a_warm_world_goes_to_who_asks_for_its_recipe(kind: Kind) -> None:
    one, other = EnvironmentSpec(kind=kind, env={"X": "1"}), EnvironmentSpec(kind=kind, env={"X": "2"})
    pool = Pool(starts=2, warm=1, label=f"{LABEL}/warm")
    pool.expect([one, other])
    await until(lambda: pool._ready[0].starting.done())
    warm = pool._ready[0].starting.result()
    told: list[tuple[str, Mapping[str, Any]]] = []
    taken = await pool.start(one, label=f"{LABEL}/episode", on_event=lambda kind, facts: told.append((kind, facts)))
    assert taken is warm
    assert (await taken.exec("echo $X")).stdout == b"1\n"
    fork = await taken.fork()  # what comes of it belongs to the episode
    await fork.close()
    if kind != "docker":
        assert f"{LABEL}/episode" in owners()
    await taken.close()
    second = await pool.start(other, label=f"{LABEL}/episode")  # was begun when the first was taken
    assert (await second.exec("echo $X")).stdout == b"2\n"
    await second.close()
    await pool.close()


async def test_a_world_that_broke_while_it_waited_is_replaced() -> None:
    pool = Pool(starts=1, warm=1, label=f"{LABEL}/warm")
    spec = EnvironmentSpec(kind="local")
    pool.expect([spec])
    await until(lambda: pool._ready[0].starting.done())
    warm = pool._ready[0].starting.result()
    await warm.close()
    world = await pool.start(spec, label=LABEL)
    assert world is not warm
    assert (await world.exec("true")).ok
    await world.close()
    await pool.close()


async def test_a_warm_start_that_fails_is_told_to_who_needs_it() -> None:
    pool = Pool(starts=1, warm=1, label=f"{LABEL}/warm")
    spec = EnvironmentSpec(kind="local", setup="exit 3")
    pool.expect([spec])
    await until(lambda: pool._ready[0].starting.done())
    with pytest.raises(EnvironmentFault, match="ended with 3"):
        await pool.start(spec, label=LABEL)
    await pool.close()


async def test_who_is_cancelled_leaves_the_warm_world_to_others() -> None:
    pool = Pool(starts=1, warm=1, label=f"{LABEL}/warm")
    spec = EnvironmentSpec(kind="local", setup="sleep 0.3")
    pool.expect([spec])
    asking = asyncio.create_task(pool.start(spec, label=LABEL))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (left,) = pool._ready
    world = await pool.start(spec, label=LABEL)
    assert world is left.starting.result()
    await world.close()
    await pool.close()


async def test_nothing_is_left_of_worlds_nobody_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_WORLDS", str(tmp_path / "worlds"))
    pool = Pool(starts=2, warm=3, label=f"{LABEL}/warm")
    spec = EnvironmentSpec(kind="local")
    pool.expect([spec, replace(spec, env={"A": "b"}), replace(spec, setup="sleep 600")])
    await until(lambda: pool._ready[0].starting.done())
    await pool.close()
    assert owners() == []


async def test_nothing_is_left_of_worlds_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_WORLDS", str(tmp_path / "worlds"))
    pool = Pool(starts=2, warm=1, label=f"{LABEL}/warm")
    spec, other = EnvironmentSpec(kind="local"), EnvironmentSpec(kind="local", env={"A": "b"})
    pool.expect([spec, other, spec])
    await until(lambda: pool._ready[0].starting.done())
    broken = pool._ready[0].starting.result()
    with pytest.raises(EnvironmentFault):
        await broken.exec("kill -9 $(ps -o ppid= $PPID)")
    world = await pool.start(spec, label=LABEL)
    assert list(pool._expected) == [spec], "somebody else still needs one"
    await world.close()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "relabel", full)
    with pytest.raises(OSError, match="No space left"):
        await pool.start(other, label=LABEL)
    await pool.close()
    assert owners() == []


async def test_who_is_cancelled_after_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_WORLDS", str(tmp_path / "worlds"))
    pool = Pool(starts=1, warm=1, label=f"{LABEL}/warm")
    spec = EnvironmentSpec(kind="local", setup="sleep 600")
    pool.expect([spec])
    await until(owners)
    asking = asyncio.create_task(pool.start(spec, label=LABEL))
    await until(lambda: not pool._ready)
    await pool.close()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert owners() == []
