"""`trellis pack` and `trellis unpack`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click

from trellis.runs import text
from trellis.runs.commands_verify import progress
from trellis.runs.finding import find_logs
from trellis.runs.flags import as_json, runs_dir
from trellis.trajectories import packing
from trellis.trajectories.disk import existing
from trellis.trajectories.log import LogError
from trellis.trajectories.packing import Sizes


@click.command()
@click.argument("what", metavar="RUN|TRAJECTORY")
@runs_dir
@as_json
def pack(what: str, runs_dir: Path, as_json: bool) -> int:
    """Compress finished trajectories (zstd); every command reads them as before.

    A trajectory that somebody writes is refused, and so is one that is damaged. Packing what is packed does nothing.
    """
    return _each(what, runs_dir, packing.pack, "packed", as_json=as_json)


@click.command()
@click.argument("what", metavar="RUN|TRAJECTORY")
@runs_dir
@as_json
def unpack(what: str, runs_dir: Path, as_json: bool) -> int:
    """Undo `trellis pack`. Unpacking what is not packed does nothing."""
    return _each(what, runs_dir, packing.unpack, "unpacked", as_json=as_json)


def _each(what: str, runs_dir: Path, work: Callable[[Path], Sizes], done: str, *, as_json: bool) -> int:
    run, logs = find_logs(what, runs_dir)
    tell = progress(len(logs), done)
    rows, problems, total = [], [], Sizes(0, 0)
    with run.locked() if run else nullcontext():
        for number, log in enumerate(logs, 1):
            try:
                sizes = work(log)
            except (LogError, OSError) as error:
                problems.append(str(error))
                continue
            total = Sizes(total.plain + sizes.plain, total.packed + sizes.packed)
            rows.append({"trajectory": str(existing(log)), "plain_bytes": sizes.plain, "packed_bytes": sizes.packed})
            tell(number)
    if as_json:
        document = {"what": str(run.path if run else logs[0]), "trajectories": rows, "plain_bytes": total.plain,
                    "packed_bytes": total.packed, "problems": problems}  # fmt: skip
        click.echo(json.dumps(document, indent=2))
    else:
        sizes_ = f"{text.count(total.plain)} bytes plain, {text.count(total.packed)} packed"
        click.echo(f"{done} {text.plural(len(rows), 'log')}: {sizes_}")
    for problem in problems:
        click.echo(text.line(problem, 2000), err=True)
    return int(bool(problems))
