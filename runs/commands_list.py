"""`trellis list`: what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from trellis.runs import table, text
from trellis.runs.errors import UsageError
from trellis.runs.experiment import BenchmarkChoice
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.folder import RunFolder
from trellis.runs.plan import make_benchmark, make_tools
from trellis.runs.registry import registered, resolve

WHAT = ("scaffolds", "tools", "models", "benchmarks", "tasks", "runs")


@click.command("list")
@click.argument("what", type=click.Choice(WHAT))
@click.argument("benchmark", required=False, metavar="[BENCHMARK[:SPLIT]]")
@runs_dir
@as_json
def list_(what: str, benchmark: str | None, runs_dir: Path, as_json: bool) -> None:
    """Show what there is. `tasks` needs a benchmark: trellis list tasks mle:sample."""
    if (benchmark is None) == (what == "tasks"):
        raise UsageError("list tasks needs a benchmark: trellis list tasks mle:sample" if what == "tasks" else
                         f"list {what} takes no further argument")  # fmt: skip
    makers: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "scaffolds": scaffolds,
        "tools": tools,
        "models": models,
        "benchmarks": benchmarks,
        "tasks": lambda: tasks(benchmark or ""),
        "runs": lambda: runs(runs_dir),
    }
    rows = list(makers[what]())
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo(f"no {what}")
    else:
        columns = {name: "right" if isinstance(value, int | float) else "left" for name, value in rows[0].items()}
        table.console(sys.stdout).print(table.simple(columns, ([_cell(v) for v in row.values()] for row in rows)))


def scaffolds() -> Iterable[dict[str, Any]]:
    for name in registered("scaffold"):
        scaffold = resolve("scaffold", name)
        options = getattr(scaffold, "model_fields", {})
        yield {
            "name": name,
            "what": _first_line(sys.modules[scaffold.__module__].__doc__ if not scaffold.__doc__ else scaffold.__doc__),
            "options": [f"{key}={field.get_default(call_default_factory=True)!r}" for key, field in options.items()],
        }


def tools() -> Iterable[dict[str, Any]]:
    for tool in make_tools(list(registered("tool"))):
        arguments = list(tool.spec.parameters.get("properties", {}))
        yield {"name": tool.spec.name, "what": _first_line(tool.spec.description), "arguments": arguments}


def models() -> Iterable[dict[str, Any]]:
    from trellis.models import catalog

    yield from ({"name": name, "what": what} for name, what in catalog.describe())
    yield from ({"name": name, "what": place} for name, place in registered("model").items())


def benchmarks() -> Iterable[dict[str, Any]]:
    for name in registered("benchmark"):
        benchmark = make_benchmark(BenchmarkChoice(name=name))
        yield {
            "name": name,
            "what": _first_line(type(benchmark).__doc__),
            "version": benchmark.version,
            "splits": list(benchmark.splits()),
            "judge": benchmark.judge or "",
        }


def tasks(name: str) -> Iterable[dict[str, Any]]:
    choice = BenchmarkChoice.model_validate(name)
    try:
        found = list(make_benchmark(choice).tasks(choice.split))
    except ValueError as error:
        raise UsageError(f"{choice.name}: {error}") from None
    for task in found:
        yield {"id": task.id, "kind": task.facts.get("kind", ""), "prompt": text.line(task.text, 90)}


def runs(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.glob("*/experiment.toml")):
        run = RunFolder(path.parent)
        try:
            experiment, results = run.experiment(), run.results()
        except UsageError as error:
            yield {"run": run.id, "benchmarks": "", "agents": "", "done": "", "state": text.line(str(error), 80)}
            continue
        faults = sum(r.outcome == "fault" for r in results.values())
        yield {
            "run": run.id,
            "benchmarks": [b.label for b in experiment.benchmarks],
            "agents": [a.name for a in experiment.agents],
            "done": sum(r.final for r in results.values()),
            "state": "at work" if run.busy() else f"{faults} faults" if faults else "",
        }


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _first_line(doc: str | None) -> str:
    return " ".join((doc or "").split("\n\n")[0].split())
