"""What is on a page, as text: one line an element, in the order of the document, two blanks deeper for what is inside.

    textbox "User name" [e1] = "ada" (required, focused)
    button "Log in" [e3] (disabled) ↓

What stands in quotes are the page's own words, and nothing else is: a page cannot write a line of its own. `[e3]` is
the reference of an element, ↓ says that it lies below the screen.
"""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIMIT_CHARS = 12_000
"""About 3,000 tokens."""
NAME_CHARS = 200
TEXT_CHARS = 1_500
DIFF_LINES = 1_200
"""Longer pages are not compared, but shown again."""

_LEFT_OUT = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_KEPT = {"\u200c", "\u200d"}  # joiners, which some scripts cannot be written without


def clean(text: str) -> str:
    """Without characters that hide, reorder or fake something: controls, line separators, direction marks, tags."""
    return "".join(c for c in text if c in "\n\t" or c in _KEPT or unicodedata.category(c) not in _LEFT_OUT)


def quoted(text: str, limit: int = NAME_CHARS) -> str:
    """A page's own words: on one line, in double quotes, cut when long."""
    text = clean(text)
    more = f"… ({len(text) - limit:,} more characters)" if len(text) > limit else ""
    return json.dumps(text[:limit] + more, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Line:
    depth: int
    text: str
    off: bool
    """Is it off the screen?"""

    def __str__(self) -> str:
        return "  " * self.depth + self.text


def lines(nodes: Sequence[Mapping[str, Any]], depth: int = 0) -> Iterator[Line]:
    for node in nodes:
        off = node.get("off", "")
        if "text" in node:
            text = node["text"] if node.get("own") else quoted(node["text"], TEXT_CHARS)
            yield Line(depth, text, bool(off))
            continue
        parts = [clean(node["role"])[:30]]
        if node.get("name"):
            parts.append(quoted(node["name"]))
        if node.get("ref"):
            parts.append(f"[e{node['ref']}]")
        if "value" in node:
            parts.append(f"= {quoted(node['value'], TEXT_CHARS)}")
        if node.get("states"):
            parts.append(f"({', '.join(clean(state)[:60] for state in node['states'])})")
        if off and node.get("ref"):
            parts.append(off)
        children = node.get("children", ())
        if len(children) == 1 and "text" in children[0] and not children[0].get("own"):
            parts.append(f": {quoted(children[0]['text'], TEXT_CHARS)}")
            children = ()
        yield Line(depth, " ".join(parts).replace(" : ", ": "), bool(off))
        yield from lines(children, depth + 1)


def whole(page: Sequence[Line], left: int = 0, limit_chars: int = LIMIT_CHARS) -> str:
    """A page as text. Where it is too long, what is on the screen comes first, then what follows it.

    `left` counts elements that were not looked at.
    """
    sizes = [len(str(line)) + 1 for line in page]
    kept = set(range(len(page)))
    if sum(sizes) > limit_chars:
        kept = _fitting(page, sizes, limit_chars)
    out: list[str] = []
    skipped = 0
    for number, line in enumerate(page):
        if number in kept:
            out += _gap(skipped)
            skipped = 0
            out.append(str(line))
        else:
            skipped += 1
    out += _gap(skipped)
    if left:
        out.append(f"[{left:,} parts of the page, off the screen, were not looked at: scroll to see them]")
    return "\n".join(out) or "(the page is empty)"


def _gap(skipped: int) -> list[str]:
    if not skipped:
        return []
    return [f"[{skipped:,} lines left out here: scroll, or take a snapshot of one part by its ref]"]


def _fitting(page: Sequence[Line], sizes: Sequence[int], limit_chars: int) -> set[int]:
    kept: set[int] = set()
    room = limit_chars

    def keep(number: int) -> bool:
        nonlocal room
        wanted = {number, *_ancestors(page, number)} - kept
        cost = sum(sizes[i] for i in wanted)
        if cost > room:
            return False
        room -= cost
        kept.update(wanted)
        return True

    shown = [number for number, line in enumerate(page) if not line.off]
    for number in shown:
        if not keep(number):
            return kept
    last = shown[-1] if shown else -1
    for number in [*range(last + 1, len(page)), *range(last, -1, -1)]:
        if number not in kept and not keep(number):
            break
    return kept


def _ancestors(page: Sequence[Line], number: int) -> Iterator[int]:
    depth = page[number].depth
    while depth > 0 and number > 0:
        number -= 1
        if page[number].depth < depth:
            depth = page[number].depth
            yield number


def changes(before: Sequence[Line], now: Sequence[Line]) -> str | None:
    """What differs, as lines that begin with - (before) or + (now); None where showing the whole page says it better.
    Empty if nothing differs."""
    if max(len(before), len(now)) > DIFF_LINES:
        return None
    old, new = [str(line) for line in before], [str(line) for line in now]
    if old == new:
        return ""
    out: list[str] = []
    shown = -1
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for what, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if what == "equal":
            continue
        # Where it is: the line around it.
        around = next(_ancestors(now, new_from), None) if new_from < len(now) else None
        if around is not None and around != shown:
            out.append(f"  {new[around]}")
            shown = around
        out += [f"- {line}" for line in old[old_from:old_to]]
        out += [f"+ {line}" for line in new[new_from:new_to]]
    text = "\n".join(out)
    return text if len(text) < 0.6 * sum(len(line) + 1 for line in new) and len(text) < LIMIT_CHARS else None
