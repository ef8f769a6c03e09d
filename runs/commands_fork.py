"""`trellis fork`: go on from a step of an episode that was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from trellis.runs import chances, conduct
from trellis.runs import experiment as experiments
from trellis.runs.commands_run import show, tell_rest
from trellis.runs.errors import UsageError
from trellis.runs.experiment import Experiment
from trellis.runs.finding import find_step, open_trajectory
from trellis.runs.flags import models_by_role, overrides, rerun_flags
from trellis.runs.forks import read_reply
from trellis.runs.options import parse_options
from trellis.runs.reopening import reopen
from trellis.runs.report import write_report
from trellis.trajectories.trajectory import Trajectory


@click.command()
@click.argument("trajectory", metavar="TRAJECTORY")
@click.option("--at", metavar="STEP", help="The last step that is kept: its number, or BRANCH:TURN; 0 keeps none.")
@click.option("--each", is_flag=True, help="From before the first step, and after every one.")
@click.option("-n", "count", type=click.IntRange(1), default=1, show_default=True, help="How often, from each step.")
@click.option("--message", default="", metavar="TEXT", help="Say this to the model first.")
@click.option(
    "--edit",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another reply for the step: JSON as `trellis show --json` prints it, or plain text.",
)
@click.option("--score", "charted", is_flag=True, help="With --each: chart the chance of success along the trajectory.")
@rerun_flags
def fork(
    trajectory: str,
    at: str | None,
    each: bool,
    count: int,
    message: str,
    edit: Path | None,
    charted: bool,
    **flags: Any,
) -> int:
    """Go on from a step of TRAJECTORY, live, in a world that is made again: with another model, other options of the
    scaffold, something said to the model, or another reply.

    What comes of it is a run, with lineage: it is scored, reported, resumed and compared as any other.
    """  # fmt: skip
    if each == (at is not None):
        raise UsageError("say where to fork: --at STEP, or --each for every step")
    if each and (edit or message):
        raise UsageError("--edit and --message go with --at STEP")
    if charted and not each:
        raise UsageError("--score charts the chance of success along a trajectory: it goes with --each")
    reply = read_reply(edit) if edit else None
    with open_trajectory(trajectory, flags["runs_dir"]) as opened:
        points = ["0", *(str(number) for number in range(1, len(opened) + 1))] if each else [_named(at or "", opened)]
        experiment = _experiment(opened, points, count, {"message": message, "reply": reply}, flags)
        ended = conduct.start(experiment, flags["runs_dir"], quiet=flags["as_json"])
        if not charted:
            return show(ended, as_json=flags["as_json"])
        found = chances.along(opened, ended.folder.results().values())
        report, chart = write_report(ended.folder, ended.summary), chances.write(ended.folder, opened, found)
        if flags["as_json"]:
            written = {"report": str(report), "chart": str(chart)}
            click.echo(json.dumps({**chances.to_json(ended, found), **written}, indent=2))
        else:
            click.echo(f"{chances.as_text(found)}\n\nrun:    {ended.folder.path}\nreport: {report}\nchart:  {chart}")
        tell_rest(ended)
        return ended.status


def _named(at: str, trajectory: Trajectory) -> str:
    return at if at == "0" else str(find_step(trajectory, at).number)


def _experiment(
    trajectory: Trajectory, points: list[str], count: int, said: dict[str, Any], flags: dict[str, Any]
) -> Experiment:
    """An agent for each point."""
    old = reopen(trajectory.header, with_models=False, path=trajectory.path).experiment
    settings = old.model_dump(mode="json", exclude_defaults=True)
    agent = {**settings["agents"][0], **_agent(old, flags)}
    name = old.agents[0].name
    settings["agents"] = [
        {**agent, "name": f"{name}@{at}", "fork": {"trajectory": str(trajectory.path), "at": at, **said}}
        for at in points
    ]
    changed = overrides(flags)
    for table in ("budget", "environment"):
        if table in changed:
            changed[table] = {**settings.get(table, {}), **changed[table]}
    if "approval" in changed:
        changed["approval"] += settings.get("approval", [])
    return experiments.make({**settings, "epochs": count, "name": "fork", **changed}, folder=Path.cwd())


def _agent(old: Experiment, flags: dict[str, Any]) -> dict[str, Any]:
    """What is another than it was. The options of a scaffold or model hold only where it is the same."""
    was, changed = old.agents[0], dict[str, Any]()
    options = parse_options(flags["scaffold_options"], "-S")
    if flags["scaffold"]:
        changed |= {"scaffold": flags["scaffold"], "options": options}
    elif options:
        changed["options"] = {**was.options, **options}
    main, roles = models_by_role(flags["models"])
    model_options = parse_options(flags["model_options"], "-M")
    if main and main != was.model:
        changed |= {"model": main, "model_options": model_options}
    elif model_options:
        changed["model_options"] = {**was.model_options, **model_options}
    if roles:
        changed["models"] = {**was.models, **roles}
    return changed
