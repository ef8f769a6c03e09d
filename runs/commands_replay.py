"""`trellis replay`: what was recorded, gone through again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from trellis.runs import table, verification_text
from trellis.runs.determinism import Verified, by_task
from trellis.runs.errors import UsageError
from trellis.runs.finding import find_trajectories, name_of
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.options import parse_options
from trellis.runs.reexecution import Again
from trellis.runs.regression import Replayed, Variant, rerecord
from trellis.runs.regression import replay as replay_recorded
from trellis.runs.regression_text import lines
from trellis.runs.text import line, plural, visible
from trellis.runs.verification import Wanted, verify
from trellis.trajectories.trajectory import Trajectory


@click.command()
@click.argument("what", metavar="TRAJECTORY|RUN")
@click.option("--stop-at-first", is_flag=True, help="Stop each trajectory at its first difference.")
@click.option("--upto", metavar="STEP", help="Only up to this step: its number, or BRANCH:TURN.")
@click.option("--branch", metavar="NAME", help="Only this branch, and those that its world came from.")
@click.option("--tasks", metavar="GLOB", help="Of a run: only tasks whose id matches.")
@click.option("--env", "kind", metavar="KIND", help="In this kind of world instead of the recorded one.")
@click.option("-E", "environment", multiple=True, metavar="KEY=VALUE", help="Environment option, such as image=NAME.")
@click.option("--jobs", type=click.IntRange(1), help="Trajectories at a time. [one per processor]")
@click.option(
    "--recorded",
    is_flag=True,
    help="Run the program as it is now over the recorded replies and results: nothing is asked or started.",
)
@click.option("--scaffold", metavar="NAME", help="With --recorded: this scaffold instead of the recorded one.")
@click.option(
    "-S",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="With --recorded: a scaffold option, on top of the recorded ones.",
)
@click.option(
    "--save",
    metavar="FILE.jsonl",
    type=click.Path(path_type=Path),
    help="With --recorded: write what the program makes of it now, as a fixture for a test.",
)
@runs_dir
@as_json
def replay(what: str, recorded: bool, runs_dir: Path, as_json: bool, tasks: str | None, **flags: Any) -> int:
    """Go through a trajectory again and say what is different.

    Every recorded tool call is made again in a fresh world, without a model, and its result compared: exit code,
    output, changed files. With --recorded it is the program that runs again, over the recorded answers.

    WHAT is a trajectory.jsonl, an episode's folder, RUN/TASK/AGENT/EPOCH, or a run with all its episodes. Ends with
    status 1 where something is different.
    """  # fmt: skip
    _belong(flags, recorded=recorded)
    paths = [path for path in find_trajectories(what, runs_dir) if tasks is None or fnmatchcase(_task(path), tasks)]
    if not paths:
        raise UsageError(f"{what} has no task {tasks!r}")
    if recorded:
        return _recorded(paths, flags, as_json=as_json)
    return _verified(paths, flags, as_json=as_json)


_OF_VERIFICATION = {"stop_at_first": "--stop-at-first", "upto": "--upto", "branch": "--branch", "kind": "--env",
                    "environment": "-E", "jobs": "--jobs"}  # fmt: skip
_OF_RECORDED = {"scaffold": "--scaffold", "options": "-S", "save": "--save"}


def _belong(flags: Mapping[str, Any], *, recorded: bool) -> None:
    """Raises UsageError: a flag of the other kind of replay."""
    for name, flag in (_OF_VERIFICATION if recorded else _OF_RECORDED).items():
        if flags[name]:
            raise UsageError(f"{flag} goes {'without' if recorded else 'with'} --recorded")


def _task(path: Path) -> str:
    with Trajectory(path) as trajectory:
        task: str = trajectory.header["episode"]["task"]
        return task


def _verified(paths: list[Path], flags: Mapping[str, Any], *, as_json: bool) -> int:
    environment = {**parse_options(flags["environment"], "-E"), **({"kind": flags["kind"]} if flags["kind"] else {})}
    wanted = Wanted(flags["stop_at_first"], flags["upto"], flags["branch"], environment)
    alone = len(paths) == 1

    def told(path: Path, call: Again) -> None:
        if alone and not as_json:
            click.echo("\n".join(verification_text.call(call)))
        elif call.verdict == "different":
            click.echo(line(f"{name_of(path)}: different at step {call.step}: {call.why}", 400), err=True)

    def ended(one: Verified) -> None:
        if not alone:
            click.echo(line(f"{name_of(one.path)}: {verification_text.counted(one)}", 400), err=True)

    jobs = flags["jobs"] or os.cpu_count() or 1
    verified = asyncio.run(verify(paths, wanted, jobs=jobs, on_call=told, on_end=ended))
    same = all(each.same for each in verified)
    scores = by_task(verified)
    if as_json:
        document = {"same": same, "tasks": [score.to_json() for score in scores],
                    "episodes": [each.to_json() for each in verified]}  # fmt: skip
        click.echo(json.dumps(document, indent=2))
        return int(not same)
    for each in verified:
        click.echo("\n".join(verification_text.summary(each)))
    if not alone:
        table.console(sys.stdout).print(verification_text.table(scores))
    return int(not same)


def _recorded(paths: list[Path], flags: Mapping[str, Any], *, as_json: bool) -> int:
    variant = Variant(flags["scaffold"], parse_options(flags["options"], "-S"))
    if flags["save"] is not None:
        return _save(paths, flags["save"], variant, as_json=as_json)
    outcomes = [_replayed(path, variant) for path in paths]
    same = [isinstance(outcome, Replayed) and outcome.change is None for outcome in outcomes]
    if as_json:
        click.echo(json.dumps({"same": all(same), "episodes": [_to_json(outcome) for outcome in outcomes]}, indent=2))
        return int(not all(same))
    for outcome in outcomes:
        _print(outcome)
    if len(paths) > 1:
        click.echo(f"{sum(same)} of {plural(len(paths), 'episode')} the same")
    return int(not all(same))


class _Failed:
    """The program's own error."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.path = path
        self.error = error
        self.said = f"{type(error).__name__}: {error}"


def _replayed(path: Path, variant: Variant, target: Path | None = None) -> Replayed | _Failed:
    try:
        return rerecord(path, target, variant) if target else replay_recorded(path, variant)
    except UsageError:
        raise
    except Exception as error:
        return _Failed(path, error)


def _save(paths: list[Path], target: Path, variant: Variant, *, as_json: bool) -> int:
    if len(paths) > 1:
        raise UsageError(f"--save: {plural(len(paths), 'episode')} do not fit into one file; name one of them")
    outcome = _replayed(paths[0], variant, target)
    saved = isinstance(outcome, Replayed) and outcome.change is None
    if as_json:
        click.echo(json.dumps({"saved": str(target) if saved else None, **_to_json(outcome)}, indent=2))
    elif isinstance(outcome, Replayed) and saved:
        counted = f"{plural(outcome.steps, 'step')}, {plural(outcome.acts, 'tool call')}"
        click.echo(f"wrote {target} ({counted}, {target.stat().st_size / 1024:.0f} KB)")
    else:
        _print(outcome)
        click.echo("nothing was written: only a live run can answer what was not recorded", err=True)
    return int(not saved)


def _to_json(outcome: Replayed | _Failed) -> dict[str, object]:
    if isinstance(outcome, Replayed):
        return outcome.to_json()
    return {"trajectory": str(outcome.path), "same": False, "error": outcome.said}


def _print(outcome: Replayed | _Failed) -> None:
    for text in _told(outcome):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(text[4:5]) if text.startswith("    ") else None
        click.echo(click.style(text, fg=colour) if colour else text)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _told(outcome: Replayed | _Failed) -> Iterator[str]:
    if isinstance(outcome, Replayed):
        yield from lines(outcome, _shown(outcome.path))
        return
    yield f"{visible(_shown(outcome.path))}: the program failed: {line(outcome.said, 2000)}"
    for text in "".join(traceback.format_exception(outcome.error)).splitlines():
        yield f"  {visible(text)}"
