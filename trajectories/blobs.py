"""Bytes beside a log, kept once under the name of their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


class Blobs:
    """A folder of files named by the SHA-256 of what they hold."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[str] = set()

    def store(self, data: bytes) -> str:
        """Keep `data` (written once, whole or not at all) and return its name."""
        name = hashlib.sha256(data).hexdigest()
        if name not in self._known:
            path = self._folder / name
            if not path.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                draft = path.with_suffix(f".{os.getpid()}")
                draft.write_bytes(data)
                draft.replace(path)
            self._known.add(name)
        return name

    def load(self, name: str) -> bytes:
        """Raises FileNotFoundError if it was never stored, ValueError if its content no longer has this hash."""
        if not is_name(name):
            raise ValueError(f"not the name of a blob: {name!r}")
        data = (self._folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != name:
            raise ValueError(f"{self._folder / name} is damaged: its content does not have the hash in its name")
        return data


def is_name(text: str) -> bool:
    """Could this be the name of a blob?"""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
