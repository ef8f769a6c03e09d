"""Models by name: "provider/model" through one table, each imported when it is first asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from trellis.models.model import Model
from trellis.models.options import construct


class Entry(NamedTuple):
    factory: str
    """"module:name" of what makes the model."""
    summary: str
    """What it is, in one line."""


_CATALOG: Mapping[str, Entry] = {
    "openai/*": Entry("trellis.models.openai.provider:openai", "OpenAI's models (Responses API); OPENAI_API_KEY"),
    "openai-compatible/*": Entry(
        "trellis.models.openai.compatible:OpenAICompatible",
        "any server that speaks Chat Completions; -M base_url=http://...",
    ),
    "azure/*": Entry(
        "trellis.models.openai.azure:azure",
        "OpenAI's models deployed at Azure; -M base_url=https://... -M api_version=...; AZURE_OPENAI_API_KEY",
    ),
    "anthropic/*": Entry(
        "trellis.models.anthropic.client:Anthropic", "Anthropic's models (Messages API); ANTHROPIC_API_KEY"
    ),
    "bedrock/*": Entry(
        "trellis.models.anthropic.cloud:Bedrock", "Anthropic's models on Amazon Bedrock; AWS credentials"
    ),
    "vertex/*": Entry("trellis.models.anthropic.cloud:Vertex", "Anthropic's models on Vertex AI; Google credentials"),
    "human": Entry("trellis.models.human:Human", "you, at this terminal; a baseline"),
    "offline/tabular": Entry(
        "trellis.models.offline.tabular:Tabular",
        "writes scikit-learn pipelines from a search space; no key, no network",
    ),
    "offline/repair": Entry(
        "trellis.models.offline.repair:Repair", "generate-and-validate program repair by tool calls; no key, no network"
    ),
    "offline/judge": Entry(
        "trellis.models.offline.judge:Judge", "compares answers as normalised text and numbers; no key, no network"
    ),
    "offline/chance": Entry("trellis.models.offline.chance:Chance", "answers at random; the floor of every table"),
}
"""A name that ends in "/*" takes any model of that provider: `factory(model, **options)`; the others are models:
`factory(**options)`."""


def load(name: str, options: Mapping[str, Any]) -> Model:
    """The model called `name`, for example "openai/gpt-5" or "offline/tabular".

    Raises:
        ValueError: one line: there is no such model (with the nearest names), or an option is unknown or impossible.
        ModelRequestError: one line: the provider's key is not set.
    """
    provider, _, model = name.partition("/")
    if (entry := _CATALOG.get(name)) and model != "*":
        return cast(Model, construct(_imported(entry), options, name))
    if model and model != "*" and (entry := _CATALOG.get(f"{provider}/*")):
        return cast(Model, _imported(entry)(model, **options))
    raise ValueError(_unknown(name))


async def close(model: Model) -> None:
    """Close the connections of a model that holds some; the others have nothing to close."""
    if release := getattr(model, "close", None):
        await release()


def of_a_provider(name: str) -> bool:
    """Does a client of a provider answer to this name?"""
    return name not in _CATALOG and f"{name.partition('/')[0]}/*" in _CATALOG


def describe() -> list[tuple[str, str]]:
    """Name and one-line description of everything that `load` knows; "/*" stands for any model of a provider."""
    return [(name, entry.summary) for name, entry in _CATALOG.items()]


def _imported(entry: Entry) -> Any:
    module, _, name = entry.factory.partition(":")
    return getattr(importlib.import_module(module), name)


def _unknown(name: str) -> str:
    known = [entry.replace("/*", "/MODEL") for entry in _CATALOG]
    close = [entry for entry in difflib.get_close_matches(name, known, n=2, cutoff=0.7) if not entry.endswith("/MODEL")]
    providers = {entry.partition("/")[0] for entry in _CATALOG}
    provider, _, model = name.partition("/")
    if near := difflib.get_close_matches(provider, providers, n=1, cutoff=0.7):
        close += [f"{near[0]}/{model}"] if f"{near[0]}/*" in _CATALOG and model and near[0] != provider else []
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"unknown model {name!r}: {hint}models are {', '.join(known)}, or package.module:Name, or path.py:Name"
