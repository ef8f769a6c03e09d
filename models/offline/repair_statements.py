"""Typed mutations of statements: guards, copies from elsewhere in the program, moves and deletions.

Most missing code can be found elsewhere in the same program (the plastic surgery hypothesis, Barr et al. 2014;
GenProg, Le Goues et al. 2012): guards and calls are copied from functions of the same file, where all their names
mean something.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import textwrap
from collections.abc import Iterator, Sequence

from trellis.models.offline.repair_project import Project
from trellis.models.offline.repair_source import (
    Function,
    Mutation,
    Source,
    bound_in,
    defined_in,
    names_in,
    parameters_of,
    words_of,
)

_BUILTINS = frozenset(dir(builtins))
_MOST_COPIES = 6
"""How many statements, from the most similar functions, are tried at one place."""


def statement_mutations(source: Source, project: Project) -> Iterator[Mutation]:
    for function in source.functions:
        yield from _guards(source, function)
        yield from _copies(source, function)
        for block in _blocks(function):
            yield from _in_block(source, function, block)


def _in_block(source: Source, function: Function, block: Sequence[ast.stmt]) -> Iterator[Mutation]:
    for statement in block:
        yield from _returns(source, function, statement)
        yield from _jumps(source, statement)
        yield from _handlers(source, statement)
        if len(block) > 1:
            yield from _deletion(source, statement)
        yield from _dedent(source, statement)
    for one, other in itertools.pairwise(block):
        yield from _exchange(source, one, other)


def _blocks(function: Function) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(function):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                yield block


# --- guards ----------------------------------------------------------------------------------------------------------


def _guards(source: Source, function: Function) -> Iterator[Mutation]:
    """Leave early where a parameter is missing, with what the function returns elsewhere when it has nothing."""
    body = _body(function)
    if not body:
        return
    indent = _indent(source, body[0])
    leaves = [*_values(source, function), "return None"]
    for parameter in sorted(parameters_of(function) - {"self", "cls"}):
        for leave in leaves:
            for test in (f"{parameter} is None", f"not {parameter}"):
                text = f"{indent}if {test}:\n{indent}    {leave}\n"
                yield source.insert("missing guard", body[0].lineno, text, f"{parameter} empty none missing")


def _values(source: Source, function: Function) -> list[str]:
    """The function's own ways of leaving without a result, else the empty value of what it returns."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            match node.value:
                case ast.Constant() | ast.List(elts=[]) | ast.Dict(keys=[]):
                    found.append(source.segment(node))
                case ast.List() | ast.ListComp():
                    found.append("return []")
                case ast.Dict() | ast.DictComp():
                    found.append("return {}")
                case ast.BinOp():
                    found.append("return 0")
                case ast.JoinedStr():
                    found.append('return ""')
    return list(dict.fromkeys(found))[:3]


# --- copies ----------------------------------------------------------------------------------------------------------


def _copies(source: Source, function: Function) -> Iterator[Mutation]:
    """Guards and plain calls of similar functions, at the beginning, before the last statement or at the end."""
    body = _body(function)
    if not body:
        return
    known = _BUILTINS | defined_in(source.tree)
    mine = {source.segment(s).strip() for block in _blocks(function) for s in block}
    places = dict.fromkeys([*(s.lineno for s in body)])
    for other in _similar(source, function):
        taken = 0
        for statement in (s for block in _blocks(other) for s in block):
            text = source.segment(statement)
            if taken >= _MOST_COPIES or text.strip() in mine or not _worth_copying(statement):
                continue
            renamed = text
            for line in places:
                if names_in(statement) - bound_in(function, line) <= known - bound_in(other):
                    taken += 1
                    kind = "missing guard" if isinstance(statement, ast.If) else "missing statement"
                    yield source.insert(kind, line, _at(renamed, source, function, line, statement), text)
            last = body[-1]
            if not isinstance(last, ast.Return | ast.Raise) and not isinstance(statement, ast.If):
                end = (last.end_lineno or last.lineno) + 1
                if end <= len(source.lines) and names_in(statement) - bound_in(function) <= known - bound_in(other):
                    yield source.insert(
                        "missing statement", end, _at(renamed, source, function, last.lineno, statement), text
                    )


def _worth_copying(statement: ast.stmt) -> bool:
    match statement:
        case ast.If(body=[ast.Return() | ast.Raise() | ast.Continue()], orelse=[]):
            return True
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Name()]) | ast.AugAssign():
            return True
    return False


def _similar(source: Source, function: Function) -> list[Function]:
    mine = words_of(source.segment(function))

    def likeness(other: Function) -> float:
        theirs = words_of(source.segment(other))
        return len(mine & theirs) / max(1, len(mine | theirs))

    others = [f for f in source.functions if f is not function and f.name != function.name]
    return sorted(others, key=likeness, reverse=True)[:4]


def _at(text: str, source: Source, function: Function, line: int, statement: ast.stmt) -> str:
    old = " " * statement.col_offset
    indent = source.lines[line - 1][: len(source.lines[line - 1]) - len(source.lines[line - 1].lstrip())]
    return textwrap.indent(textwrap.dedent(old + text), indent) + "\n"


# --- moves and deletions ---------------------------------------------------------------------------------------------


def _returns(source: Source, function: Function, statement: ast.stmt) -> Iterator[Mutation]:
    """A result that is computed and not returned."""
    start, _ = source.span(statement)
    if isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant | ast.Yield | ast.Await):
        yield source.replace("missing return", start, start, "return ", "return none")
    if (
        isinstance(statement, ast.Assign)
        and statement is function.body[-1]
        and isinstance(statement.targets[0], ast.Name)
    ):
        indent = _indent(source, statement)
        end = (statement.end_lineno or statement.lineno) + 1
        if end <= len(source.lines):
            yield source.insert("missing return", end, f"{indent}return {statement.targets[0].id}\n", "return none")
    if isinstance(statement, ast.Return) and statement.value is not None:
        value_start, end = source.span(statement.value)
        for name in sorted(bound_in(function, statement.lineno) - {"self"}):
            if name != source.segment(statement.value):
                yield source.replace("wrong return", value_start, end, name, name)


def _jumps(source: Source, statement: ast.stmt) -> Iterator[Mutation]:
    start, end = source.span(statement)
    if isinstance(statement, ast.Break):
        yield source.replace("jump", start, end, "continue")
    elif isinstance(statement, ast.Continue):
        yield source.replace("jump", start, end, "break")


def _handlers(source: Source, statement: ast.stmt) -> Iterator[Mutation]:
    """An except clause that catches too little."""
    if isinstance(statement, ast.Try):
        for handler in statement.handlers:
            if handler.type is not None:
                start, end = source.span(handler.type)
                caught = source.segment(handler.type).strip("()")
                for more in ("ValueError", "TypeError", "KeyError", "IndexError"):
                    if more not in caught:
                        yield source.replace("exception", start, end, f"({caught}, {more})", f"{more} error crash")


def _deletion(source: Source, statement: ast.stmt) -> Iterator[Mutation]:
    if isinstance(statement, Function | ast.ClassDef | ast.Return | ast.Pass):
        return
    first, last = statement.lineno, statement.end_lineno or statement.lineno
    words = words_of(source.segment(statement))
    yield Mutation(source.path, "needless statement", first, last, "", first, words)


def _dedent(source: Source, statement: ast.stmt) -> Iterator[Mutation]:
    """The last statement of a loop or condition, moved behind it."""
    if isinstance(statement, ast.For | ast.While | ast.If | ast.With) and len(statement.body) > 1:
        inner = statement.body[-1]
        first, last = inner.lineno, inner.end_lineno or inner.lineno
        if last == statement.end_lineno:
            text = textwrap.dedent("".join(source.lines[first - 1 : last]))
            moved = textwrap.indent(text, _indent(source, statement))
            yield Mutation(source.path, "wrong indentation", first, last, moved, first)
    if isinstance(statement, ast.For | ast.While) and isinstance(statement.body[-1], ast.Return):
        inner = statement.body[-1]
        first, last = inner.lineno, inner.end_lineno or inner.lineno
        if len(statement.body) == 1:
            return
        text = textwrap.dedent("".join(source.lines[first - 1 : last]))
        yield Mutation(
            source.path, "wrong indentation", first, last, textwrap.indent(text, _indent(source, statement)), first
        )


def _exchange(source: Source, one: ast.stmt, other: ast.stmt) -> Iterator[Mutation]:
    """Two neighbours in the other order."""
    if isinstance(one, Function | ast.ClassDef | ast.Return) or isinstance(other, Function | ast.ClassDef | ast.Return):
        return
    first, middle = one.lineno, one.end_lineno or one.lineno
    start, last = other.lineno, other.end_lineno or other.lineno
    if start > middle:
        lines = source.lines
        after = [*lines[start - 1 : last], *lines[middle : start - 1], *lines[first - 1 : middle]]
        yield Mutation(source.path, "wrong order of statements", first, last, "".join(after), first)


def _body(function: Function) -> list[ast.stmt]:
    """A function's statements without its docstring."""
    body = function.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:]
    return body


def _indent(source: Source, statement: ast.stmt) -> str:
    line = source.lines[statement.lineno - 1]
    return line[: len(line) - len(line.lstrip())]
