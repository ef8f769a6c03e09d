"""`trellis reprice`: costs again, from the usage in the logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.models.model import Usage
from trellis.runs import results
from trellis.runs.folder import RunFolder
from trellis.runs.repricing import calls_of

Trellis = Callable[..., Any]
PARTS = '''
from trellis.models.messages import Message, Text
from trellis.models.model import Reply, Usage

class Metal:
    """Answers at a provider's usage and price, without the provider."""

    def __init__(self, called: str = "mine/metal", cost_usd: float = -1, tier: str = "", cached: bool = False) -> None:
        self.name = called
        self._cost_usd = None if cost_usd < 0 else cost_usd
        self._tier, self._cached = tier, cached

    async def generate(self, messages, *, tools=(), config=None):
        usage = Usage(input=1000, cache_read=2000, output=100)
        return Reply(Message("assistant", (Text("12"),)), usage=usage, cost_usd=self._cost_usd, tier=self._tier,
                     cached=self._cached, retries=2, throttles=1, waited_s=3.0, latency_s=4.0)
'''


@pytest.fixture
def run(trellis: Trellis, sums: str, tmp_path: Path) -> Callable[..., RunFolder]:
    def start(*options: str) -> RunFolder:
        (tmp_path / "metal.py").write_text(PARTS)
        pairs = [argument for option in options for argument in ("-M", option)]
        ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", "metal.py:Metal",
                      "--limit", "2", *pairs, "--json")  # fmt: skip
        assert ran.status == 0, ran.err
        return RunFolder(Path(ran.document["run"]))

    return start


def write_prices(tmp_path: Path, model: str) -> str:
    file = tmp_path / "prices.toml"
    file.write_text(f'[models."{model}"]\ninput = 1\ncache_read = 0.5\noutput = 10\ntiers = {{ batch = 0.5 }}\n')
    return str(file)


def test_an_unpriced_run_gets_its_price(run: Callable[..., RunFolder], trellis: Trellis, tmp_path: Path) -> None:
    folder = run()
    before = folder.results()
    calls = sum(len(calls_of(folder.path / r.path, r)) for r in before.values())
    assert calls == sum(r.steps for r in before.values()) > 0
    assert {r.cost_usd for r in before.values()} == {None}
    still = trellis("reprice", str(folder.path), "--json")
    assert still.document["agents"][0]["new_usd"] is None
    assert still.document["agents"][0]["unpriced"] == {"mine/metal": calls}
    lines = (folder.path / "results.jsonl").read_text()

    again = trellis("reprice", str(folder.path), "--prices", write_prices(tmp_path, "mine/metal"), "--json")
    (row,) = again.document["agents"]
    assert row["old_usd"] is None
    assert row["new_usd"] == pytest.approx(calls * (1000 * 1 + 2000 * 0.5 + 100 * 10) / 1e6)
    assert row["unpriced"] == {}
    after = folder.results()
    assert sum(r.cost_usd or 0 for r in after.values()) == pytest.approx(row["new_usd"])
    assert [r.score for r in after.values()] == [r.score for r in before.values()], "only the costs change"
    assert (folder.path / "results.jsonl").read_text().startswith(lines), "the old lines stay"
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["agents"][0]["cost_usd"] == pytest.approx(row["new_usd"])
    assert f"{row['new_usd']:.4f}" in (folder.path / "report.html").read_text()

    table = trellis("reprice", str(folder.path), "--prices", write_prices(tmp_path, "mine/other"))
    assert "unpriced calls" in table.out
    assert f"${row['new_usd']:.4f}" in table.out, "what the prices do not tell stays"


def test_tiers_and_caches(run: Callable[..., RunFolder], trellis: Trellis, tmp_path: Path) -> None:
    folder = run("tier=batch", "cached=true")
    trellis("reprice", str(folder.path), "--prices", write_prices(tmp_path, "mine/metal"))
    for result in folder.results().values():
        assert result.cost_usd == pytest.approx(result.steps * 0.003 / 2)
        assert result.calls.saved_usd == pytest.approx(result.cost_usd)
        assert result.paid_usd == pytest.approx(0, abs=1e-12)
    other = run("tier=express")
    trellis("reprice", str(other.path), "--prices", write_prices(tmp_path, "mine/metal"))
    assert {r.cost_usd for r in other.results().values()} == {None}, "a tier without a price is unpriced"


def test_what_cannot_be_priced_keeps_its_cost(run: Callable[..., RunFolder], trellis: Trellis) -> None:
    folder = run("cost_usd=0.0")
    before = folder.results()
    assert trellis("reprice", str(folder.path)).status == 0
    assert folder.results() == before


def test_runs_of_before_the_new_classes(run: Callable[..., RunFolder], trellis: Trellis, tmp_path: Path) -> None:
    """Their lines have no calls, their logs no tier and fewer classes of usage."""
    folder = run("called=openai/gpt-5")
    path = folder.path / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["calls"]
        line["usage"] = {name: line["usage"][name] for name in ("input", "cache_read", "cache_write", "output")}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = trellis("reprice", str(folder.path), "--json")
    (row,) = done.document["agents"]
    assert row["new_usd"] == pytest.approx(row["calls"] * (1000 * 1.25 + 2000 * 0.125 + 100 * 10) / 1e6)


def test_wrong_usage_is_one_line(run: Callable[..., RunFolder], trellis: Trellis, tmp_path: Path) -> None:
    folder = run()
    missing = trellis("reprice", str(folder.path), "--prices", "nowhere.toml")
    assert (missing.status, missing.complaint) == (
        2, "trellis: prices nowhere.toml: No such file or directory",
    )  # fmt: skip
    log = next((folder.path / "episodes").rglob("trajectory.jsonl"))
    log.write_text("damaged\n" + log.read_text())
    lines = (folder.path / "results.jsonl").read_text()
    damaged = trellis("reprice", str(folder.path), "--prices", write_prices(tmp_path, "mine/metal"))
    assert damaged.status == 2
    assert "line 1: not an event" in damaged.complaint
    assert (folder.path / "results.jsonl").read_text() == lines, "all or nothing"


def test_totals_of_retries_and_throttles(run: Callable[..., RunFolder], trellis: Trellis, tmp_path: Path) -> None:
    folder = run("cost_usd=0.1", "cached=true")
    everything = folder.results().values()
    steps = sum(r.steps for r in everything)
    assert sum(r.calls.retries for r in everything) == 2 * steps
    assert sum(r.calls.throttles for r in everything) == steps
    assert sum(r.calls.waited_s for r in everything) == pytest.approx(3 * steps)
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["calls"]["throttles"] == summary["agents"][0]["calls"]["throttles"] == steps
    shown = trellis("compare", str(folder.path), "--json")
    assert shown.document["agents"][0]["calls"]["saved_usd"] == pytest.approx(0.1 * steps)
    table = trellis("compare", str(folder.path)).out
    report = (folder.path / "report.html").read_text()
    for said in ("of them throttled (429)", "waited for the provider", "spared by the reply cache"):
        assert said in table
        assert said in report


def test_nothing_is_said_where_nothing_happened(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder")
    assert "throttled" not in ran.out


def test_the_judge_is_priced_too(tmp_path: Path) -> None:
    def event(seq: int, **data: object) -> str:
        return json.dumps({"seq": seq, "at": 0, **data}) + "\n"

    def log(path: Path, tokens: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "trajectory.jsonl").write_text(
            event(0, kind="header", branch="main", schema="trellis-trajectory/1")
            + event(1, kind="generate.begun", branch="main", model="mine/a")
            + event(2, kind="generate.done", branch="main", begun=1, usage={"input": 7}, cost_usd=None)
            + event(3, kind="generate.begun", branch="grader", model="mine/j")
            + event(4, kind="generate.done", branch="grader", begun=3, usage={"input": tokens}, cost_usd=None)
        )

    log(tmp_path, 10)
    log(tmp_path / "scored-1", 20)
    log(tmp_path / "scored-2", 30)
    key = results.Key("b", "t", "a", 1)
    for tokens in (10, 20, 30):
        result = results.Result(key, 1, "completed", "x", judge_usage=Usage(input=tokens))
        assert [(c.model, c.usage.input) for c in calls_of(tmp_path, result)] == [("mine/a", 7), ("mine/j", tokens)]
