"""`trellis run` and `trellis resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trellis.runs import conduct, text
from trellis.runs import experiment as experiments
from trellis.runs.conduct import Ended, start
from trellis.runs.experiment import Experiment
from trellis.runs.flags import (
    as_json,
    experiment_flags,
    only_for_benchmarks,
    overrides,
    runs_dir,
    settings_from,
    task_flags,
)
from trellis.runs.folder import find
from trellis.runs.plan import make_plan


@click.command()
@click.argument("what", metavar="BENCHMARK[:SPLIT]|FILE.toml")
@experiment_flags
def run(what: str, **flags: Any) -> int:
    """Carry out an experiment: agents meet tasks.

    WHAT is a benchmark (mle:sample, ./mine.py:Mine:split) or an experiment file. The run gets a folder of its own with
    everything that happened; ends with a comparison table and the path of an HTML report.
    """
    experiment = experiment_of(what, flags)
    ended = start(experiment, flags["runs_dir"], quiet=flags["as_json"], embedded=flags["embedded"])
    return show(ended, as_json=flags["as_json"])


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--jobs", type=click.IntRange(1), help="Episodes at a time.")
@click.option("--max-cost-usd", type=click.FloatRange(0, min_open=True), help="A new cost cap for the whole run.")
@click.option("--fsync", is_flag=True, default=None, help="From now on, wait for the disk before a result is used.")
@click.option(
    "--afresh",
    is_flag=True,
    help="Begin episodes anew that cannot go on from their logs (a world could not be rebuilt, the scaffold was "
    "changed); the old logs are kept beside the new.",
)
@runs_dir
@as_json
def resume(run: str, afresh: bool, runs_dir: Path, as_json: bool, **changes: Any) -> int:
    """Finish a run: every episode without a final outcome goes on from its log.

    RUN is the folder of a run, or the end of its name. Episodes that ended in a fault are tried again.
    """
    folder = find(run, runs_dir)
    changed = {name: value for name, value in changes.items() if value is not None}
    experiment = folder.experiment().model_copy(update=changed)
    return show(conduct.resume(folder, make_plan(experiment), afresh=afresh, quiet=as_json), as_json=as_json)


def experiment_of(what: str, flags: dict[str, Any]) -> Experiment:
    """The experiment that the command line asks for. Raises UsageError."""
    if not what.endswith(".toml"):
        return experiments.make(settings_from(what, flags), folder=Path.cwd())
    only_for_benchmarks(flags)
    written = experiments.read(Path(what)).model_dump(mode="json", exclude_defaults=True)
    changed = overrides(flags)
    changed["benchmarks"] = [{**benchmark, **task_flags(flags)} for benchmark in written["benchmarks"]]
    for table in ("budget", "environment"):
        if table in changed:
            changed[table] = {**written.get(table, {}), **changed[table]}
    if "approval" in changed:  # before those of the file: the first that matches counts
        changed["approval"] += written.get("approval", [])
    name = {} if "name" in written else {"name": Path(what).stem}
    return experiments.make({**name, **written, **changed}, folder=Path.cwd())


def show(ended: Ended, *, as_json: bool) -> int:
    """Print how a run ended, and write its report."""
    import json
    import sys

    from trellis.runs import table
    from trellis.runs.report import write_report

    report = write_report(ended.folder, ended.summary)
    if as_json:
        document = {"run": str(ended.folder.path), "report": str(report), **ended.summary.to_json()}
        click.echo(json.dumps(document, indent=2))
    else:
        console = table.console(sys.stdout)
        console.print(table.comparison(ended.summary, console.width))
        click.echo(f"run:    {ended.folder.path}\nreport: {report}")
    tell_rest(ended)
    return ended.status


def tell_rest(ended: Ended) -> None:
    """What there is to be done about a run that did not come to its end, or not well."""
    if ended.message:
        click.echo(ended.message, err=True)
    elif ended.summary.faults:
        click.echo(f"{text.plural(ended.summary.faults, 'episode')} ended in a fault, not scored; try again with: "
                   f"trellis resume {ended.folder.path}", err=True)  # fmt: skip
