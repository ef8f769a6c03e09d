"""The journal of a tree search: the candidate solutions tried so far.

A node stores what happened; where it stands in the tree (its stage, its debug depth, whether it is a leaf, which one is
best) is derived, so it can never disagree with the facts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from trellis.scaffolds.world import WorldSnapshot

Stage = Literal["draft", "improve", "debug"]


@dataclass(frozen=True, slots=True)
class Node:
    """One candidate solution and how it fared. Immutable once it stands in the journal."""

    id: int
    """Its position in the journal."""
    parent: int | None
    plan: str
    code: str
    is_buggy: bool
    metric: float | None = None
    """Its validation metric; None for a buggy node."""
    lower_is_better: bool | None = None
    """What the review said about the metric's direction."""
    analysis: str = ""
    term_out: str = ""
    exec_time_s: float = 0.0
    branch: str = ""
    """The branch of the episode in which it was made and run."""
    snapshot: WorldSnapshot | None = None
    """The world it left behind, where the search wants to build on it."""


class Journal(Sequence[Node]):
    """Nodes in the order in which they were committed.

    `lower_is_better` is the direction of the metric as the task states it. Where the task does not, the first good
    node's review decides, for the whole search: a later review that contradicts it changes nothing.
    """

    def __init__(self, nodes: Sequence[Node] = (), *, lower_is_better: bool | None = None) -> None:
        self._nodes: list[Node] = []
        self._lower_is_better = lower_is_better
        for node in nodes:
            self.commit(node)

    def commit(self, node: Node) -> None:
        """Append a node.

        Raises:
            ValueError: its id is not the next one, or its parent is not in the journal.
        """
        if node.id != len(self._nodes):
            raise ValueError(f"node {node.id} cannot be committed as number {len(self._nodes)}")
        if node.parent is not None and not 0 <= node.parent < node.id:
            raise ValueError(f"node {node.id} has an unknown parent {node.parent}")
        self._nodes.append(node)

    def __len__(self) -> int:
        return len(self._nodes)

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> list[Node]: ...
    def __getitem__(self, index: int | slice) -> Node | list[Node]:
        return self._nodes[index]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    # --- of one node ---

    def parent(self, node: Node) -> Node | None:
        return None if node.parent is None else self._nodes[node.parent]

    def is_leaf(self, node: Node) -> bool:
        return all(other.parent != node.id for other in self._nodes)

    def stage(self, node: Node) -> Stage:
        parent = self.parent(node)
        if parent is None:
            return "draft"
        return "debug" if parent.is_buggy else "improve"

    def debug_depth(self, node: Node) -> int:
        """How many debug steps in a row led to this node."""
        parent = self.parent(node)
        return self.debug_depth(parent) + 1 if parent is not None and parent.is_buggy else 0

    # --- of all nodes ---

    @property
    def lower_is_better(self) -> bool:
        if self._lower_is_better is not None:
            return self._lower_is_better
        stated = (node.lower_is_better for node in self.good if node.lower_is_better is not None)
        return next(stated, False)

    @property
    def drafts(self) -> list[Node]:
        return [node for node in self._nodes if node.parent is None]

    @property
    def buggy(self) -> list[Node]:
        return [node for node in self._nodes if node.is_buggy]

    @property
    def good(self) -> list[Node]:
        return [node for node in self._nodes if not node.is_buggy]

    @property
    def best(self) -> Node | None:
        """The good node with the best metric; of equals, the earliest."""
        best: Node | None = None
        for node in self.good:
            if best is None or better(node.metric, best.metric, lower_is_better=self.lower_is_better):
                best = node
        return best


def better(a: float | None, b: float | None, *, lower_is_better: bool) -> bool:
    """Is metric `a` strictly better than `b`? No metric (None, or not finite) is worse than any."""
    if a is None or not math.isfinite(a):
        return False
    if b is None or not math.isfinite(b):
        return True
    return a < b if lower_is_better else a > b
