"""`trellis verify`: is everything on the disk what was written?"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from trellis.runs import text
from trellis.runs.finding import find_logs
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.verifying import Report
from trellis.runs.verifying import verify as verify_all

_TELL_S = 2.0


@click.command()
@click.argument("what", metavar="RUN|TRAJECTORY")
@runs_dir
@as_json
def verify(what: str, runs_dir: Path, as_json: bool) -> int:
    """Check every event, every blob and every result from end to end.

    Each event is chained to the one before it, and a run's results hold the last link of each chain. Names every file
    and line that is not as it was written; exit status 1 if there is one.
    """
    run, logs = find_logs(what, runs_dir)
    report = verify_all(logs, run, progress(len(logs), "verified"))
    if as_json:
        click.echo(json.dumps({"what": str(run.path if run else logs[0]), **_document(report)}, indent=2))
        return int(bool(report.problems))
    for problem in report.problems:
        click.echo(text.line(str(problem), 2000))
    counts = [text.plural(report.trajectories, "log"), text.plural(report.events, "event"),
              text.plural(report.blobs, "blob")]  # fmt: skip
    if report.heads:
        counts.append(f"{report.heads} compared with results.jsonl")
    if report.unchained:
        counts.append(f"{report.unchained} without a chain, of an older version")
    verdict = text.plural(len(report.problems), "problem") if report.problems else "whole"
    click.echo(f"{verdict}: {', '.join(counts)}")
    return int(bool(report.problems))


def progress(total: int, done: str) -> Callable[[int], None]:
    """Tells on standard error how far a long work has come."""
    told = time.monotonic()

    def tell(number: int) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            print(f"{done} {number} of {total}", file=sys.stderr, flush=True)

    return tell


def _document(report: Report) -> dict[str, object]:
    return {
        "whole": not report.problems,
        "trajectories": report.trajectories,
        "events": report.events,
        "blobs": report.blobs,
        "heads": report.heads,
        "unchained": report.unchained,
        "problems": [
            {"file": str(problem.file), "line": problem.line, "what": problem.what} for problem in report.problems
        ],
    }
