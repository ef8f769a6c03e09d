"""Which steps of two trajectories belong together: by what they did, in order, across scaffolds too.

A step is boiled down to a `Mark`. Steps that did the same are found as the longest common subsequence; between those,
steps that at least used the same tool are paired. Long trajectories do not explode: rows of the table are integers
of as many bits as there are steps, so that 10,000 steps beside 10,000 take tenths of a second and a few megabytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trellis.models.messages import ToolCall
from trellis.models.model import Usage
from trellis.trajectories.trajectory import Act, Step

TABLE_BITS = 1 << 30
"""The largest table (128 MB); steps of longer trajectories are only paired at the beginning and the end."""
FAMILIES = {
    "shell": ("bash", "execute_bash", "exec", "execute", "terminal", "run_command", "command", "cmd", "sh"),
    "edit": ("str_replace_editor", "str_replace_based_edit_tool", "text_editor", "editor", "edit_file"),
    "python": ("ipython", "execute_ipython_cell", "jupyter", "run_python", "code"),
    "submit": ("finish", "done", "final_answer"),
}
"""What one scaffold's tool is called in another."""
_FAMILY = {name: family for family, names in FAMILIES.items() for name in names}

Row = Literal["same", "changed", "only_a", "only_b"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a step did, as far as it has to be compared; hashes stand for texts."""

    number: int
    branch: str
    turn: int
    did: Hashable
    """Equal where the same was done: the calls, or the reply's text where it makes none."""
    tool: Hashable
    """Equal where at least the same tool was used first."""
    said: str
    came: str
    """Of all results."""
    title: str
    """In a few words."""
    files: tuple[str, ...]
    """That it changed."""
    begun_at: float
    ended_at: float
    usage: Usage
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A line of an alignment."""

    row: Row
    a: Mark | None
    b: Mark | None

    @property
    def differs(self) -> Literal["", "reply", "call", "result", "step"]:
        """In what, first."""
        a, b = self.a, self.b
        if a is None or b is None:
            return "step"
        if a.said != b.said:
            return "reply"
        if a.did != b.did:
            return "call"
        return "result" if a.came != b.came else ""


def mark_of(step: Step) -> Mark:
    calls = [act.call for act in step.acts] or list(step.reply.tool_calls if step.reply else ())
    said = step.reply.text.strip() if step.reply else f"({step.overflow or 'cut off'})"
    tools = tuple(_family(call.name) for call in calls)
    did = tuple((tool, _arguments(call)) for tool, call in zip(tools, calls, strict=True)) or _hash(said)
    ends = [step.ended_at, *(act.ended_at for act in step.acts)]
    return Mark(
        number=step.number,
        branch=step.branch,
        turn=step.turn,
        did=(step.kind, did),
        tool=(step.kind, tools[:1]),
        said=_hash(said),
        came=_hash("\0".join(map(_came, step.acts))),
        title=_title(calls) or said[:_TITLE_CHARS],
        files=tuple(dict.fromkeys(str(change["path"]) for act in step.acts for change in act.changes)),
        begun_at=step.begun_at,
        ended_at=max((end for end in ends if end is not None), default=step.begun_at),
        usage=step.reply.usage if step.reply else Usage(),
        cost_usd=step.reply.cost_usd if step.reply else 0.0,
    )


def align(a: Sequence[Mark], b: Sequence[Mark]) -> list[Pair]:
    """Every step of both, once and in order."""
    pairs: list[Pair] = []
    done_a = done_b = 0
    for i, j in [*common([mark.did for mark in a], [mark.did for mark in b]), (len(a), len(b))]:
        pairs += _between(a[done_a:i], b[done_b:j])
        if i < len(a):
            pairs.append(Pair("same", a[i], b[j]))
        done_a, done_b = i + 1, j + 1
    return pairs


def common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The indices of a longest common subsequence."""
    shorter = min(len(a), len(b))
    head = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    tail = next((i for i in range(shorter - head) if a[-1 - i] != b[-1 - i]), shorter - head)
    middle = _longest(a[head : len(a) - tail], b[head : len(b) - tail])
    ends = ((len(a) - i, len(b) - i) for i in range(tail, 0, -1))
    return [*((i, i) for i in range(head)), *((head + i, head + j) for i, j in middle), *ends]


def _longest(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """By rows of bits: bit j of row i is 0 where element j of `b` makes the subsequence longer, given the first i of
    `a` (Hyyrö 2004)."""
    if not a or not b or len(a) * len(b) > TABLE_BITS:
        return []
    places: defaultdict[Hashable, int] = defaultdict(int)
    for j, element in enumerate(b):
        places[element] |= 1 << j
    whole = (1 << len(b)) - 1
    rows = [whole]
    for element in a:
        row = rows[-1]
        matched = row & places.get(element, 0)
        rows.append(((row + matched) | (row - matched)) & whole)

    def length(i: int, j: int) -> int:
        return j - (rows[i] & ((1 << j) - 1)).bit_count()

    found: list[tuple[int, int]] = []
    i, j = len(a), len(b)
    left = length(i, j)
    while left:
        if length(i - 1, j) == left:
            i -= 1
        elif rows[i] >> (j - 1) & 1:
            j -= 1
        else:
            i, j, left = i - 1, j - 1, left - 1
            found.append((i, j))
    return found[::-1]


def _between(a: Sequence[Mark], b: Sequence[Mark]) -> list[Pair]:
    """Steps that did not do the same: those that used the same tool are taken for changed ones."""
    pairs: list[Pair] = []
    done_a = done_b = 0
    for i, j in [*common([mark.tool for mark in a], [mark.tool for mark in b]), (len(a), len(b))]:
        pairs += [Pair("only_a", mark, None) for mark in a[done_a:i]]
        pairs += [Pair("only_b", None, mark) for mark in b[done_b:j]]
        if i < len(a):
            pairs.append(Pair("changed", a[i], b[j]))
        done_a, done_b = i + 1, j + 1
    return pairs


# --- what a step did ---

_TITLE_CHARS = 200


def _family(name: str) -> str:
    return _FAMILY.get(name.lower(), name.lower())


def _arguments(call: ToolCall) -> str:
    """Of a call with one text, that text, whatever the argument is called; spaces at the ends of lines do not count."""
    if call.malformed:
        return _hash(call.malformed)
    values = list(call.arguments.values())
    if len(values) == 1 and isinstance(values[0], str):
        return _hash(_trimmed(values[0]))
    return _hash(json.dumps(_plain(dict(call.arguments)), sort_keys=True, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _trimmed(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def _came(act: Act) -> str:
    return "(cut off)" if act.result is None else f"{act.result.is_error} {_trimmed(act.result.text)}"


def _title(calls: Sequence[ToolCall]) -> str:
    named = (
        f"{call.name} {' '.join(str(value)[:_TITLE_CHARS] for value in call.arguments.values())}"[:_TITLE_CHARS]
        for call in calls[:3]
    )
    return "; ".join(named)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
