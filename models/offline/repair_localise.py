"""Where the bug may be: lines ranked by tests and by the words of the report, and edits ranked by both and their kind.

- Spectrum: Ochiai's coefficient over failing and passing tests (Abreu, Zoeteweij and van Gemund 2007,
  doi:10.1109/TAIC.PART.2007.13), raised for lines in a failing test's traceback.
- Report: functions and lines that share rare words with the bug report (as BugLocator does for files; Zhou, Zhang and
  Lo 2012, doi:10.1109/ICSE.2012.6227210; here BM25 over functions).
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from trellis.models.offline.repair_calls import CALLS
from trellis.models.offline.repair_kinds import belief
from trellis.models.offline.repair_operators import LOGIC
from trellis.models.offline.repair_place import Place
from trellis.models.offline.repair_project import Project
from trellis.models.offline.repair_source import Function, Mutation, Source, stem, visit, words_of
from trellis.models.offline.repair_statements import statement_mutations

_BM25_K, _BM25_B = 1.2, 0.75
_RARITY = 0.15
"""How much an edit gains from being one of few of its kind: a kind's likelihood is shared by all its edits, though not
evenly (0: every edit has the kind's likelihood, 1: they share it)."""
_TRACE_BONUS = 0.5
_UNCOVERED = 0.02
"""Weight of a line that no failing test executes, beside Ochiai's 0: module level code is traced by no test."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the bug."""

    report: str
    counts: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """How many failing and passing tests execute a line."""
    failing: int = 0
    frames: frozenset[tuple[str, int]] = frozenset()
    """Lines in the tracebacks of failing tests."""


@dataclass(frozen=True, slots=True)
class Candidate:
    mutation: Mutation
    score: float


def ochiai(failing: int, passing: int, all_failing: int) -> float:
    """How suspicious a line is: ef / sqrt((ef + nf) * (ef + ep))."""
    if failing == 0:
        return 0.0
    return failing / math.sqrt(all_failing * (failing + passing))


def rank(sources: Sequence[Source], evidence: Evidence, random: Random, spread: float = 0.0) -> list[Candidate]:
    """Every edit of the files, the most promising first. `spread` is the standard deviation of the noise on a score's
    logarithm: what lets one seed try first what another tries later."""
    asked = words_of(evidence.report)
    by_words = relevance(sources, evidence.report)
    weights = {source.path: _line_weights(source, evidence, by_words, asked) for source in sources}
    found: dict[str, Candidate] = {}
    every = mutations(tuple(sources), _numbers(evidence.report))
    rarity = {kind: count**-_RARITY for kind, count in Counter(m.kind for m in every).items()}
    for mutation in every:
        here = weights[mutation.path]
        share = len(mutation.words & asked) / max(3, len(mutation.words))
        score = (
            here[min(mutation.line, len(here) - 1)]
            * belief(mutation.kind, asked)
            * rarity[mutation.kind]
            * (1 + 2 * share)
        )
        if mutation.key not in found or found[mutation.key].score < score:
            found[mutation.key] = Candidate(mutation, score)
    ranked = [
        Candidate(c.mutation, c.score * math.exp(random.gauss(0, spread)) if spread else c.score)
        for c in sorted(found.values(), key=lambda c: (-c.score, c.mutation.key))
    ]
    return sorted(ranked, key=lambda c: (-c.score, c.mutation.key))


@lru_cache(maxsize=32)
def mutations(sources: tuple[Source, ...], numbers: frozenset[int]) -> tuple[Mutation, ...]:
    """Every edit of every file. Remembered, as it depends on the texts alone and is asked for at every step."""
    project = Project(sources)
    found: list[Mutation] = []
    for source in sources:
        around = {id(child): f for f in source.functions for child in ast.walk(f)}
        for node, parent in visit(source.tree):
            place = Place(node, parent, source, project, around.get(id(node)), numbers)
            found.extend(mutation for operator in (*LOGIC, *CALLS) for mutation in operator(place))
        found.extend(statement_mutations(source, project))
    return tuple(found)


def _numbers(report: str) -> frozenset[int]:
    return frozenset(int(n) for n in re.findall(r"(?<![\w.,:/-])\d{1,6}(?![\w:/-]|[.,]\d)", report))


# --- weights of lines ------------------------------------------------------------------------------------------------


def _line_weights(
    source: Source, evidence: Evidence, by_words: Mapping[Function | str, float], asked: frozenset[str]
) -> list[float]:
    """The weight of each line, index = line number."""
    weights = []
    for line in range(len(source.lines) + 1):
        function = source.function_at(line)
        words = by_words.get(function or source.path, 0.0)
        near = words_of(" ".join(source.lines[max(0, line - 2) : line + 1]))
        weight = 0.15 + words + 0.1 * min(4, len(near & asked))
        if evidence.failing:
            failing, passing = evidence.counts.get((source.path, line), (0, 0))
            # One edit has to help all failing tests: a line that only some of them execute is worth less.
            share = min(1.0, failing / evidence.failing)
            weight *= ochiai(failing, passing, evidence.failing) * share or _UNCOVERED
            if (source.path, line) in evidence.frames:
                weight *= 1 + _TRACE_BONUS
        weights.append(weight)
    return weights


def relevance(sources: Iterable[Source], report: str) -> Mapping[Function | str, float]:
    """Each function's likeness to the report, from 0 to 1 (the best); a file's name stands for its module level."""
    texts: dict[Function | str, Counter[str]] = {}
    for source in sources:
        for function in source.functions:
            texts[function] = _bag(source.segment(function)) + _times(_bag(function.name), 3)
        texts[source.path] = _bag(source.text.partition("\ndef ")[0]) + _times(_bag(source.path), 2)
    scores = bm25(texts, _bag(report))
    best = max(scores.values(), default=0.0)
    return {unit: score / best if best else 0.0 for unit, score in scores.items()}


def bm25(texts: Mapping[Function | str, Counter[str]], query: Counter[str]) -> dict[Function | str, float]:
    """Robertson and Zaragoza 2009, doi:10.1561/1500000019."""
    average = sum(sum(bag.values()) for bag in texts.values()) / max(1, len(texts))
    having = Counter(word for bag in texts.values() for word in bag)
    scores = {}
    for unit, bag in texts.items():
        length = _BM25_K * (1 - _BM25_B + _BM25_B * sum(bag.values()) / max(1.0, average))
        scores[unit] = sum(
            math.log(1 + (len(texts) - having[word] + 0.5) / (having[word] + 0.5))
            * bag[word] * (_BM25_K + 1) / (bag[word] + length) * min(3, count)
            for word, count in query.items()
            if word in bag
        )  # fmt: skip
    return scores


_COMMON = words_of(
    "the and for with that this from not are was but you when should have has can its expected actual step return self "
    "none true false def class import then than will does get bug report steps instead into which"
)


def _bag(text: str) -> Counter[str]:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
    return Counter(s for word in words if len(s := stem(word)) > 1 and s not in _COMMON)


def _times(bag: Counter[str], factor: int) -> Counter[str]:
    return Counter({word: count * factor for word, count in bag.items()})
