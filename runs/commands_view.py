"""`trellis view`: look at runs and trajectories in a browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from trellis.runs import text
from trellis.runs.errors import UsageError
from trellis.runs.finding import find_trajectory
from trellis.runs.flags import runs_dir
from trellis.runs.folder import find
from trellis.runs.library import RunLibrary
from trellis.trajectories.viewer.page import MOST_BYTES, write_page
from trellis.trajectories.viewer.server import NotThere, Viewer
from trellis.trajectories.viewer.shelf import LibraryShelf


@click.command()
@click.argument("what", metavar="[RUN|TRAJECTORY]", required=False)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Listen on this port. [any that is free]")
@click.option("--open", "open_", is_flag=True, help="Open a browser.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write one self-contained page instead.")
@runs_dir
def view(what: str | None, port: int, open_: bool, html: Path | None, runs_dir: Path) -> int:
    """Look at runs and trajectories in a browser.

    Without an argument all runs are listed. The address that is printed is for this user on this machine alone; Ctrl-C
    ends it.
    """
    shelf = LibraryShelf(_library(what, runs_dir))
    if html is not None:
        return _write(shelf, html)
    _open_first(shelf)
    try:
        viewer = Viewer(shelf, port)
    except OSError as error:
        raise UsageError(f"--port {port}: {error.strerror}; without it any free port is taken") from None
    click.echo(f"{viewer.address}\nCtrl-C ends it")
    if open_:
        webbrowser.open(viewer.address)
    try:
        viewer.serve()
    except KeyboardInterrupt:
        click.echo("")
    finally:
        viewer.stop()
        shelf.close()
    return 0


def _open_first(shelf: LibraryShelf) -> None:
    """A trajectory is open before a browser asks for it, and what cannot be read is told at once."""
    try:
        first = shelf.answer("first", {})
        if first["view"] == "episode":
            shelf.answer("episode", {"e": first["episode"]})
    except NotThere as error:
        raise UsageError(text.line(str(error), 300)) from None


def _write(shelf: LibraryShelf, target: Path) -> int:
    try:
        page = write_page(shelf, target)
    except NotThere as error:
        raise UsageError(text.line(str(error), 300)) from None
    except OSError as error:
        raise UsageError(f"--html {target}: {error.strerror}") from None
    finally:
        shelf.close()
    click.echo(f"wrote {target} ({page.size / 1e6:.1f} MB)")
    if page.left_out:
        click.echo(
            f"{page.left_out} parts were left out, as a page holds {MOST_BYTES >> 20} MB: trellis view shows all of it",
            err=True,
        )
    return 0


def _library(what: str | None, runs_dir: Path) -> RunLibrary:
    if what is None:
        return RunLibrary(runs_dir)
    try:
        return RunLibrary(runs_dir, run=find(what, runs_dir))
    except UsageError:
        return RunLibrary(runs_dir, log=find_trajectory(what, runs_dir))
