"""The cost of a run: capped before a call, shared by episodes, and not paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Text, assistant, user
from trellis.models.model import GenerateConfig, Priced, Reply
from trellis.runs.errors import RunStopped
from trellis.runs.metering import Meter, recorded_usd
from trellis.trajectories import packing
from trellis.trajectories.log import SCHEMA, Log

ASK = [user("Hello")]


class Teller:
    name = "test/teller"

    def __init__(self, worst_usd: float | None = 0.4, cost_usd: float | None = 0.1, cached: bool = False) -> None:
        self.asked = 0
        self._worst_usd, self._cost_usd, self._cached = worst_usd, cost_usd, cached

    def worst_case_usd(self, messages: object, *, tools: object = (), config: object = None) -> float | None:
        return self._worst_usd

    async def generate(self, messages: object, *, tools: object = (), config: GenerateConfig | None = None) -> Reply:
        self.asked += 1
        await asyncio.sleep(0)
        return Reply(assistant(Text("hm")), cost_usd=self._cost_usd, cached=self._cached)


async def test_ten_episodes_do_not_pass_the_cap_together() -> None:
    model, meter = Teller(worst_usd=0.4, cost_usd=0.4), Meter(1.0)
    models = [meter.over({"main": model})["main"] for _ in range(10)]
    ended = await asyncio.gather(*(m.generate(ASK) for m in models), return_exceptions=True)
    assert model.asked == 2
    stops = [e for e in ended if isinstance(e, RunStopped)]
    assert len(stops) == 8
    assert str(stops[0]).startswith(
        "stopped before the cost cap: $0.8000 of $1 spent, and the next call may cost up to $0.4000; resume with"
    )
    assert meter.spent_usd == pytest.approx(0.8)


async def test_a_call_that_may_exceed_the_cap_is_not_made() -> None:
    model, meter = Teller(worst_usd=1.5), Meter(1.0)
    metered = meter.over({"main": model})["main"]
    assert isinstance(metered, Priced)
    with pytest.raises(RunStopped):
        await metered.generate(ASK)
    assert model.asked == 0


async def test_where_the_most_is_unknown_the_run_stops_at_the_cap() -> None:
    model, meter = Teller(worst_usd=None, cost_usd=0.6), Meter(1.0)
    metered = meter.over({"main": model})["main"]
    await metered.generate(ASK)
    await metered.generate(ASK)
    with pytest.raises(RunStopped, match=r"stopped at the cost cap: \$1.2000 of \$1 spent"):
        await metered.generate(ASK)


async def test_cached_replies_cost_nothing() -> None:
    model, meter = Teller(worst_usd=0.0, cost_usd=0.6, cached=True), Meter(1.0)
    metered = meter.over({"main": model})["main"]
    for _ in range(5):
        await metered.generate(ASK)
    assert meter.spent_usd == 0


async def test_a_failed_call_gives_back_what_was_held() -> None:
    class Broken(Teller):
        async def generate(self, messages: object, *, tools: object = (), config: object = None) -> Reply:
            raise OSError("broken")

    meter = Meter(1.0)
    for _ in range(5):
        with pytest.raises(OSError):
            await meter.over({"main": Broken(worst_usd=0.9)})["main"].generate(ASK)
    await meter.over({"main": Teller(worst_usd=0.9)})["main"].generate(ASK)


async def test_an_unknown_price_stops_a_run_whose_episodes_have_a_cap() -> None:
    metered = Meter(None, must_price=True).over({"main": Teller(cost_usd=None)})["main"]
    await metered.generate(ASK)
    with pytest.raises(RunStopped, match="the price of test/teller is unknown"):
        await metered.generate(ASK)


def test_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "trajectory.jsonl"
    log = Log(path)
    log.append("header", "main", 0.0, schema=SCHEMA)
    for cost_usd, cached in ((0.5, False), (0.25, True), (None, False)):
        log.append("generate.done", "main", 0.0, begun=0, cost_usd=cost_usd, cached=cached)
    log.close()
    with path.open("a") as torn:
        torn.write('{"kind":"generate.done", "cost')
    assert recorded_usd([path, tmp_path / "missing"]) == 0.5
    packing.pack(path)
    assert recorded_usd([path]) == 0.5


@pytest.mark.parametrize("flag", ["--max-cost-usd", "--max-episode-cost-usd"])
def test_an_unpriced_model_and_a_cap_are_one_line_before_anything_is_asked(
    trellis: Callable[..., Any], sums: str, flag: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    command = ("run", f"{sums}:Sums:plain", "--scaffold", "react", "--model", "openai/gpt-99", flag, "1")
    ran = trellis(*command)
    assert ran.status == 2
    assert ran.complaint == (
        f"trellis: the price of openai/gpt-99 is unknown, so {flag} cannot be kept; give its price: -M prices=FILE"
    )
    assert not (tmp_path / "runs").exists()
