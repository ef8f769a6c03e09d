"""`python -m trellis.benchmarks.mle`: prepare competitions, check and grade submission files, write checksums."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from trellis.benchmarks.benchmark import GraderFault
from trellis.benchmarks.mle.benchmark import Mle
from trellis.benchmarks.mle.competition import CompetitionError, load
from trellis.benchmarks.mle.prepare import PARTS, checksums, ensure_prepared


@click.group()
@click.option("--competitions", type=click.Path(path_type=Path), help="Folder of competitions; the sample by default.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with <id>/raw and <id>/prepared.")
@click.pass_context
def main(context: click.Context, competitions: Path | None, data_dir: Path | None) -> None:
    """MLE-bench competitions by hand."""
    try:
        context.obj = Mle(competitions, data_dir)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@main.command()
@click.argument("ids", nargs=-1)
@click.pass_obj
def prepare(mle: Mle, ids: tuple[str, ...]) -> None:
    """Prepare the data of competitions (of all, if none is named)."""
    for id in ids or mle.ids("all"):
        click.echo(f"{id}: {mle.competition(id).prepared}")


@main.command()
@click.argument("id")
@click.argument("submission", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def validate(mle: Mle, id: str, submission: Path) -> None:
    """Say whether a submission file is valid, without its score."""
    click.echo(mle.validate(id, submission.read_bytes()))


@main.command()
@click.argument("id")
@click.argument("submission", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def grade(mle: Mle, id: str, submission: Path) -> None:
    """Print the report on a submission file as JSON."""
    click.echo(json.dumps(mle.grade(id, submission.read_bytes()).to_json(), indent=2))


@main.command("checksums")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def write_checksums(folder: Path) -> None:
    """Prepare a competition that needs no raw data and write its `checksums.yaml`."""
    import yaml

    with tempfile.TemporaryDirectory() as data_dir:
        competition = load(folder.resolve(), Path(data_dir))
        ensure_prepared(competition, verify=False)
        found = checksums(competition.prepared)
    (folder / "checksums.yaml").write_text(yaml.safe_dump({part: found[part] for part in PARTS}), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except (CompetitionError, GraderFault) as error:
        raise SystemExit(f"error: {error}") from None
