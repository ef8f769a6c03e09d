"""A Python file as `offline/repair` works on it: text and tree side by side, so that an edit keeps all formatting."""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def parse(text: str) -> ast.Module | None:
    """The tree of a Python text; None where it is not one. Nothing is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=16384)
def words_of(text: str) -> frozenset[str]:
    """The words in a text or an identifier, stemmed: `remindersDue_at` has remind, due and at."""
    return frozenset(stem(word) for word in _WORD.findall(text))


def stem(word: str) -> str:
    """A word without its commonest English endings; enough to match `expenses` with `expense`."""
    word = word.lower()
    for ending in ("ations", "ation", "ings", "ing", "ies", "ers", "ed", "es", "er", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


@dataclass(frozen=True, slots=True)
class Mutation:
    """One edit of one file: lines `first` to `last` (from 1, inclusive) become `after`."""

    path: str
    kind: str
    first: int
    last: int
    after: str
    line: int
    """The line that is blamed, within or beside the lines replaced."""
    words: frozenset[str] = frozenset()
    """Words that the edit brings in, to be matched with a bug report."""

    @property
    def key(self) -> str:
        return f"{self.path}:{self.first}-{self.last}:{self.after}"


@dataclass(frozen=True)
class Source:
    """A file that parses."""

    path: str
    text: str
    tree: ast.Module = field(repr=False, compare=False)

    @classmethod
    def read(cls, path: str, text: str) -> Source | None:
        """None where the text is not Python."""
        tree = parse(text)
        return None if tree is None else cls(path, text, tree)

    @cached_property
    def lines(self) -> Sequence[str]:
        found = self.text.split("\n")
        return [line + "\n" for line in found[:-1]] + ([found[-1]] if found[-1] else [])

    @cached_property
    def _starts(self) -> Sequence[int]:
        return [0, *accumulate(len(line) for line in self.lines)]

    def offset(self, line: int, column: int) -> int:
        """The position in `text` of a tree's position: lines from 1, columns in bytes of UTF-8."""
        content = self.lines[line - 1] if line <= len(self.lines) else ""
        return self._starts[line - 1] + len(content.encode()[:column].decode("utf-8", "ignore"))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def segment(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def line_at(self, offset: int) -> int:
        return bisect_right(self._starts, offset, 0, len(self.lines) or 1)

    def replace(self, kind: str, start: int, end: int, new: str, words: str = "") -> Mutation:
        """The edit that puts `new` in the place of `text[start:end]`."""
        first, last = self.line_at(start), self.line_at(end)
        head, tail = self.text[self._starts[first - 1] : start], self.text[end : self._starts[last]]
        return Mutation(self.path, kind, first, last, head + new + tail, first, words_of(words))

    def insert(self, kind: str, line: int, new: str, words: str = "") -> Mutation:
        """The edit that puts whole lines before `line`."""
        kept = self.lines[line - 1]
        return Mutation(self.path, kind, line, line, new + kept, line, words_of(words))

    def apply(self, mutation: Mutation) -> str:
        head, tail = self.lines[: mutation.first - 1], self.lines[mutation.last :]
        return "".join(head) + mutation.after + "".join(tail)

    def before(self, mutation: Mutation) -> str:
        return "".join(self.lines[mutation.first - 1 : mutation.last])

    @cached_property
    def functions(self) -> Sequence[Function]:
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    def function_at(self, line: int) -> Function | None:
        """The innermost function around a line."""
        around = [f for f in self.functions if f.lineno <= line <= (f.end_lineno or 0)]
        return max(around, key=lambda f: f.lineno, default=None)


def visit(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every node below `tree` with its parent, without the insides of f-strings (their positions are not reliable
    before Python 3.12) and without docstrings and annotations."""
    stack: list[ast.AST] = [tree]
    while stack:
        parent = stack.pop()
        for child in ast.iter_child_nodes(parent):
            if _is_docstring(child, parent) or child in _annotations(parent):
                continue
            yield child, parent
            if not isinstance(child, ast.JoinedStr):
                stack.append(child)


def _is_docstring(node: ast.AST, parent: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _annotations(parent: ast.AST) -> tuple[ast.AST, ...]:
    found = (getattr(parent, "annotation", None), getattr(parent, "returns", None))
    return tuple(node for node in found if node is not None)


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def parameters_of(function: Function) -> set[str]:
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {a.arg for a in given if a is not None}


def bound_in(function: Function, before_line: int | None = None) -> set[str]:
    """Parameters, and names assigned in a function (above a line, if one is given)."""
    stored = (name for name, line in _stored_in(function) if before_line is None or line < before_line)
    return parameters_of(function) | set(stored)


@lru_cache(maxsize=2048)
def _stored_in(function: Function) -> tuple[tuple[str, int], ...]:
    stored = (n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return tuple((node.id, node.lineno) for node in stored)


def defined_in(module: ast.Module) -> set[str]:
    """Names at the top of a module: definitions, imports and assignments."""
    found: set[str] = set()
    for node in module.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update((alias.asname or alias.name).partition(".")[0] for alias in names)
            case _:
                found.update(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return found
