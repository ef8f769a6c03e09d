"""`trellis compare`: agents of finished runs, or agents on a benchmark."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from trellis.runs import table
from trellis.runs.commands_run import experiment_of, show
from trellis.runs.conduct import start
from trellis.runs.errors import UsageError
from trellis.runs.flags import experiment_flags
from trellis.runs.folder import RunFolder, find
from trellis.runs.plan import make_benchmark
from trellis.runs.results import Result
from trellis.runs.summary import in_order, summarize


@click.command()
@click.argument("what", metavar="RUN...|BENCHMARK[:SPLIT]", nargs=-1, required=True)
@experiment_flags
def compare(what: tuple[str, ...], **flags: Any) -> int:
    """Compare agents, paired by task: those of finished runs, or several scaffolds on a benchmark.

    \b
    trellis compare runs/20260101-120000-a-1f2e runs/20260101-130000-b-9c0d
    trellis compare mle:sample --scaffold react --scaffold tree --model offline/tabular
    """
    if flags["scaffolds"] or what[0].endswith(".toml"):
        if len(what) > 1:
            raise UsageError("compare takes one benchmark with --scaffold A --scaffold B, or runs without --scaffold")
        experiment = experiment_of(what[0], flags)
        if len(experiment.agents) < 2:
            raise UsageError("compare needs at least two agents: --scaffold A --scaffold B")
        ended = start(experiment, flags["runs_dir"], quiet=flags["as_json"], embedded=flags["embedded"])
        return show(ended, as_json=flags["as_json"])
    folders = [find(run, flags["runs_dir"]) for run in what]
    return _compare_runs(folders, as_json=flags["as_json"])


def _compare_runs(folders: Sequence[RunFolder], *, as_json: bool) -> int:
    experiments = [folder.experiment() for folder in folders]
    results = _merge(folders)
    if not results:
        raise UsageError("these runs have no results yet")
    benchmarks = {b.label: make_benchmark(b) for experiment in experiments for b in experiment.benchmarks}
    summary = summarize(results, benchmarks)
    warnings = _warnings(folders)
    if as_json:
        click.echo(
            json.dumps({"runs": [str(f.path) for f in folders], "warnings": warnings, **summary.to_json()}, indent=2)
        )
    else:
        console = table.console(sys.stdout)
        console.print(table.comparison(summary, console.width))
        for warning in warnings:
            click.echo(f"caution: {warning}", err=True)
    return 0


def _merge(folders: Sequence[RunFolder]) -> list[Result]:
    """The results of all runs; an agent whose name occurs in several of them bears its run's name too."""
    endings = Counter(folder.id.rpartition("-")[2] for folder in folders)
    short = {f: ending if endings[ending := f.id.rpartition("-")[2]] == 1 else f.id for f in folders}
    per_run = []
    for folder in folders:
        per_run.append((short[folder], in_order(folder.experiment(), folder.results().values())))
    names = Counter(name for _, results in per_run for name in {r.key.agent for r in results})
    return [
        replace(r, key=r.key._replace(agent=f"{r.key.agent} ({run})")) if names[r.key.agent] > 1 else r
        for run, results in per_run
        for r in results
    ]


def _warnings(folders: Sequence[RunFolder]) -> list[str]:
    """What makes these runs less than comparable."""
    first, *others = [folder.experiment() for folder in folders]
    found = []
    for folder, other in zip(folders[1:], others, strict=True):
        for what in ("seed", "budget", "environment", "judge"):
            if getattr(other, what) != getattr(first, what):
                found.append(f"{folder.id} had another {what} than {folders[0].id}")
    return found
