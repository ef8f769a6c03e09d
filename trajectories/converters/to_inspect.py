"""Inspect: `.eval`, version 2: a zip archive with one log, which their viewer and their library open.

A log is one agent at one benchmark; each of its tasks and epochs is a sample. A branch is a span with an anchor where
it left its parent's. Messages stand once, in a pool that the calls of models refer to: the log grows with the work.
"""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from trellis.models.model import Usage
from trellis.trajectories.converters import inspect_parts as parts
from trellis.trajectories.converters import telling
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.inspect_sample import QUIET, Sample
from trellis.trajectories.converters.lost import CLASSES, CONTENTS, LARGE, UNSIGNED
from trellis.trajectories.converters.pieces import dumped, whole, without_none
from trellis.trajectories.converters.telling import Told

FORMAT = "inspect"
PLACE = "{benchmark}-{agent}.eval"
LOSSES = (UNSIGNED, parts.MEDIA, CLASSES, parts.SCHEMAS, parts.ORDER, CONTENTS, LARGE)


def write(episodes: Iterable[Told], path: Path, losses: Losses, metrics: Mapping[str, float] | None = None) -> None:
    """`episodes`, at least one, are those of one agent at one benchmark. `metrics` are the benchmark's own over their
    scores; without them the log has the mean."""
    log = _Log(metrics)
    with whole(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for told in episodes:
            sample = Sample(told, losses)
            name = telling.encodable(f"samples/{sample.id}_epoch_{told.epoch}.json")
            with archive.open(name, "w", force_zip64=True) as raw, io.TextIOWrapper(raw, "utf-8") as file:
                sample.write(file)
            log.add(told, sample)
        header = log.header()
        started = {name: header[name] for name in ("version", "eval", "plan")}
        for name, value in (
            ("_journal/start.json", started),
            ("_journal/summaries/1.json", log.summaries),
            ("summaries.json", log.summaries),
            ("header.json", header),
        ):
            archive.writestr(name, dumped(value))


@dataclass
class _Log:
    """What is said of all samples together."""

    metrics: Mapping[str, float] | None
    spec: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    scorer: str = ""
    values: list[float] = field(default_factory=list)
    samples: int = 0
    completed: int = 0
    times: list[float] = field(default_factory=list)
    usage: dict[str, tuple[Usage, float | None]] = field(default_factory=dict)

    def _begin(self, told: Told) -> None:
        header = told.header
        scaffold = header.get("scaffold", {})
        models = header.get("models", {})
        model = told.model or "unknown"
        benchmark = told.benchmark or "trajectory"
        self.scorer = benchmark.partition(":")[0]
        identity = telling.digest(f"{told.outcome.run}/{benchmark}/{told.agent}")[:22]
        self.spec = without_none(
            eval_id=identity,
            run_id=told.outcome.run or identity,
            created=telling.iso(told.clock_zero.timestamp()),
            task=benchmark,
            task_id=identity,
            task_version=header.get("benchmark", {}).get("version") or 0,
            task_attribs={},
            task_args=header.get("benchmark", {}).get("options") or {},
            solver=scaffold.get("name") or told.agent,
            solver_args=scaffold.get("options") or {},
            tags=[told.agent],
            dataset={"name": benchmark, "shuffled": False},
            model=model,
            model_args=header.get("model_options") or {},
            model_roles={role: {"model": name} for role, name in models.items() if role != "main"} or None,
            config={"epochs": 1},
            revision=_revision(header),
            packages={"trellis-agents": importlib.metadata.version("trellis-agents")},
            metadata={
                "trellis": without_none(
                    run=told.outcome.run or None,
                    agent=told.agent,
                    budget=header.get("budget"),
                    environment=header.get("environment"),
                )
            },
        )
        step = {"solver": scaffold.get("name") or told.agent, "params": scaffold.get("options") or {}}
        self.plan = {"name": "plan", "steps": [step], "config": {}}

    def add(self, told: Told, sample: Sample) -> None:
        if not self.samples:
            self._begin(told)
        self.samples += 1
        zero = told.clock_zero.timestamp()
        self.times += [zero, zero + told.ended_at]
        self.summaries.append(sample.summary)
        if (score := told.outcome.score) is not None:
            self.values.append(float(score["value"]))
        if not told.outcome.fault:
            self.completed += 1
        for model, (usage, cost_usd) in sample.usage.items():
            before, paid = self.usage.get(model, (Usage(), 0.0))
            self.usage[model] = (before + usage, None if paid is None or cost_usd is None else paid + cost_usd)

    def header(self) -> dict[str, Any]:
        usage = {model: QUIET.usage(*totals) for model, totals in self.usage.items()}
        first, last = min(self.times), max(self.times)
        ids = list(dict.fromkeys(summary["id"] for summary in self.summaries))
        self.spec["dataset"] |= {"samples": len(ids), "sample_ids": ids}
        self.spec["config"] = {"epochs": max(summary["epoch"] for summary in self.summaries)}
        return {
            "version": 2,
            "status": "success",
            "eval": self.spec,
            "plan": self.plan,
            "results": {
                "total_samples": self.samples,
                "completed_samples": self.completed,
                "scores": self._scores(),
            },
            "stats": {
                "started_at": telling.iso(first),
                "completed_at": telling.iso(last),
                "model_usage": usage,
            },
        }

    def _scores(self) -> list[dict[str, Any]]:
        if not self.values:
            return []
        metrics = self.metrics or {"mean": fmean(self.values)}
        named = {name: {"name": name, "value": value, "params": {}} for name, value in metrics.items()}
        return [{"name": self.scorer, "scorer": self.scorer, "params": {}, "scored_samples": len(self.values),
                 "unscored_samples": self.samples - len(self.values), "metrics": named}]  # fmt: skip


def _revision(header: Mapping[str, Any]) -> dict[str, Any] | None:
    git = header.get("git") or {}
    if not git.get("commit"):
        return None
    return without_none(type="git", origin="", commit=git["commit"], dirty=git.get("dirty"))
