"""What tests of trajectories share."""

import resource
import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def limited_files() -> Iterator[None]:
    """Within it no file takes more than 64 KB: what a full disk is to a log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
