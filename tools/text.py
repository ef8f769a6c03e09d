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

SEARCHED_LINES = 50_000
"""In a longer file, nothing is searched for that is not there."""

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
    """The lines `first` to `last`, counted from 1, as `cat -n` shows them. `offset` lines come before `text`, which
    need not hold more of them than are shown."""
    shown = [_shown(line) for line in lines(text)[first - 1 : last]]
    numbers = range(first + offset, last + offset + 1)
    return limited([f"{number:6}\t{line}" for number, line in zip(numbers, shown, strict=False)], numbers)


def around(text: str, start: int, end: int) -> str:
    """The lines of `text[start:end]`, numbered, with some before and after."""
    first, last = line_number(text, start), line_number(text, end)
    return numbered(text, max(1, first - CONTEXT_LINES), last + CONTEXT_LINES)


def limited(shown: Sequence[str], numbers: range | None = None) -> str:
    """As many lines from the beginning as fit, and a notice if that is not all of them; `numbers` are those of all
    lines to be shown, where they are a file's."""
    count = len(numbers or shown)
    room, kept = LIMIT_CHARS, 0
    for line in shown:
        room -= len(line) + 1
        if room < 0 and kept:
            break
        kept += 1
    out = "\n".join(shown[:kept]) if room >= 0 or kept > 1 else shown[0][:LIMIT_CHARS]
    if kept == count:
        return out
    advice = f"; continue with view_range [{numbers[kept]}, -1]" if numbers else ""
    return f"{out}\n[{count - kept:,} more lines{advice}]"


def nearest(text: str, old: str) -> str:
    """A sentence that shows the place in `text` most like `old`, or says that there is none."""
    wanted = [line.strip() for line in lines(old)]
    have = [line.strip() for line in lines(text)]
    size = len(wanted)
    if len(have) > SEARCHED_LINES:
        return (
            f"What resembles it was not searched for in {len(have):,} lines: find the place with a command (grep -n)."
        )
    for at in range(len(have) - size + 1):
        if have[at] == wanted[0] and have[at : at + size] == wanted:
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
    missing = Counter(word for line in wanted for word in line.split())  # less than none: more than wanted
    common, shared = 0, []
    for end, line in enumerate(have, 1):
        for word in line.split():
            common += missing[word] > 0
            missing[word] -= 1
        if end > size:
            for word in have[end - size - 1].split():
                missing[word] += 1
                common -= missing[word] > 0
        shared.append((common, end - size))
    places = [at for _, at in sorted(shared[size - 1 :] or [(0, 0)], key=lambda pair: (-pair[0], pair[1]))]
    goal = "\n".join(wanted)
    ratios = [
        (difflib.SequenceMatcher(None, "\n".join(have[at : at + size])[:4000], goal[:4000]).ratio(), at)
        for at in places[:_COMPARED_WINDOWS]
    ]
    ratio, at = max(ratios, key=lambda pair: (pair[0], -pair[1]))
    return at, ratio


def _shown(line: str) -> str:
    visible = plain(line.rstrip("\r\n"))
    return visible.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
