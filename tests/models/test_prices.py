from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from trellis.models import prices
from trellis.models.model import Usage
from trellis.models.prices import cost_usd

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


def test_table_is_dated_and_complete() -> None:
    assert date.fromisoformat(TABLE["as_of"]) <= date.today()
    assert TABLE["source"]
    for name, row in TABLE["models"].items():
        assert name.partition("/")[0] in ("openai", "anthropic")
        for tier in (row, row.get("beyond", row)):
            assert 0 < tier["cache_read"] < tier["input"] < tier["output"], name
            assert tier.get("cache_write", tier["input"]) >= tier["input"], name
        assert ("beyond" in row) == ("up_to_input_tokens" in row), name
