"""From a competition's raw data to what agents get and what graders keep, once per machine.

The data appear at their place in one rename, so a prepared folder is always whole: two processes may prepare at once
(the second finds the first's folder and drops its own), and a killed one leaves nothing that passes for data.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trellis.benchmarks.mle.competition import Competition, CompetitionError, missing_package, read_yaml

HASHED_SUFFIXES = {".csv", ".json", ".jsonl", ".parquet", ".bson"}
PARTS = ("public", "private")


def ensure_prepared(competition: Competition, *, verify: bool = True) -> None:
    """Prepare the data unless they are there, and compare them with `checksums.yaml`.

    Raises:
        CompetitionError: raw data, a package or a right to write are missing, or a checksum differs.
    """
    if not is_prepared(competition):
        try:
            _prepare(competition, verify)
        except ModuleNotFoundError as error:
            raise missing_package(error, f"the preparer of {competition.id}") from None
        except OSError as error:
            raise CompetitionError(
                f"cannot write {error.filename or competition.prepared} ({error.strerror}): "
                "set TRELLIS_CACHE to a writable folder"
            ) from None
    elif verify:
        verify_checksums(competition, competition.prepared)


def is_prepared(competition: Competition) -> bool:
    """Are there public files, private files, the answers and the sample submission?"""
    folders = (competition.public, competition.private)
    return (
        all(folder.is_dir() and any(folder.iterdir()) for folder in folders)
        and competition.answers.is_file()
        and competition.sample_submission.is_file()
    )


def checksums(prepared: Path) -> dict[str, dict[str, str]]:
    """MD5 of the tables directly inside `public` and `private`."""
    return {
        part: {
            path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            for path in sorted((prepared / part).iterdir())
            if path.is_file() and path.suffix in HASHED_SUFFIXES
        }
        for part in PARTS
    }


def verify_checksums(competition: Competition, prepared: Path) -> None:
    """Raises CompetitionError: a file differs from `checksums.yaml`, is missing there or here."""
    path = competition.folder / "checksums.yaml"
    expected = read_yaml(path)
    found = checksums(prepared)
    for part in PARTS:
        listed: Mapping[str, str] = expected.get(part) or {}
        differing = sorted(
            name for name in listed.keys() | found[part].keys() if listed.get(name) != found[part].get(name)
        )
        if differing:
            raise CompetitionError(
                f"competition {competition.id}: {part}/{differing[0]} in {competition.prepared} does not have the "
                f"checksum of {path}; delete the folder to prepare it again"
            )


def _prepare(competition: Competition, verify: bool) -> None:
    home = competition.prepared.parent
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=home) as scratch:
        prepared = Path(scratch) / "prepared"
        public, private = (prepared / part for part in PARTS)
        public.mkdir(parents=True)
        private.mkdir(mode=0o700)
        try:
            competition.prepare(competition.raw, public, private)
        except FileNotFoundError as error:
            raise CompetitionError(
                f"competition {competition.id}: {error.filename} is missing; put the competition's raw data into "
                f"{competition.raw}"
            ) from None
        description = public / "description.md"
        if not description.exists():
            description.write_text(competition.description, encoding="utf-8")
        if verify:
            verify_checksums(competition, prepared)
        _publish(prepared, competition)


def _publish(prepared: Path, competition: Competition) -> None:
    try:
        os.rename(prepared, competition.prepared)  # noqa: PTH104 - Path.rename reads as if it could overwrite
    except OSError as error:
        if is_prepared(competition):
            return  # another process was faster
        raise CompetitionError(
            f"{competition.prepared} is there but not complete ({error.strerror}); delete it to prepare it again"
        ) from None
