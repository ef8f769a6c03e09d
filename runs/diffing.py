"""What is different between trajectories: steps side by side, where they part, and what each step took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from trellis.runs.overview import Overview, overview
from trellis.runs.results import total_usd
from trellis.runs.step_text import call_text, part_text
from trellis.trajectories import normalise
from trellis.trajectories.aligning import Mark, Pair, align, mark_of
from trellis.trajectories.files import text_diff
from trellis.trajectories.trajectory import Act, Step, Trajectory

NODE = "node"
"""The note in which a tree search tells of a node and its branch."""
_FOLDED = 3
"""More rows of the same in a row are told as one."""


@dataclass(frozen=True)
class Side:
    """One of the trajectories."""

    label: str
    """A, B, C, ..."""
    trajectory: Trajectory
    about: Overview
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Line:
    """Steps side by side: of two branches, or of everything where no branches belong together."""

    a: str | None
    b: str | None
    """Names of the branches; None where the other trajectory has no such branch, "" for everything."""
    pairs: tuple[Pair, ...]

    @property
    def name(self) -> str:
        if self.a == self.b:
            return self.a or ""
        return f"{self.a or '(none)'} | {self.b or '(none)'}"


@dataclass(frozen=True)
class Divergence:
    """Where two trajectories part for the first time."""

    pair: Pair
    what: str
    """`reply`, `call`, `result`, or `step`: one of them makes a step that the other does not."""
    diff: str
    """The hunks of a unified diff from A to B."""


@dataclass(frozen=True)
class Comparison:
    a: Side
    b: Side
    lines: tuple[Line, ...]
    first: Divergence | None
    """None: no step differs."""

    @property
    def counts(self) -> Counter[str]:
        """`same`, `reply` and `result` (the same was done, and something else said, or come), `changed`, `only_a`,
        `only_b`."""
        return Counter(row_of(pair) for line in self.lines for pair in line.pairs)


@dataclass(frozen=True)
class Bar:
    """What some steps in a row took, for a chart; `start`, `length` and `share` are parts of the whole scale."""

    first: int
    last: int
    start: float
    length: float
    share: float
    seconds: float
    tokens: int
    cost_usd: float | None


def side(label: str, trajectory: Trajectory) -> Side:
    """Raises LogError: the trajectory is damaged."""
    marks = tuple(map(mark_of, trajectory.steps()))
    return Side(label, trajectory, overview(trajectory, ((mark.usage, mark.cost_usd) for mark in marks)), marks)


def compare(a: Side, b: Side) -> Comparison:
    lines = tuple(_lines(a, b))
    return Comparison(a, b, lines, _first(a, b, lines))


def folded(line: Line) -> Iterator[Sequence[Pair]]:
    """Rows one by one, and many in a row in which nothing differs together."""
    for same, group in groupby(line.pairs, key=lambda pair: not pair.differs):
        pairs = list(group)
        if same and len(pairs) > _FOLDED:
            yield pairs
        else:
            yield from ([pair] for pair in pairs)


def row_of(pair: Pair) -> str:
    return pair.differs or "same" if pair.row == "same" else pair.row


def same_task(sides: Sequence[Side]) -> bool:
    return len({(each.about.benchmark, each.about.task) for each in sides}) == 1


def priced(sides: Sequence[Side]) -> bool:
    """Did anything cost anything, as far as is known? Else charts show tokens."""
    return any(mark.cost_usd for each in sides for mark in each.marks)


def waterfalls(sides: Sequence[Side], rows: int) -> list[list[Bar]]:
    """For each trajectory at most so many bars, all on one scale."""
    by_cost = priced(sides)
    binned = [_bins(each.marks, rows) for each in sides]
    longest = max((mark.ended_at for each in sides for mark in each.marks), default=0.0) or 1.0
    most = max((_amount(bin_, by_cost) for bins in binned for bin_ in bins), default=0.0) or 1.0
    return [[_bar(bin_, longest, most, by_cost) for bin_ in bins] for bins in binned]


def to_json(sides: Sequence[Side], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    return {
        "same_task": same_task(sides),
        "trajectories": [{"label": each.label, **each.about.to_json()} for each in sides],
        "steps": {each.label: [_mark_to_json(mark) for mark in each.marks] for each in sides},
        "comparisons": [
            {
                "a": each.a.label,
                "b": each.b.label,
                "counts": dict(each.counts),
                "first_divergence": each.first
                and {**_pair_to_json(each.first.pair), "what": each.first.what, "diff": each.first.diff},
                "branches": [
                    {"a": line.a, "b": line.b, "rows": [_pair_to_json(pair) for pair in line.pairs]}
                    for line in each.lines
                ],
            }
            for each in comparisons
        ],
    }


# --- which branches belong together ---


def _lines(a: Side, b: Side) -> Iterator[Line]:
    marks_a, marks_b = _by_branch(a), _by_branch(b)
    partner = _partners(a, b, marks_a, marks_b)
    if min(len(marks_a), len(marks_b)) < 2 or not partner:  # of other scaffolds, say: all their steps in order
        yield Line("", "", _aligned(a, b, a.marks, b.marks))
        return
    taken = set(partner.values())
    for name, marks in marks_a.items():
        other = partner.get(name)
        yield Line(name, other, _aligned(a, b, marks, marks_b[other] if other is not None else []))
    for name, marks in marks_b.items():
        if name not in taken:
            yield Line(None, name, _aligned(a, b, [], marks))


def _aligned(a: Side, b: Side, marks_a: Sequence[Mark], marks_b: Sequence[Mark]) -> tuple[Pair, ...]:
    """What `normalise` forgives is no difference."""
    pairs = align(marks_a, marks_b)
    for index, pair in enumerate(pairs):
        if pair.differs == "result" and pair.a and pair.b:
            acts_a, acts_b = (side.trajectory.step(mark.number).acts for side, mark in ((a, pair.a), (b, pair.b)))
            if len(acts_a) == len(acts_b) and all(map(_came_to_the_same, acts_a, acts_b)):
                pairs[index] = replace(pair, b=replace(pair.b, came=pair.a.came))
    return tuple(pairs)


def _came_to_the_same(a: Act, b: Act) -> bool:
    if a.result is None or b.result is None:
        return a.result is b.result
    same = normalise.compare(a.result.text, b.result.text, call_text(a.call)).equal
    return same and a.result.is_error == b.result.is_error


def _by_branch(each: Side) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for mark in each.marks:
        found.setdefault(mark.branch, []).append(mark)
    return found


def _partners(a: Side, b: Side, marks_a: dict[str, Any], marks_b: dict[str, Any]) -> dict[str, str]:
    """Branches of the same node of a tree search, and for the rest, of the same name."""
    nodes_a, nodes_b = _nodes(a), _nodes(b)
    pairs = {nodes_a[node]: nodes_b[node] for node in nodes_a if node in nodes_b}
    partner = {one: other for one, other in pairs.items() if one in marks_a and other in marks_b}
    taken = set(partner.values())
    partner |= {name: name for name in marks_a if name in marks_b and name not in partner and name not in taken}
    return partner


def _nodes(each: Side) -> dict[str, str]:
    """The number of a node -> its branch."""
    notes = each.trajectory.notes(NODE)
    return {str(note.data.get("id")): str(note.data.get("branch", note.branch)) for note in notes}


# --- the first divergence ---


def _first(a: Side, b: Side, lines: Sequence[Line]) -> Divergence | None:
    """Of several branches, where A had got least far."""
    candidates: list[tuple[int, Pair]] = []
    for line in lines:
        at = 0
        for pair in line.pairs:
            at = pair.a.number if pair.a else at
            if pair.differs:
                candidates.append((at, pair))
                break
    if not candidates:
        return None
    _, pair = min(candidates, key=lambda each: each[0])
    return Divergence(pair, pair.differs, difference(a, b, pair))


def difference(a: Side, b: Side, pair: Pair) -> str:
    """In what two steps differ first, as hunks of a unified diff; empty where there is one step alone."""
    if pair.a is None or pair.b is None or not pair.differs:
        return ""
    texts = (_text(side.trajectory.step(mark.number), pair.differs) for side, mark in ((a, pair.a), (b, pair.b)))
    return text_diff(*texts)


def _text(step: Step, what: str) -> str:
    """What is compared, as text."""
    if what == "reply":
        said = step.reply.text if step.reply else step.overflow or "(cut off)"
        return said.strip() + "\n"
    if what == "call":
        calls = [act.call for act in step.acts] or (step.reply.tool_calls if step.reply else [])
        return "\n".join(map(call_text, calls)) + "\n"
    return "\n".join(part_text(act.result) if act.result else "(cut off)" for act in step.acts) + "\n"


# --- charts and JSON ---


def _bins(marks: Sequence[Mark], rows: int) -> list[Sequence[Mark]]:
    size = max(1, -(-len(marks) // rows))
    return [marks[start : start + size] for start in range(0, len(marks), size)]


def _amount(marks: Sequence[Mark], by_cost: bool) -> float:
    return sum((mark.cost_usd or 0.0) if by_cost else mark.usage.total for mark in marks)


def _bar(marks: Sequence[Mark], longest: float, most: float, by_cost: bool) -> Bar:
    start, end = min(mark.begun_at for mark in marks), max(mark.ended_at for mark in marks)
    return Bar(
        first=marks[0].number,
        last=marks[-1].number,
        start=start / longest,
        length=(end - start) / longest,
        share=_amount(marks, by_cost) / most,
        seconds=end - start,
        tokens=sum(mark.usage.total for mark in marks),
        cost_usd=total_usd(mark.cost_usd for mark in marks),
    )


def _mark_to_json(mark: Mark) -> dict[str, Any]:
    return {
        "step": mark.number,
        "branch": mark.branch,
        "turn": mark.turn,
        "did": mark.title,
        "changed_files": list(mark.files),
        "begun_at": mark.begun_at,
        "ended_at": mark.ended_at,
        "tokens": mark.usage.total,
        "cost_usd": mark.cost_usd,
    }


def _pair_to_json(pair: Pair) -> dict[str, Any]:
    return {"row": row_of(pair), "a": pair.a and pair.a.number, "b": pair.b and pair.b.number, "differs": pair.differs}
