"""The text of a file for `edit`: exact lines, their numbers, and what comes nearest to a text that is not there."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

from trellis.tools.clip import LIMIT_CHARS, plain
from trellis.tools.encoding import undecodable

CONTEXT_LINES = 4
"""How many lines around a change are shown after it."""

FOREIGN = "\ufffd stands for bytes that are not UTF-8, which cannot be written here: leave them out of what is to match"

_COMPARED_WINDOWS = 20
"""How many places of a file are compared character by character in the search for the nearest text."""


def lines(text: str) -> list[str]:
    """With their ends; only a line feed ends a line, as in every tool that numbers lines."""
    found = text.split("\n")
    return [line + "\n" for line in found[:-1]] + ([found[-1]] if found[-1] else [])


def line_number(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def with_line_ends_of(text: str, new: str) -> str:
    """`new` with the line ends of `text`, where that has CR LF throughout."""
    ends = text.count("\n")
    if not ends or text.count("\r\n") != ends:
        return new
    return new.replace("\r\n", "\n").replace("\n", "\r\n")


def occurrences(text: str, old: str) -> list[int]:
    """Where `old` begins, overlaps included: replacing one of two that overlap would be a guess."""
    found = []
    at = text.find(old)
    while at >= 0:
        found.append(at)
        at = text.find(old, at + 1)
    return found


def numbered(text: str, first: int, last: int, *, offset: int = 0) -> str:
    """The lines `first` to `last`, counted from 1, as `cat -n` shows them. `offset` lines come before `text`."""
    shown = [_shown(line) for line in lines(text)[first - 1 : last]]
    return limited([f"{number:6}\t{line}" for number, line in enumerate(shown, first + offset)], first + offset)


def around(text: str, start: int, end: int) -> str:
    """The lines of `text[start:end]`, numbered, with some before and after."""
    first, last = line_number(text, start), line_number(text, end)
    return numbered(text, max(1, first - CONTEXT_LINES), last + CONTEXT_LINES)


def limited(shown: Sequence[str], first: int | None = None) -> str:
    """As many lines from the beginning as fit, and a notice if that is not all of them; `first` is the number of the
    first line where the lines are those of a file."""
    room, kept = LIMIT_CHARS, 0
    for line in shown:
        room -= len(line) + 1
        if room < 0 and kept:
            break
        kept += 1
    out = "\n".join(shown[:kept]) if room >= 0 or kept > 1 else shown[0][:LIMIT_CHARS]
    if kept == len(shown):
        return out
    advice = f"; continue with view_range [{first + kept}, -1]" if first else ""
    return f"{out}\n[{len(shown) - kept:,} more lines{advice}]"


def nearest(text: str, old: str) -> str:
    """A sentence that shows the place in `text` most like `old`, or says that there is none."""
    wanted = [line.strip() for line in lines(old)]
    have = [line.strip() for line in lines(text)]
    size = len(wanted)
    for at in range(len(have) - size + 1):
        if have[at : at + size] == wanted:
            return "Without regard to whitespace it is found here; copy the indentation exactly:\n" + numbered(
                text, at + 1, at + size
            )
    best, ratio = _most_alike(have, wanted)
    if ratio < 0.5:
        return "Nothing in the file resembles it: view the file first."
    shown = numbered(text, best + 1, best + size)
    hint = f" ({FOREIGN})" if undecodable("".join(lines(text)[best : best + size])) else ""
    return f"The nearest text{hint} is:\n{shown}"


def _most_alike(have: Sequence[str], wanted: Sequence[str]) -> tuple[int, float]:
    """The window most like `wanted`, and how alike it is.

    Words are counted everywhere, characters compared at few places.
    """
    size = len(wanted)
    words = [Counter(line.split()) for line in have]
    target = sum((Counter(line.split()) for line in wanted), Counter[str]())
    window = sum(words[:size], Counter[str]())
    shared = []
    for at in range(max(1, len(have) - size + 1)):
        shared.append((sum(min(count, window[word]) for word, count in target.items()), at))
        window.subtract(words[at] if at < len(words) else ())
        window.update(words[at + size] if at + size < len(words) else ())
    places = [at for _, at in sorted(shared, key=lambda pair: (-pair[0], pair[1]))[:_COMPARED_WINDOWS]]
    goal = "\n".join(wanted)
    ratios = [
        (difflib.SequenceMatcher(None, "\n".join(have[at : at + size])[:4000], goal[:4000]).ratio(), at)
        for at in places
    ]
    ratio, at = max(ratios, key=lambda pair: (pair[0], -pair[1]))
    return at, ratio


def _shown(line: str) -> str:
    visible = plain(line.rstrip("\r\n"))
    return visible.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
