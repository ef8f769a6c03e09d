"""`trellis export`: trajectories in the formats of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from trellis.runs import exporting, text
from trellis.runs.errors import UsageError
from trellis.runs.exporting import FORMATS, Exported
from trellis.runs.finding import episodes, find_trajectory
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.folder import find
from trellis.runs.results import OUTCOMES
from trellis.trajectories.converters.converter import ConversionError
from trellis.trajectories.converters.to_openai import Choice
from trellis.trajectories.log import LogError


@click.command()
@click.argument("what", metavar="TRAJECTORY|RUN")
@click.option("--format", "format", type=click.Choice(list(FORMATS)), required=True, help="Format to write.")
@click.option("-o", "to", metavar="FILE|FOLDER", type=click.Path(path_type=Path),
              help="Where to write. [a name made of the episode's or the run's, in the folder one is in]")  # fmt: skip
@click.option("--min-score", type=float, help="openai: only episodes with at least this score.")
@click.option("--outcome", "outcomes", multiple=True, type=click.Choice(list(OUTCOMES)),
              help="openai: only episodes with this outcome; may be repeated.")  # fmt: skip
@click.option("--mask-failed", is_flag=True, help="openai: replies whose tool calls all failed are context only.")
@click.option("--endpoint", metavar="URL", help="otel: send to this collector (OTLP over HTTP) instead of a file.")
@click.option("--content", is_flag=True, help="otel: with what was said, the arguments of tools, and their results.")
@runs_dir
@as_json
def export(
    what: str, format: str, to: Path | None, min_score: float | None, outcomes: tuple[str, ...], mask_failed: bool,
    endpoint: str | None, content: bool, runs_dir: Path, as_json: bool,
) -> None:  # fmt: skip
    """Write a trajectory, or all of a run, in a format of others.

    What the format has no place for is counted and printed.
    """
    openai, otel = min_score is not None or outcomes or mask_failed, endpoint is not None or content
    for used, belongs in ((openai, "openai"), (otel, "otel")):
        if used and format != belongs:
            flags = "--min-score, --outcome and --mask-failed" if belongs == "openai" else "--endpoint and --content"
            raise UsageError(f"{flags} are for --format {belongs}, not {format}")
    if endpoint is not None and to is not None:
        raise UsageError("give -o for a file or --endpoint for a collector, not both")
    logs, run = _logs(what, runs_dir)
    found = exporting.episodes_of(logs)
    options: dict[str, Any] = {}
    if format == "openai":
        options["choice"] = Choice(min_score, outcomes, mask_failed)
    if format == "otel":
        options = {"endpoint": endpoint or "", "content": content, "run": run}
    try:
        exported = exporting.export(found, format, _target(to, found, format, run), **options)
    except (ConversionError, LogError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or what}: {error.strerror or error}") from None
    if as_json:
        click.echo(json.dumps(exported.to_json(), indent=2))
    else:
        _print(exported)


def _target(to: Path | None, found: list[exporting.Episode], format: str, run: str) -> Path:
    """A folder for a run, a file for an episode."""
    if not run:
        name = exporting.file_of(found[0], format)
        return Path(name) if to is None else to if exporting.is_file(to) else to / name
    target = to or Path(f"{run}-{format}".replace(".", "-"))
    if exporting.is_file(target) and format not in ("openai", "otel"):
        raise UsageError(f"{target} is one file, and {format} has several for a run: give a folder")
    return target


def _logs(what: str, runs_dir: Path) -> tuple[list[Path], str]:
    """The trajectories that are meant, and the run's name where all of a run are."""
    if not Path(what).is_file():
        try:
            run = find(what, runs_dir)
        except UsageError:
            return [find_trajectory(what, runs_dir)], ""
        if not (logs := episodes(run)):
            raise UsageError(f"{run.path} has no episodes yet")
        return logs, run.id
    return [find_trajectory(what, runs_dir)], ""


def _print(exported: Exported) -> None:
    places = [str(file) for file in exported.files] or [exported.endpoint or ""]
    shown = places[0] if len(places) == 1 else f"{len(places)} files, the first of them {places[0]}"
    what = [f"{exported.episodes} episode{'s' * (exported.episodes != 1)}"]
    what += [
        f"{count} {name}" for name, count in (("lines", exported.lines), ("spans", exported.spans)) if count is not None
    ]
    click.echo(f"wrote: {shown}\nholds: {', '.join(what)}")
    for title, lines in (("left out:", exported.left_out), ("not kept:", list(map(str, exported.losses)))):
        if lines:
            click.echo("\n".join((title, *(f"  {text.line(line, 300)}" for line in lines))))
