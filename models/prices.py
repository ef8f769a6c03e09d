"""What a reply costs: list prices by class of token, from the dated table `prices.json` and files that add to it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from trellis.models.model import Usage

CLASSES = tuple(f.name for f in fields(Usage) if f.name != "reasoning")
"""What has a price of its own; reasoning is billed as output."""
_WINDOW = ("context_tokens", "max_output_tokens")
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""The date that both providers append to the name of a fixed version of a model, which costs the same."""


@dataclass(frozen=True)
class Prices:
    """A table of list prices, in USD per million tokens, and of the models' windows."""

    rows: Mapping[str, Mapping[str, Any]]
    """By model; see `prices.json`."""
    as_of: str
    """The day of the package's own table."""

    @classmethod
    def listed(cls, file: str | Path | None = None) -> Prices:
        """The package's table; a row of `file` (TOML or JSON, written as `prices.json` is) stands in the place of the
        table's, which only lends it the model's window.

        Raises:
            ValueError: one line: the file cannot be read, or what in it is wrong.
        """
        table = _package_table()
        if file is None:
            return table
        rows = dict(table.rows)
        for model, row in _read(Path(file)).items():
            known = rows.get(model, {})
            rows[model] = {**{name: known[name] for name in _WINDOW if name in known}, **row}
        return cls(rows, table.as_of)

    def cost_usd(self, model: str, usage: Usage, tier: str = "") -> float | None:
        """The list price of `usage` for a model named "provider/model", served at `tier`.

        None, never 0, where the table cannot tell: an unknown model or tier, or a class of tokens without a price.
        """
        used = {name: count for name in CLASSES if (count := getattr(usage, name))}
        row = self._prices(model, usage.total_input, tier)
        if row is None or not used.keys() <= row.keys():
            return None
        return float(sum(count * row[name] for name, count in used.items()) / 1_000_000)

    def worst_case_usd(
        self,
        model: str,
        input_tokens: int,
        output_tokens: int,
        *,
        tier: str = "",
        spoken: bool = False,
        cached_for: Literal["shortest", "1h"] = "shortest",
    ) -> float | None:
        """The price of so many tokens if all are of the dearest class that text (or, where it is `spoken`, speech)
        comes in: a conversation that is written to a cache costs more than one that is only read.

        None where a price is unknown.
        """
        row = self._prices(model, input_tokens, tier)
        if row is None or "input" not in row or "output" not in row:
            return None
        classes = ["input", "cache_write", *(["cache_write_1h"] if cached_for == "1h" else [])]
        read = max(row.get(name, 0.0) for name in (*classes, *(["audio_input"] if spoken else [])))
        written = max(row["output"], row.get("audio_output", 0.0) if spoken else 0.0)
        return float((input_tokens * read + output_tokens * written) / 1_000_000)

    def window(self, model: str) -> tuple[int | None, int | None]:
        """Tokens of the context window, input and output together, and of the longest reply; None where unknown."""
        row = self._row(model) or {}
        return row.get("context_tokens"), row.get("max_output_tokens")

    def _row(self, model: str) -> Mapping[str, Any] | None:
        return self.rows.get(model) or self.rows.get(_SNAPSHOT.sub("", model))

    def _prices(self, model: str, input_tokens: int, tier: str) -> Mapping[str, float] | None:
        """The prices by class of a request with so many input tokens."""
        row = self._row(model)
        if row is None:
            return None
        share = row.get("tiers", {}).get(tier) if tier else 1.0
        if share is None:
            return None
        if input_tokens > row.get("up_to_input_tokens", float("inf")):
            row = row.get("beyond", {})
        return {name: row[name] * share for name in CLASSES if name in row}


def cost_usd(model: str, usage: Usage, tier: str = "") -> float | None:
    """By the package's own table; see `Prices.cost_usd`."""
    return _package_table().cost_usd(model, usage, tier)


@cache
def _package_table() -> Prices:
    document = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    return Prices(document["models"], document["as_of"])


@cache  # a client asks with every reply; what a run began with holds to its end
def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"prices {path}: {error.strerror}") from None
    except ValueError as error:  # also of UTF-8, JSON and TOML
        raise ValueError(f"prices {path}: {error}") from None
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, dict) or not models:
        raise ValueError(f'prices {path}: no models; write [models."provider/model"] and input, output, ... below it')
    for model, row in models.items():
        if problem := _problem(row):
            raise ValueError(f"prices {path}, {model}: {problem}")
    return models


def _problem(row: Any, inner: bool = False) -> str:
    """What is wrong with a row of a file; empty if nothing is."""
    if not isinstance(row, dict):
        return "not a table of prices"
    known = CLASSES if inner else (*CLASSES, *_WINDOW, "up_to_input_tokens", "beyond", "tiers")
    for name, value in row.items():
        if name not in known:
            return f"no such class {name!r} (known: {', '.join(known)})"
        if name == "beyond":
            if problem := _problem(value, inner=True):
                return f"beyond: {problem}"
        elif name == "tiers":
            if not isinstance(value, dict) or not all(map(_is_price, value.values())):
                return "tiers: not a table of factors, such as batch = 0.5"
        elif not _is_price(value):
            return f"{name}: {value!r} is not a number of 0 or more"
    if not inner and ("beyond" in row) != ("up_to_input_tokens" in row):
        return "beyond and up_to_input_tokens go together"
    return ""


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
