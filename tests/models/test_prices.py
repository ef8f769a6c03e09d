from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from trellis.models import prices
from trellis.models.catalog import load
from trellis.models.listed import price_is_unknown
from trellis.models.messages import user
from trellis.models.model import GenerateConfig, HasWindow, Priced, Usage
from trellis.models.prices import Prices, _problem, cost_usd
from trellis.models.scripted import Scripted
from trellis.models.tokens import estimate_message

TABLE = json.loads(Path(prices.__file__).with_name("prices.json").read_text())


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("openai/gpt-5", Usage(input=1_000_000), 1.25),
        ("openai/gpt-5", Usage(input=1000, cache_read=2000, output=300, reasoning=200), 0.0045),
        ("openai/gpt-5-2025-08-07", Usage(output=1_000_000), 10.0),
        (
            "anthropic/claude-haiku-4-5-20251001",
            Usage(input=100, cache_write=1000, cache_read=10_000, output=50),
            0.0026,
        ),
        ("openai/gpt-audio", Usage(input=1000, audio_input=1000, output=1000, audio_output=1000), 0.1085),
        ("openai/gpt-5.4", Usage(input=272_000), 0.68),
        ("openai/gpt-5.4", Usage(input=100_000, cache_read=172_001, output=10), 0.5862255),
    ],
)
def test_cost_by_class(model: str, usage: Usage, cost: float) -> None:
    assert cost_usd(model, usage) == pytest.approx(cost)


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("openai/gpt-99", Usage(input=1)),
        ("openai-compatible/gpt-5", Usage(input=1)),
        ("openai/gpt-5-mini-2-fast", Usage(input=1)),
        ("openai/gpt-5", Usage(input=1, cache_write=1)),  # a class without a price
    ],
)
def test_unknown_is_none_and_never_zero(model: str, usage: Usage) -> None:
    assert cost_usd(model, usage) is None


def test_documented_arithmetic_of_openai() -> None:
    """The usage in OpenAI's "Prompt Caching in the API" (openai.com/index/api-prompt-caching) at the prices that the
    same page gives for gpt-4o-2024-08-06: 2.50 uncached, 1.25 cached, 10.00 output, per million."""
    prompt, cached, written = 2006, 1920, 300
    documented = (prompt - cached) * 2.50e-6 + cached * 1.25e-6 + written * 10.00e-6
    cost = cost_usd("openai/gpt-4o-2024-08-06", Usage(input=prompt - cached, cache_read=cached, output=written))
    assert cost == pytest.approx(documented, abs=1e-12)
    assert cost == pytest.approx(0.005615)


def test_documented_arithmetic_of_anthropic() -> None:
    """The prices in "Claude Opus 5" (platform.claude.com/docs/en/models/opus-5/overview): input 5, five-minute write
    6.25, one-hour write 10, read 0.50, output 25, and half of it in a batch; the formula of its "Pricing" page."""
    usage = Usage(input=2048, cache_read=1800, cache_write=148, cache_write_1h=100, output=503)
    documented = (2048 * 5 + 1800 * 0.50 + 148 * 6.25 + 100 * 10 + 503 * 25) / 1e6
    assert cost_usd("anthropic/claude-opus-5", usage) == pytest.approx(documented, abs=1e-12)
    assert cost_usd("anthropic/claude-opus-5", usage, "batch") == pytest.approx(documented / 2, abs=1e-12)
    for model, row in TABLE["models"].items():
        if model.startswith("anthropic/"):
            assert row["cache_write_1h"] == pytest.approx(2 * row["input"]), model
            assert row["cache_write"] == pytest.approx(1.25 * row["input"]), model


def test_tiers() -> None:
    usage = Usage(input=1_000_000, output=1_000_000)
    assert cost_usd("openai/gpt-5", usage, "batch") == pytest.approx(11.25 / 2)
    assert cost_usd("openai/gpt-5", usage, "priority") == pytest.approx(22.5)
    assert cost_usd("openai/gpt-5", usage, "scale") is None
    assert cost_usd("anthropic/claude-opus-5", usage, "priority") is None


ROWS = {
    "mine/llm": {"input": 1, "output": 2, "context_tokens": 8000, "tiers": {"night": 0.25}},
    "openai/gpt-5": {"input": 100, "output": 200},
}


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_file_adds_and_overrides(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"prices.{suffix}"
    written = json.dumps({"models": ROWS})
    if suffix == "toml":
        written = """
            [models."mine/llm"]
            input = 1
            output = 2
            context_tokens = 8000
            tiers = { night = 0.25 }
            [models."openai/gpt-5"]
            input = 100
            output = 200
        """
    file.write_text(written)
    prices, usage = Prices.listed(file), Usage(input=1_000_000, output=1_000_000)
    assert prices.cost_usd("mine/llm", usage) == 3.0
    assert prices.cost_usd("mine/llm", usage, "night") == 0.75
    assert prices.window("mine/llm") == (8000, None)
    assert prices.cost_usd("openai/gpt-5-2025-08-07", usage) == 300.0
    assert prices.cost_usd("openai/gpt-5", Usage(cache_read=1)) is None, "a row stands alone"
    assert prices.window("openai/gpt-5") == (400_000, 128_000), "but for the window, which is no price"
    assert prices.cost_usd("openai/gpt-5-mini", usage) == cost_usd("openai/gpt-5-mini", usage)
    assert cost_usd("openai/gpt-5", usage) == 11.25


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("{", "prices "),
        ("{}", "no models"),
        ('{"models": {"a/b": {"inptu": 1}}}', "a/b: no such class 'inptu' (known: input, "),
        ('{"models": {"a/b": {"input": -1}}}', "a/b: input: -1 is not a number of 0 or more"),
        ('{"models": {"a/b": {"input": true}}}', "a/b: input: True is not a number of 0 or more"),
        ('{"models": {"a/b": {"input": 1, "beyond": {"input": 2}}}}', "beyond and up_to_input_tokens go together"),
        ('{"models": {"a/b": {"tiers": {"batch": "half"}}}}', "tiers: not a table of factors"),
        ('{"models": {"a/b": 1}}', "not a table of prices"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, written: str, complaint: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(written)
    with pytest.raises(ValueError) as raised:
        Prices.listed(file)
    assert complaint in str(raised.value)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_said_when_the_model_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    with pytest.raises(ValueError, match=r"^openai/gpt-5: prices: .*nowhere\.toml: No such file"):
        load("openai/gpt-5", {"prices": "nowhere.toml"})


def test_worst_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-0123456789")
    asked = [user("x" * 4000)]
    read = estimate_message(asked[0])
    gpt, claude = load("openai/gpt-5", {}), load("anthropic/claude-opus-5", {})
    assert isinstance(gpt, Priced)
    assert isinstance(claude, Priced)
    assert gpt.worst_case_usd(asked) == pytest.approx((read * 1.25 + 128_000 * 10) / 1e6), "the longest it can"
    config = GenerateConfig(max_output_tokens=100)
    assert gpt.worst_case_usd(asked, config=config) == pytest.approx((read * 1.25 + 100 * 10) / 1e6)
    assert claude.worst_case_usd(asked) == pytest.approx((read * 6.25 + 16_384 * 25) / 1e6), "written to the cache"
    hour = load("anthropic/claude-opus-5", {"cache_ttl": "1h", "max_output_tokens": 100})
    assert isinstance(hour, Priced)
    assert hour.worst_case_usd(asked) == pytest.approx((read * 10 + 100 * 25) / 1e6)
    soon = load("openai/gpt-5", {"service_tier": "priority"})
    assert isinstance(soon, Priced)
    assert soon.worst_case_usd(asked, config=config) == pytest.approx((read * 2.5 + 100 * 20) / 1e6)
    assert price_is_unknown(load("openai/gpt-5", {"service_tier": "ultrafast"}))
    speech = GenerateConfig(max_output_tokens=100, voice="alloy")
    speaker = load("openai/gpt-audio", {})
    assert isinstance(speaker, Priced)
    assert speaker.worst_case_usd(asked, config=speech) == pytest.approx((read * 32 + 100 * 64) / 1e6)
    assert isinstance(gpt, HasWindow)
    assert (gpt.context_tokens, gpt.max_output_tokens) == (400_000, 128_000)
    unknown = load("openai/gpt-99", {})
    assert isinstance(unknown, Priced)
    assert unknown.worst_case_usd(asked) is None
    assert price_is_unknown(unknown)
    assert not price_is_unknown(gpt)
    assert not price_is_unknown(Scripted([]))


def test_table_is_dated_and_complete() -> None:
    assert date.fromisoformat(TABLE["as_of"]) <= date.today()
    assert TABLE["source"]
    for name, row in TABLE["models"].items():
        assert name.partition("/")[0] in ("openai", "anthropic")
        for tier in (row, row.get("beyond", row)):
            assert 0 < tier.get("cache_read", 0.001) < tier["input"] < tier["output"], name
            assert tier.get("cache_write", tier["input"]) >= tier["input"], name
        assert _problem(row) == "", name
        assert 0 < row["max_output_tokens"] <= row["context_tokens"], name
