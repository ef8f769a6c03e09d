"""`trellis replay`: what was recorded, gone through again."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path

import click

from trellis.runs.errors import UsageError
from trellis.runs.finding import find_trajectories
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.options import parse_options
from trellis.runs.regression import Replayed, Variant, rerecord
from trellis.runs.regression import replay as replay_recorded
from trellis.runs.regression_text import lines
from trellis.runs.text import line, plural, visible


@click.command()
@click.argument("what", metavar="TRAJECTORY|RUN")
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
def replay(
    what: str,
    recorded: bool,
    scaffold: str | None,
    options: tuple[str, ...],
    save: Path | None,
    runs_dir: Path,
    as_json: bool,
) -> int:  # fmt: skip
    """Go through a trajectory again and say what is different.

    WHAT is a trajectory.jsonl, an episode's folder, RUN/TASK/AGENT/EPOCH, or a run with all its episodes. Ends with
    status 1 where something is different.
    """
    if not recorded:
        raise UsageError("say --recorded")
    variant = Variant(scaffold, parse_options(options, "-S"))
    paths = find_trajectories(what, runs_dir)
    if save is not None:
        return _save(paths, save, variant, as_json=as_json)
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


def _replayed(path: Path, variant: Variant) -> Replayed | _Failed:
    try:
        return replay_recorded(path, variant)
    except UsageError:
        raise
    except Exception as error:
        return _Failed(path, error)


def _save(paths: list[Path], target: Path, variant: Variant, *, as_json: bool) -> int:
    if len(paths) > 1:
        raise UsageError(f"--save: {plural(len(paths), 'episode')} do not fit into one file; name one of them")
    outcome = rerecord(paths[0], target, variant)
    if as_json:
        click.echo(
            json.dumps({"saved": str(target) if outcome.change is None else None, **outcome.to_json()}, indent=2)
        )
    elif outcome.change is None:
        size = target.stat().st_size / 1024
        click.echo(
            f"wrote {target} ({plural(outcome.steps, 'step')}, {plural(outcome.acts, 'tool call')}, {size:.0f} KB)"
        )
    else:
        _print(outcome)
        click.echo(
            "nothing was written: what is asked for now was not recorded, and only a live run can tell", err=True
        )
    return int(outcome.change is not None)


def _to_json(outcome: Replayed | _Failed) -> dict[str, object]:
    if isinstance(outcome, Replayed):
        return outcome.to_json()
    error = f"{type(outcome.error).__name__}: {outcome.error}"
    return {"trajectory": str(outcome.path), "same": False, "error": error}


def _print(outcome: Replayed | _Failed) -> None:
    for text in _told(outcome):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(text[4:5]) if text.startswith("    ") else None
        click.echo(click.style(text, fg=colour) if colour else text)


def _told(outcome: Replayed | _Failed) -> Iterator[str]:
    if isinstance(outcome, Replayed):
        yield from lines(outcome)
        return
    yield f"{outcome.path}: the program failed: {line(f'{type(outcome.error).__name__}: {outcome.error}', 2000)}"
    for text in "".join(traceback.format_exception(outcome.error)).splitlines():
        yield f"  {visible(text)}"
