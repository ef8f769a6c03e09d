"""A node of a program and what surrounds it: what mutation operators work on."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from trellis.models.offline.repair_project import Project
from trellis.models.offline.repair_source import Function, Mutation, Source


@dataclass(frozen=True, slots=True)
class Place:
    """A node and what surrounds it."""

    node: ast.AST
    parent: ast.AST
    source: Source
    project: Project
    function: Function | None
    numbers: frozenset[int]
    """Numbers that the bug report names."""

    def swap(self, kind: str, node: ast.expr, new: str, words: str = "") -> Mutation:
        start, end = self.source.span(node)
        return self.source.replace(kind, start, end, new, words)

    def text(self, node: ast.expr | ast.stmt) -> str:
        return self.source.segment(node)

    def between(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Mutation]:
        """Replace the operator that stands between two operands, whatever parentheses are around it."""
        start, end = self.source.span(left)[1], self.source.span(right)[0]
        pattern = r"\s+".join(map(re.escape, old.split()))
        if old[0].isalpha():
            pattern = rf"\b{pattern}\b"
        gap, count = re.subn(pattern, lambda _: new, self.source.text[start:end], count=1)
        if count:
            yield self.source.replace(kind, start, end, gap)


Operator: TypeAlias = Callable[[Place], Iterator[Mutation]]

SIGNS: Mapping[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.And: "and", ast.Or: "or",
}  # fmt: skip
