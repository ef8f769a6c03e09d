"""What a reply costs: list prices by class of token, from the dated table `prices.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trellis.models.model import Usage

_CLASSES = ("input", "cache_read", "cache_write", "output")
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""The date that both providers append to the name of a fixed version of a model, which costs the same."""


def cost_usd(model: str, usage: Usage) -> float | None:
    """The list price of `usage` for a model named "provider/model", in USD.

    None, never 0, where the table cannot tell: an unknown model, a class of tokens without a price, or an input
    longer than the priced range.
    """
    table = _table()
    row = table.get(model) or table.get(_SNAPSHOT.sub("", model))
    if row is None:
        return None
    if usage.input + usage.cache_read + usage.cache_write > row.get("up_to_input_tokens", float("inf")):
        row = row.get("beyond", {})
    used = {name: count for name in _CLASSES if (count := getattr(usage, name))}
    if not used.keys() <= row.keys():
        return None
    return float(sum(count * row[name] for name, count in used.items()) / 1_000_000)


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    document = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    models: Mapping[str, Mapping[str, Any]] = document["models"]
    return models
