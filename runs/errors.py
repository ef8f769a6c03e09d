"""What a user did wrong, in one line."""

from __future__ import annotations

from collections.abc import Iterable


class UsageError(Exception):
    """A wrong name, option, file or folder. Its one line says what is wrong, where, and what would be right."""


class RunStopped(Exception):
    """The run cannot go on, and nothing is lost: a wrong key, a spent cost cap. One line says why."""


def known(word: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: near matches first, then everything there is."""
    import difflib

    there = sorted(names)
    near = difflib.get_close_matches(word, there, n=2, cutoff=0.7)
    guess = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{guess} (known: {', '.join(there) or 'none'})"
