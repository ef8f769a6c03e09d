"""`trellis reprice`: a run's costs at other prices."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from trellis.models.prices import Prices
from trellis.runs import repricing, table, text
from trellis.runs.errors import UsageError
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.folder import RunFolder, find
from trellis.runs.plan import make_benchmark
from trellis.runs.report import write_report
from trellis.runs.summary import in_order, summarize
from trellis.trajectories.log import LogError


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--prices", metavar="FILE", type=click.Path(path_type=Path),
              help="Prices (TOML or JSON) over those of this version of Trellis.")  # fmt: skip
@runs_dir
@as_json
def reprice(run: str, prices: Path | None, runs_dir: Path, as_json: bool) -> int:
    """Price every call of a run again, from the usage in its logs.

    Only the costs change: new lines are added to results.jsonl, the old ones stay, and summary and report are made
    again. A call that the prices do not tell keeps the cost that was recorded.
    """
    folder = find(run, runs_dir)
    try:
        listed = Prices.listed(prices)
        with folder.locked():
            changes = repricing.reprice(folder, listed)
    except (ValueError, LogError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    if not changes:
        raise UsageError(f"{folder.path} has no results yet")
    _write_summary(folder)
    rows = repricing.to_json(changes)
    if as_json:
        document = {"run": str(folder.path), "prices": prices and str(prices), "as_of": listed.as_of, "agents": rows}
        click.echo(json.dumps(document, indent=2))
        return 0
    columns = {"benchmark": "left", "agent": "left", "calls": "right", "old": "right", "new": "right"}
    judged = any(change.old_judge != change.new_judge or any(change.new_judge) for change in changes.values())
    columns |= {"judge old": "right", "judge new": "right"} if judged else {}
    costs = ("old_usd", "new_usd", *(("old_judge_usd", "new_judge_usd") if judged else ()))
    console = table.console(sys.stdout)
    console.print(
        table.simple(
            {**columns, "unpriced calls": "left"},
            (
                [str(row["benchmark"]), str(row["agent"]), str(row["calls"]),
                 *(text.usd(row[name]) for name in costs),  # type: ignore[arg-type]
                 ", ".join(f"{count} of {model}" for model, count in change.unpriced.items())]
                for row, change in zip(rows, changes.values(), strict=True)
            ),
        )
    )  # fmt: skip
    click.echo(f"run:    {folder.path}\nprices: {prices or 'the table of this version'}, as of {listed.as_of}")
    return 0


def _write_summary(folder: RunFolder) -> None:
    """Without the models of the run: prices need no key."""
    experiment = folder.experiment()
    path = folder.path / "summary.json"
    try:
        expected = json.loads(path.read_text("utf-8"))["episodes"]
    except (OSError, ValueError, KeyError):
        expected = None
    benchmarks = {choice.label: make_benchmark(choice) for choice in experiment.benchmarks}
    summary = summarize(in_order(experiment, folder.results().values()), benchmarks, expected)
    folder.write(path.name, json.dumps(summary.to_json(), indent=1) + "\n")
    write_report(folder, summary)
