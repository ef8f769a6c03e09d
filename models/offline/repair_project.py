"""What the rest of a program says about how things are called and done in it: the vocabulary that edits draw from."""

from __future__ import annotations

import ast
import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from trellis.models.offline.repair_source import Source, visit, words_of


@dataclass(frozen=True)
class Project:
    """The files under repair, without their tests."""

    sources: Sequence[Source]

    @cached_property
    def attributes(self) -> Counter[str]:
        return Counter(n.attr for n in self._nodes() if isinstance(n, ast.Attribute))

    @cached_property
    def attributes_of(self) -> Mapping[str, Counter[str]]:
        """Attributes by the name they are read from (`expense.total` anywhere tells what an `expense` has)."""
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for node in self._nodes():
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found[node.value.id][node.attr] += 1
        return found

    @cached_property
    def keys(self) -> Counter[str]:
        """Strings that read like identifiers: keys, columns, states."""
        strings = (n.value for n in self._nodes() if isinstance(n, ast.Constant) and isinstance(n.value, str))
        return Counter(s for s in strings if s.replace("-", "_").isidentifier() and len(s) > 1)

    @cached_property
    def keys_by_file(self) -> Mapping[str, frozenset[str]]:
        return {
            source.path: frozenset(
                n.value
                for n, _ in visit(source.tree)
                if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value in self.keys
            )
            for source in self.sources
        }

    @cached_property
    def coroutines(self) -> frozenset[str]:
        return frozenset(f.name for s in self.sources for f in s.functions if isinstance(f, ast.AsyncFunctionDef))

    @cached_property
    def functions(self) -> Mapping[str, int]:
        """Names of functions, with how many arguments they take."""
        return {f.name: len(f.args.args) for s in self.sources for f in s.functions}

    def _nodes(self) -> Iterable[ast.AST]:
        return (node for source in self.sources for node, _ in visit(source.tree))


def nearest(name: str, others: Iterable[str], limit: int) -> list[str]:
    """The names most like `name`: shared words first, then shared letters; ties in alphabetical order."""
    return sorted(sorted(set(others) - {name}), key=lambda other: _likeness(name, other), reverse=True)[:limit]


@lru_cache(maxsize=65536)
def _likeness(name: str, other: str) -> float:
    mine, theirs = words_of(name), words_of(other)
    shared = len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0
    return shared + difflib.SequenceMatcher(None, name, other, autojunk=False).ratio()
