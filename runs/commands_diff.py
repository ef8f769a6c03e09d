"""`trellis diff`: trajectories side by side."""

from __future__ import annotations

import json
import string
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from trellis.runs import diff_text, diffing, table
from trellis.runs.errors import UsageError
from trellis.runs.finding import open_trajectory
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.step_text import Look, say
from trellis.trajectories.log import LogError


@click.command()
@click.argument("trajectories", nargs=-1, required=True, metavar="A B [C ...]")
@click.option("--full", is_flag=True, help="Every row, and long texts whole.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page to FILE.")
@runs_dir
@as_json
def diff(trajectories: tuple[str, ...], full: bool, html: Path | None, runs_dir: Path, as_json: bool) -> None:
    """Put trajectories side by side: where they part for the first time, what each step changed, cost and time.

    Steps are aligned by what they did, also between different scaffolds; every further trajectory with the first one.
    Branches of tree searches are aligned by node.
    """
    if not 2 <= len(trajectories) <= len(string.ascii_uppercase):
        raise UsageError("diff needs two trajectories or more (26 at most): trellis diff A B")
    with ExitStack() as opened:
        logs = [opened.enter_context(open_trajectory(text, runs_dir)) for text in trajectories]
        try:
            sides = [diffing.side(label, log) for label, log in zip(string.ascii_uppercase, logs, strict=False)]
            comparisons = [diffing.compare(sides[0], other) for other in sides[1:]]
        except LogError as error:
            raise UsageError(str(error)) from None
        if html is not None:
            from trellis.runs.diff_page import write

            write(html, sides, comparisons)
        if as_json:
            click.echo(json.dumps(diffing.to_json(sides, comparisons), indent=1))
        elif html is not None:
            click.echo(f"page: {html}")
        else:
            say(diff_text.lines(sides, comparisons, Look(table.console(sys.stdout).width, whole=full)))
