"""The search space of `offline/tabular`: what a solution can consist of, first designs, and changes of one thing.

A design is a flat mapping, written into every script it leads to, so that the next one can start from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from trellis.models.offline.tabular_reading import Reading

Value: TypeAlias = str | int | float | None
Design: TypeAlias = Mapping[str, Value]

PARAMETERS: dict[str, dict[str, Sequence[Value]]] = {
    "linear": {"strength": [0.01, 0.1, 1.0, 10.0]},
    "knn": {"n_neighbors": [3, 7, 15, 31], "weights": ["uniform", "distance"]},
    "svm": {"C": [0.1, 1.0, 5.0, 20.0], "gamma": ["scale", "auto"]},
    "forest": {
        "n_estimators": [20, 40, 80],
        "max_depth": [3, 6, 12, None],
        "min_samples_leaf": [1, 3, 8],
        "max_features": ["sqrt", 0.5],
    },
    "extra_trees": {
        "n_estimators": [20, 40, 80],
        "max_depth": [3, 6, 12, None],
        "min_samples_leaf": [1, 3, 8],
        "max_features": ["sqrt", 0.5],
    },
    "boosting": {
        "learning_rate": [0.03, 0.08, 0.2],
        "max_iter": [30, 60, 100],
        "max_leaf_nodes": [4, 8, 16],
        "l2_regularization": [0.0, 1.0, 10.0],
    },
}
"""Models and their hyperparameters, in order: a change of one goes to a neighbouring value."""

SCALED = ("linear", "knn", "svm")
"""Models that need their columns on one scale."""
WEIGHTED = ("linear", "svm", "forest", "extra_trees", "boosting")
"""Classifiers that can weigh classes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A design that was tried, as the conversation shows it."""

    design: Design
    metric: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    key: str
    before: Value
    after: Value

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)}"


def models(reading: Reading) -> list[str]:
    """What suits the task. Support vectors give no probabilities; boosting is slow on wide tables with many classes."""
    without = {"svm"} if reading.metric.kind == "probability" else set()
    if reading.is_wide:
        without |= {"boosting"}
    return [model for model in PARAMETERS if model not in without]


def draft(reading: Reading, tried: Iterable[Attempt], random: Random) -> dict[str, Value]:
    """A simple first design, with a kind of model that was not tried yet where there is one."""
    used = {attempt.design.get("model") for attempt in tried}
    suited = models(reading)
    model = random.choice([name for name in suited if name not in used] or suited)
    design: dict[str, Value] = {"model": model}
    design |= {key: random.choice(values) for key, values in PARAMETERS[model].items()}
    design["impute"] = random.choice(["median", "mean"])
    design["scale"] = "standard" if model in SCALED else "none"
    design["encode"] = "onehot" if model in SCALED else random.choice(["onehot", "ordinal"])
    return design


def improve(
    base: Design, reading: Reading, tried: Iterable[Attempt], random: Random
) -> tuple[dict[str, Value], Change]:
    """The base with one thing changed to something that was not tried with it."""
    seen = {_identity(attempt.design) for attempt in tried}
    options = [(weight, new, change) for weight, new, change in _changes(base, reading) if _identity(new) not in seen]
    if not options:
        fresh = draft(reading, (), random)
        return fresh, Change("model", base.get("model"), fresh["model"])
    weights = [weight for weight, _, _ in options]
    _, design, change = random.choices(options, weights)[0]
    return design, change


def _changes(base: Design, reading: Reading) -> Iterator[tuple[float, dict[str, Value], Change]]:
    """Every single change of a design, weighted by how often it is worth a try."""
    model = str(base["model"])
    for key, values in PARAMETERS[model].items():
        for after in _neighbours(values, base.get(key)):
            yield 1.0, {**base, key: after}, Change(key, base.get(key), after)
    for key, weight, values in _choices(model, reading):
        before = base.get(key, values[0])
        for after in values:
            if after != before:
                yield weight, {**base, key: after}, Change(key, before, after)
    for other in models(reading):
        if other != model:
            kept = {k: v for k, v in base.items() if k not in PARAMETERS[model] and k not in ("class_weight", "blend")}
            new = {**kept, "model": other, **{k: values[len(values) // 2] for k, values in PARAMETERS[other].items()}}
            new["scale"] = "standard" if other in SCALED else kept.get("scale", "none")
            if new.get("features") == "products":
                del new["features"]
            yield 0.7, new, Change("model", model, other)


def _choices(model: str, reading: Reading) -> Iterator[tuple[str, float, Sequence[Value]]]:
    """What can be chosen beside the model: (key, weight, values; the first is the default)."""
    yield "scale", 0.5, ["none", "standard", "robust", "quantile"]
    if reading.has_missing:
        yield "impute", 0.7, ["median", "mean", "median with flags"]
    if reading.has_text:
        yield "encode", 0.7, ["onehot", "ordinal"]
    products = ["products"] if model in SCALED else []  # trees find products themselves, slowly
    yield "features", 1.0, ["plain", "components"] if reading.is_wide else ["plain", "selected", *products]
    partners = [name for name in models(reading) if name not in (model, "svm")]
    yield "blend", 0.6, ["none", *partners] if model != "svm" else ["none"]
    if reading.metric.kind == "value":
        yield "target", 1.5, ["plain", "log"]
    elif model in WEIGHTED:
        yield "class_weight", 0.7, ["none", "balanced"]
    if reading.metric.name == "quadratic weighted kappa":
        yield "labels", 2.0, ["classes", "rounded"]


def _neighbours(values: Sequence[Value], value: Value) -> list[Value]:
    at = list(values).index(value) if value in values else len(values) // 2
    return [values[i] for i in (at - 1, at + 1) if 0 <= i < len(values)]


# --- designs in text --------------------------------------------------------------------------------------------------

_DESIGN = re.compile(r"Design: (\{[^{}\n]*\})")


def write_design(design: Design) -> str:
    return f"Design: {json.dumps(dict(design))}"


def find_designs(text: str) -> list[tuple[int, dict[str, Value]]]:
    """The designs that stand in a text, with their places."""
    found = []
    for match in _DESIGN.finditer(text):
        try:
            design = json.loads(match[1])
        except ValueError:
            continue
        if design.get("model") in PARAMETERS:
            found.append((match.start(), design))
    return found


def _identity(design: Design) -> str:
    """Equal for designs that lead to the same script: what is left at its default does not count."""
    defaults = {"none", "plain", "classes"}
    return json.dumps({k: v for k, v in design.items() if v not in defaults or k == "weights"}, sort_keys=True)


def _shown(value: Value) -> str:
    return "none" if value is None else str(value)
