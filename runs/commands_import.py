"""`trellis import`: what other frameworks recorded, as trajectories of ours."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from trellis.benchmarks.benchmark import Score
from trellis.runs import results, table, text
from trellis.runs.errors import UsageError
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.folder import safe_name
from trellis.runs.results import Key, Result
from trellis.trajectories.converters.converter import ConversionError, Imported, together
from trellis.trajectories.converters.importing import FORMATS, Import
from trellis.trajectories.converters.native import Identity
from trellis.trajectories.log import LogError
from trellis.trajectories.trajectory import Trajectory

_OURS = ("trajectory.jsonl*", "blobs", "episodes", "results.jsonl")
"""What an import leaves in its folder."""


@click.command(name="import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--to", "to", metavar="FOLDER", type=click.Path(path_type=Path),
              help="Where to write. [imported/<file>-<hash> below the folder of all runs]")  # fmt: skip
@click.option("--format", "format", type=click.Choice(list(FORMATS)), help="Format of the file. [found by its content]")
@runs_dir
@as_json
def import_(file: Path, to: Path | None, format: str | None, runs_dir: Path, as_json: bool) -> None:
    """Read a trajectory of ATIF, SWE-agent, mini-swe-agent, OpenHands, AIDE or Inspect.

    What is written is a trajectory like any other: view it, diff it and, where its commands were recorded, replay or
    fork it. What has no place in it is counted and printed. A log of several samples becomes a folder of episodes.
    """
    try:
        imported, folder = _import(file, to, format, runs_dir)
    except (ConversionError, LogError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or file}: {error.strerror or error}") from None
    if as_json:
        click.echo(json.dumps(_document(imported, folder), indent=2))
        return
    _print(imported, folder)


def _import(file: Path, to: Path | None, format: str | None, runs_dir: Path) -> tuple[list[Imported], Path]:
    """Whole or not at all: it is written beside its place first."""
    opened = Import(file, format)
    try:
        sha256 = opened.source.sha256
        folder = to or runs_dir / "imported" / f"{safe_name(opened.source.stem)}-{sha256[:8]}"
        _free(folder, sha256)
        draft = folder.parent / f".{folder.name}.{os.getpid()}"
        try:
            imported = _written(opened, draft)
            _replace(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        opened.close()
    return [each.moved(folder / each.path.relative_to(draft)) for each in imported], folder


def _written(opened: Import, draft: Path) -> list[Imported]:
    if opened.episodes == 1:
        return opened.write(lambda _: draft)
    imported = opened.write(lambda identity: draft / _place(identity))
    for each in imported:
        results.append(draft / "results.jsonl", _result(each, draft))
    return imported


def _place(identity: Identity) -> Path:
    """As in a run."""
    names = (identity.benchmark or identity.format, identity.task, identity.agent)
    return Path("episodes", *map(safe_name, names), str(identity.epoch))


def _result(imported: Imported, folder: Path) -> Result:
    """A line of results like that of a run, so that the folder can be looked at like one."""
    score = None if imported.score is None else Score(imported.score, success=imported.score >= 1)
    outcome = imported.outcome if imported.outcome in results.OUTCOMES else "completed"
    return Result(
        key=Key(imported.benchmark or imported.format, imported.task, imported.agent, imported.epoch),
        seed=0,
        outcome=outcome,
        path=str(imported.path.relative_to(folder)),
        score=score if outcome in results.SCORED else None,
        steps=imported.steps,
        usage=imported.usage,
        cost_usd=imported.cost_usd,
        time_s=imported.time_s,
        wall_s=imported.time_s,
    )


def _free(folder: Path, sha256: str) -> None:
    """Raises UsageError: something else lies there."""
    if not folder.exists():
        return
    held = list(folder.iterdir()) if folder.is_dir() else [folder]
    logs = [*folder.glob("trajectory.jsonl*"), *folder.glob("episodes/*/*/*/*/trajectory.jsonl*")]
    if logs and all(any(path.match(name) for name in _OURS) for path in held):
        with Trajectory(logs[0].parent) as trajectory:
            if trajectory.header.get("imported", {}).get("sha256") == sha256:
                return
    if held:
        raise UsageError(f"{folder} holds something else already: choose another with --to")


def _replace(draft: Path, folder: Path) -> None:
    if folder.exists():
        old = folder.parent / f".{folder.name}.old.{os.getpid()}"
        folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(folder)


# --- what is told ---


def _document(imported: Sequence[Imported], folder: Path) -> dict[str, Any]:
    if len(imported) == 1:
        return imported[0].to_json()
    usage, cost_usd, losses = together(imported)
    return {
        "format": imported[0].format,
        "version": imported[0].version,
        "path": str(folder),
        "steps": sum(each.steps for each in imported),
        "tool_calls": sum(each.tool_calls for each in imported),
        "messages": sum(each.messages for each in imported),
        "usage": usage.to_json(),
        "cost_usd": cost_usd,
        "losses": losses.to_json(),
        "trajectories": [each.to_json() for each in imported],
    }


def _print(imported: Sequence[Imported], folder: Path) -> None:
    _, _, losses = together(imported)
    columns = {"task": "left", "agent": "left", "outcome": "left", "score": "right", "steps": "right",
               "tool calls": "right", "messages": "right", "tokens": "right", "cost": "right"}  # fmt: skip
    rows = (
        [text.line(each.task, 40), text.line(each.agent, 30), text.line(each.outcome, 30) or text.UNKNOWN,
         text.number(each.score, 2), f"{each.steps:,}", f"{each.tool_calls:,}", f"{each.messages:,}",
         text.count(each.usage.total) if each.usage.total else text.UNKNOWN,
         text.UNKNOWN if each.cost_usd is None else text.usd(each.cost_usd)]
        for each in imported
    )  # fmt: skip
    table.console(sys.stdout).print(table.simple(columns, rows))
    click.echo(f"format: {text.line(f'{imported[0].format} {imported[0].version}')}")
    click.echo(f"path:   {folder}")
    if len(losses):
        click.echo("not kept:")
        for loss in losses:
            click.echo(f"  {text.line(str(loss))}")
