"""What tests of all rooms have in common."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def nobody_else_cleans() -> Iterator[None]:
    """`trellis clean` removes what any dead process left on this machine: a test that runs it, or that leaves something
    to be found, has the machine to itself for so long, also before the tests of other processes."""
    path = Path(tempfile.gettempdir(), f"trellis-tests-that-clean-{os.getuid()}.lock")
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
