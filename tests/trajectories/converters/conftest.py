"""Imports one sample, or what a test makes of it."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from trellis.runs.folder import safe_name
from trellis.trajectories.converters.converter import Imported
from trellis.trajectories.converters.importing import Import
from trellis.trajectories.trajectory import Trajectory

SAMPLES = Path(__file__).parent / "samples"

Importing = Callable[..., list[Imported]]


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    """Imports a sample by its name, or a value as JSON, each episode into a folder of its own."""

    def run(what: Any, format: str | None = None) -> list[Imported]:
        if isinstance(what, Path):
            path = what
        elif isinstance(what, str):
            path = SAMPLES / what
        else:
            path = tmp_path / "value.json"
            path.write_text(json.dumps(what))
        target = tmp_path / f"to-{len(list(tmp_path.iterdir()))}"
        with Import(path, format) as opened:
            return opened.write(lambda identity: target / safe_name(f"{identity.task}-{identity.epoch}"))

    return run


@pytest.fixture
def sample() -> Callable[[str], Any]:
    return lambda name: json.loads((SAMPLES / name).read_text())


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Trajectory]]:
    """Trajectories that are closed after the test."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(Trajectory(path))


@pytest.fixture
def imported(importing: Importing, opened: Callable[[Path], Trajectory]) -> Callable[..., tuple[Imported, Trajectory]]:
    """The only episode of a file, opened."""

    def run(what: Any, format: str | None = None) -> tuple[Imported, Trajectory]:
        (made,) = importing(what, format)
        return made, opened(made.path)

    return run
