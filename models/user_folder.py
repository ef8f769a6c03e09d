"""Where what outlives a run is kept for its user: replies, batches under way."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_folder(name: str) -> Path:
    """The folder `name` in TRELLIS_CACHE, else in the user's cache of Trellis. It need not exist."""
    if named := os.environ.get("TRELLIS_CACHE"):
        return Path(named).expanduser() / name
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "trellis" / name


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that others see whole or not at all, and only its user may read.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".draft-")  # one of its own for every process
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        draft.replace(path)
    except BaseException:
        draft.unlink()
        raise
