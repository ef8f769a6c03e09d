"""Which of several proposals to a bug report reads best: a heuristic of counts, no understanding.

What counts: how much the proposal says of the cause (those who have understood a bug can explain it), the share of the
issue's rare words that it takes up, whether it names places in the code, tests and other cases; minus words by which
proposals give away that they work around the problem. Ties go to the smallest id.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from trellis.models.offline.repair_prompt import Choice
from trellis.models.offline.repair_source import words_of

_CAUSE = re.compile(r"\b(?:root cause|because|caused by|the reason|happens when|due to)\b", re.IGNORECASE)
_CAUSE_WORDS = 40
"""An explanation of so many words counts in full."""

_WORKAROUNDS = (
    "workaround", "work around", "for now", "quick(?:ly)?", "hack", "hide", "ignore", "disable", "forbid", "reload",
    "retry", "try/except", "catch (?:all|every|any)", "rewrite", "redesign", "delay", "time ?out", "sleep",
    "remove the (?:check|feature|button)", "(?:front-?end|client[- ]side) only", "no change of the server",
)  # fmt: skip

_SIGNS: Mapping[str, tuple[float, str]] = {
    "names places in the code": (0.2, r"`[^`\n]{3,}`|\b\w+\.py\b|\b\w+\(\)"),
    "thinks of tests": (0.2, r"\b(?:tests?|regression|covered by|reproduc\w+)\b"),
    "thinks of other cases": (0.1, r"\b(?:edge cases?|every(?:where)?|all (?:places|callers|other)|consistent\w*)\b"),
    "works around it": (-0.4, rf"\b(?:{'|'.join(_WORKAROUNDS)})\b"),
}


def choose(choice: Choice) -> tuple[int, str]:
    """The id of the best proposal, and what speaks for it."""
    bags = {number: words_of(text) for number, text in choice.proposals.items()}
    having = Counter(word for bag in bags.values() for word in bag)
    weights = {word: math.log(1 + len(bags) / having[word]) for word in words_of(choice.issue) if word in having}
    scores: dict[int, tuple[float, str]] = {}
    for number, text in sorted(choice.proposals.items()):
        overlap = sum(weights.get(word, 0.0) for word in bags[number]) / max(1e-9, sum(weights.values()))
        explained = min(1.0, _words_on_the_cause(text) / _CAUSE_WORDS)
        signs = [name for name, (_, pattern) in _SIGNS.items() if re.search(pattern, text, re.IGNORECASE)]
        reasons = [f"explains the cause ({explained:.0%})", f"takes up {overlap:.0%} of the issue's words", *signs]
        scores[number] = (explained + overlap + sum(_SIGNS[name][0] for name in signs), ", ".join(reasons))
    best = max(scores, key=lambda number: (scores[number][0], -number))
    return best, scores[best][1]


def _words_on_the_cause(text: str) -> int:
    paragraphs = (paragraph for paragraph in re.split(r"\n\s*\n", text) if _CAUSE.search(paragraph))
    return max((len(paragraph.split()) for paragraph in paragraphs), default=0)
