"""Kill an episode wherever it can be killed, resume it, and compare with one that nobody killed.

    python -m tests.kill.table [--kinds sandbox,docker,local] [--rows react,tree] [--random N] [--every N] [--jobs N]
                               [--keep FILE] [--minutes M]

Prints the table of docs/durability.md: points tried, points recovered, effects repeated. Every point is a real SIGKILL
of a whole process that runs `trellis run`, and then a `trellis resume`, of which some are killed as well. With `--keep`
what was tried stays in a file, one line a point; it is not tried again, and the table tells of all that the file holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from trellis.environments import store

from .trials import ROWS, Kill, Program, Tried, attempt, outcome, uninterrupted

SIDES = ("before", "torn", "after")
MOST_KILLS = 4


def points(boundaries: int, took_s: float, *, every: int = 1, instants: int = 0, seed: int = 0) -> list[list[Kill]]:
    """Every boundary from all three sides (or one in so many of these), in any order, and random instants; a third of
    those who go on is killed as well."""
    chance = random.Random(seed)
    at = [Kill(number, side) for number in range(1, boundaries + 1) for side in SIDES]
    chance.shuffle(at)
    chosen = at[::every] + [Kill(after_s=chance.uniform(0.02, took_s * 1.05)) for _ in range(instants)]
    return [[first, *_more(first, boundaries, chance)] for first in chosen]


def _more(first: Kill, boundaries: int, chance: random.Random) -> Iterator[Kill]:
    left = boundaries - first.at + 1
    for _ in range(MOST_KILLS - 1):
        if chance.random() > 1 / 3:
            return
        yield Kill(chance.randint(1, max(3, left)), chance.choice(SIDES))


@dataclass(frozen=True)
class Point:
    """One line of what is kept."""

    row: str
    kind: str
    kills: list[dict[str, Any]]
    tried: Tried


class Kept:
    """What was tried, in a file where there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.points: list[Point] = []
        if path and path.exists():
            for line in map(json.loads, path.read_text().splitlines()):
                self.points.append(Point(**{**line, "tried": Tried(**line["tried"])}))

    def add(self, point: Point) -> None:
        self.points.append(point)
        if self._path:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(point)) + "\n")

    def of(self, row: str, kind: str) -> list[Point]:
        return [point for point in self.points if (point.row, point.kind) == (row, kind)]

    def left(self, row: str, kind: str, todo: Iterable[list[Kill]]) -> list[list[Kill]]:
        """What of `todo` was not tried yet: each boundary once, and so many instants."""
        firsts = [point.kills[0] for point in self.of(row, kind)]
        instants = sum("after_s" in first for first in firsts)
        new = [kills for kills in todo if kills[0].at and kills[0].to_json() not in firsts]
        return new + [kills for kills in todo if not kills[0].at][instants:]

    def table(self) -> Iterator[str]:
        yield "| scaffold | world | boundaries | instants | kills | recovered | in flight, asked again | repeated |"
        yield "|---|---|---:|---:|---:|---:|---:|---:|"
        there = dict.fromkeys((point.row, point.kind) for point in self.points)
        for row, kind in there:
            yield self._line(row, kind, self.of(row, kind))
        yield self._line("**all**", "", self.points)

    @staticmethod
    def _line(row: str, kind: str, points: Sequence[Point]) -> str:
        tried = [point.tried for point in points]
        at = sum("at" in point.kills[0] for point in points)
        recovered = sum(not each.differs for each in tried)
        counts = (at, len(points) - at, sum(each.killed for each in tried), f"{recovered} of {len(points)}",
                  sum(each.asked_again for each in tried), sum(each.repeated for each in tried))  # fmt: skip
        return f"| {row} | {kind} | {' | '.join(map(str, counts))} |"


def measure(
    name: str, kind: str, programs: Queue[Program], options: argparse.Namespace, kept: Kept, until: float
) -> None:
    row = ROWS[name]
    program = programs.get()
    with tempfile.TemporaryDirectory(prefix="trellis-kill-") as folder:
        trial = uninterrupted(program, row, kind, Path(folder))
        assert trial.run is not None
        wanted = outcome(trial.run)
    programs.put(program)

    def one(kills: Sequence[Kill]) -> Tried | None:
        program = programs.get()
        try:
            return attempt(program, row, kind, kills, wanted) if time.monotonic() < until else None
        finally:
            programs.put(program)

    everything = points(trial.boundaries, trial.took_s, every=options.every, instants=options.random)
    todo = kept.left(name, kind, everything)
    with ThreadPoolExecutor(options.jobs) as threads:
        for number, (kills, tried) in enumerate(zip(todo, threads.map(one, todo), strict=True), 1):
            print(f"\r{name}, {kind}: {number} of {len(todo)} ", end="", file=sys.stderr, flush=True)
            if tried is None or (tried.good and not tried.killed):
                continue  # no time for it, or it had ended before
            kept.add(Point(name, kind, [kill.to_json() for kill in kills], tried))
            if not tried.good:
                where = " and ".join(map(str, kills))
                print(f"\n  killed {where}: {tried.repeated} repeated; {tried.differs}", file=sys.stderr)
    print(file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="sandbox,docker,local")
    parser.add_argument("--rows", default="", help="beginnings of names")
    parser.add_argument("--random", type=int, default=10, help="random instants per row")
    parser.add_argument("--every", type=int, default=1, help="one boundary point in so many")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where to keep what was tried, and to go on from")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then no other point is begun")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    worlds = Path(tempfile.mkdtemp(prefix="trellis-kill-", dir="/var/tmp"))
    os.environ["TRELLIS_WORLDS"] = str(worlds)
    programs: Queue[Program] = Queue()
    made = [Program(worlds) for _ in range(options.jobs)]
    for program in made:
        programs.put(program)
    kept = Kept(options.keep)
    rows = [name for name in ROWS if name.startswith(tuple(options.rows.split(",")))]
    wanted = [(name, kind) for kind in options.kinds.split(",") for name in rows]
    try:
        for name, kind in wanted:
            if time.monotonic() < until:
                measure(name, kind, programs, options, kept, until)
    finally:
        for program in made:
            program.close()
        store.remove_tree(worlds)
    print("\n".join(kept.table()))
    missing = [each for each in wanted if not kept.of(*each)]
    for name, kind in missing:
        print(f"nothing was killed: {name}, {kind}", file=sys.stderr)
    return 0 if not missing and all(point.tried.good for point in kept.points) else 1


if __name__ == "__main__":
    sys.exit(main())
