"""Which node next: a function of the journal and of random, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from trellis.scaffolds.tree.journal import Journal, Node, Stage


@dataclass(frozen=True, slots=True)
class Move:
    """What to do next: write a new draft, or improve or debug `target`."""

    stage: Stage
    target: Node | None = None


@dataclass(frozen=True, slots=True)
class Greedy:
    """AIDE's rule (Jiang et al. 2025, arXiv:2502.13138; `Agent.search_policy` of its code).

    Draft until there are `num_drafts` roots; then, with probability `debug_prob`, debug a random buggy leaf that is at
    most `max_debug_depth` debug steps deep; else improve the best good node, or draft when there is none.
    """

    num_drafts: int = 5
    debug_prob: float = 0.5
    max_debug_depth: int = 3

    def choose(self, journal: Journal, random: Random, under_way: Sequence[Move] = ()) -> Move:
        """The next move. `under_way` are moves chosen and not committed yet: their drafts count, and what they debug
        is not debugged twice. The best node may be improved by several at a time, each in its own way."""
        drafts_under_way = sum(move.stage == "draft" for move in under_way)
        if len(journal.drafts) + drafts_under_way < self.num_drafts:
            return Move("draft")
        if random.random() < self.debug_prob and (candidates := self.debuggable(journal, under_way)):
            return Move("debug", random.choice(candidates))
        best = journal.best
        return Move("draft") if best is None else Move("improve", best)

    def debuggable(self, journal: Journal, under_way: Sequence[Move] = ()) -> list[Node]:
        taken = {move.target.id for move in under_way if move.target is not None}
        return [
            node
            for node in journal.buggy
            if journal.is_leaf(node) and journal.debug_depth(node) <= self.max_debug_depth and node.id not in taken
        ]


def choose_batch(policy: Greedy, journal: Journal, random: Random, size: int) -> list[Move]:
    """`size` moves to make at the same time, chosen one after the other."""
    moves: list[Move] = []
    for _ in range(size):
        moves.append(policy.choose(journal, random, moves))
    return moves
