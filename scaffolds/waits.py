"""Time in which somebody waited: each moment counts once, however many waited in it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Waits:
    """Spans that do not touch, in order. Adding the same ones in another order comes to the same."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._starts: list[float] = []
        self._ends: list[float] = []

    def add(self, start: float, end: float) -> None:
        """Somebody waited from `start` to `end`."""
        if end <= start:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        known = sum(self._ends[i] - self._starts[i] for i in range(first, last))
        self._starts[first:last], self._ends[first:last] = [start], [end]
        self.total_s += end - start - known

    def since(self, moment: float) -> float:
        """How much of it lies after `moment`."""
        first = bisect_right(self._ends, moment)
        return sum(self._ends[i] - max(moment, self._starts[i]) for i in range(first, len(self._ends)))
