"""Typed mutations of operators, constants, names and conditions: each turns one kind of node into what may have been
meant instead.

The kinds follow the fix patterns that are most frequent in practice (PAR, Kim et al. 2013; the single-statement bugs of
ManySStuBs4J, Karampatsis and Sutton 2020, arXiv:1905.13334).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from trellis.models.offline.repair_place import SIGNS, Operator, Place
from trellis.models.offline.repair_project import nearest
from trellis.models.offline.repair_source import Mutation, Source, bound_in, visit

_BOUNDARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_OPPOSITE = {
    "<": (">", ">="), "<=": (">=", ">"), ">": ("<", "<="), ">=": ("<=", "<"), "==": ("!=", "<=", ">=", "in"),
    "!=": ("==",), "is": ("is not",), "is not": ("is",), "in": ("not in", "=="), "not in": ("in",),
}  # fmt: skip
_ARITHMETIC = {"+": ("-", "*"), "-": ("+", "*"), "*": ("/", "+"), "/": ("*", "//"), "//": ("/",), "%": ("//",)}


def boundary(place: Place) -> Iterator[Mutation]:
    """`<` for `<=` and the like."""
    if isinstance(place.node, ast.Compare):
        operands = [place.node.left, *place.node.comparators]
        for i, op in enumerate(place.node.ops):
            sign = SIGNS[type(op)]
            if sign in _BOUNDARY:
                yield from place.between("boundary", operands[i], operands[i + 1], sign, _BOUNDARY[sign])


def comparison(place: Place) -> Iterator[Mutation]:
    """Another comparison altogether."""
    if isinstance(place.node, ast.Compare):
        operands = [place.node.left, *place.node.comparators]
        for i, op in enumerate(place.node.ops):
            for new in _OPPOSITE[SIGNS[type(op)]]:
                yield from place.between("comparison", operands[i], operands[i + 1], SIGNS[type(op)], new)


def arithmetic(place: Place) -> Iterator[Mutation]:
    """`+` for `-`, `/` for `//`; a quotient rounded instead of cut off."""
    node = place.node
    if isinstance(node, ast.BinOp) and (sign := SIGNS.get(type(node.op))) in _ARITHMETIC:
        for new in _ARITHMETIC[sign]:
            yield from place.between("arithmetic", node.left, node.right, sign, new)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
        left, right = place.text(node.left), place.text(node.right)
        yield place.swap("rounding", node, f"round(({left}) / ({right}))", "round")
        yield place.swap("rounding", node, f"-(-({left}) // ({right}))", "round up")
    if isinstance(node, ast.AugAssign) and (sign := SIGNS.get(type(node.op))) in _ARITHMETIC:
        for new in _ARITHMETIC[sign]:
            yield from place.between("arithmetic", node.target, node.value, f"{sign}=", f"{new}=")


def logic(place: Place) -> Iterator[Mutation]:
    """`and` for `or`, a condition negated, one part of a condition dropped."""
    node = place.node
    if isinstance(node, ast.BoolOp):
        sign = SIGNS[type(node.op)]
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from place.between("logic", left, right, sign, "or" if sign == "and" else "and")
        for value in node.values:
            if not isinstance(value, ast.Compare | ast.UnaryOp):
                yield place.swap("negation", value, f"not {place.text(value)}")
        for dropped in node.values:
            kept = [
                f"({place.text(v)})" if len(node.values) > 2 else place.text(v) for v in node.values if v is not dropped
            ]
            yield place.swap("drop condition", node, f" {sign} ".join(kept))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield place.swap("negation", node, f"({place.text(node.operand)})")
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield place.swap("negation", node.test, f"not ({place.text(node.test)})")


_SMALL = 60
"""Counts and steps are small; statuses, sizes and years beyond it are seldom off by one."""


def number(place: Place) -> Iterator[Mutation]:
    """A constant off by one, or another than the one that the report names."""
    node = place.node
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool) or not isinstance(node.value, int | float):
        return
    if isinstance(node.value, int):
        for near in (node.value + 1, node.value - 1):
            kind = "number" if abs(node.value) <= _SMALL else "large number"
            yield place.swap(kind, node, str(near) if near >= 0 else f"({near})")
        named = sorted(place.numbers - {node.value, node.value + 1, node.value - 1})
        for value in named if node.value not in place.numbers else ():
            yield place.swap("stated number", node, str(value), str(value))
    for factor in (10, 100):
        yield place.swap("scale", node, repr(node.value * factor))
        if node.value and node.value % factor == 0:
            yield place.swap("scale", node, repr(type(node.value)(node.value / factor)))


def truth(place: Place) -> Iterator[Mutation]:
    """`True` for `False`."""
    if isinstance(place.node, ast.Constant) and isinstance(place.node.value, bool):
        yield place.swap("truth", place.node, str(not place.node.value))


def off_by_one(place: Place) -> Iterator[Mutation]:
    """One more or one less in slices, ranges, indices and factors that are not constants."""
    node, spots = place.node, list[ast.expr | None]()
    match node:
        case ast.Slice(lower=lower, upper=upper):
            spots = [lower, upper]
        case ast.Call(func=ast.Name(id="range"), args=args):
            spots = list(args[:2])
        case ast.Subscript(slice=index) if not isinstance(index, ast.Slice):
            spots = [index]
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            spots = [left, right]
        case ast.Compare(ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()], comparators=[right]):
            spots = [right]
    for spot in spots:
        if isinstance(spot, ast.Name | ast.Attribute | ast.Call | ast.BinOp):
            text = place.text(spot)
            for new in (f"{text} - 1", f"{text} + 1"):
                yield place.swap("off by one", spot, f"({new})" if isinstance(node, ast.BinOp) else new)
    if isinstance(node, ast.Slice) and node.lower is not None and node.upper is not None:
        yield place.swap("slice", node.upper, f"{place.text(node.lower)} + {place.text(node.upper)}")
    if isinstance(node, ast.Slice) and (node.lower is None) != (node.upper is None):
        kept = node.upper if node.lower is None else node.lower
        assert kept is not None
        text = place.text(kept)
        yield place.swap("slice", node, f"{text}:" if node.lower is None else f":{text}")


def shift(place: Place) -> Iterator[Mutation]:
    """One more or one less of a value that is passed on, returned or put into a tuple."""
    node, parent = place.node, place.parent
    passed = isinstance(parent, ast.Call) and node in parent.args
    if not (passed or isinstance(parent, ast.Tuple | ast.Return)):
        return
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        for sign in "-+":
            yield place.swap("shift", node, f"{place.text(node)} {sign} 1")


def empty(place: Place) -> Iterator[Mutation]:
    """What an empty collection or a zero divisor needs."""
    node = place.node
    if not isinstance(node, ast.expr):
        return
    text = place.text(node)
    match node:
        case ast.BinOp(op=ast.Div() | ast.FloorDiv() | ast.Mod(), right=divisor) if not isinstance(
            divisor, ast.Constant
        ):
            for default in ("0", "None"):
                yield place.swap("empty case", node, f"({text} if {place.text(divisor)} else {default})", _EMPTY)
        case ast.Call(func=ast.Name(id="max" | "min"), args=[_], keywords=keywords):
            if all(keyword.arg != "default" for keyword in keywords):
                for default in ("None", "0"):
                    yield place.swap("empty case", node, f"{text[:-1].rstrip(', ')}, default={default})", _EMPTY)
        case ast.Call(args=[_, *_] as args) if not isinstance(place.parent, ast.Expr):
            for tested in args:
                if isinstance(tested, ast.Name | ast.Attribute | ast.Call):
                    for default in ("None", "0"):
                        changed = f"({text} if {place.text(tested)} else {default})"
                        yield place.swap("empty case", node, changed, _EMPTY)
        case ast.Subscript(value=tested, slice=ast.Constant(value=int()) | ast.UnaryOp(), ctx=ast.Load()):
            yield place.swap("empty case", node, f"({text} if {place.text(tested)} else None)", _EMPTY)
        case ast.Attribute(value=tested, ctx=ast.Load()) if isinstance(tested, ast.Name | ast.Attribute):
            if getattr(tested, "id", "") not in ("self", "cls"):
                yield place.swap("empty case", node, f"({text} if {place.text(tested)} else None)", _EMPTY)


_EMPTY = "empty none missing without"


def arguments(place: Place) -> Iterator[Mutation]:
    """Two neighbouring arguments or operands swapped."""
    node, pairs = place.node, list[tuple[ast.expr, ast.expr]]()
    if isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args):
        pairs = list(zip(node.args, node.args[1:], strict=False))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv | ast.Mod):
        pairs = [(node.left, node.right)]
    elif isinstance(node, ast.Tuple) and len(node.elts) <= 4:
        pairs = list(zip(node.elts, node.elts[1:], strict=False))
    for left, right in pairs:
        a, b = place.text(left), place.text(right)
        if a != b:
            start, middle = place.source.span(left)
            resume, end = place.source.span(right)
            swapped = b + place.source.text[middle:resume] + a
            yield place.source.replace("swapped arguments", start, end, swapped)


def name(place: Place) -> Iterator[Mutation]:
    """Another name of the same scope."""
    node = place.node
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and place.function is not None:
        scope = bound_in(place.function, node.lineno)
        if isinstance(place.parent, ast.Call) and place.parent.func is node:
            count = len(place.parent.args)
            scope = {f for f, taken in place.project.functions.items() if taken == count}
            if node.id not in place.project.functions:
                return
        elif node.id not in scope:
            return
        for other in nearest(node.id, scope - {"self", "cls"}, 4):
            yield place.swap("wrong name", node, other, other)


def attribute(place: Place) -> Iterator[Mutation]:
    """Another attribute that such an object is known to have."""
    node = place.node
    if not isinstance(node, ast.Attribute):
        return
    known = set(place.project.attributes)
    if isinstance(node.value, ast.Name):
        known = set(place.project.attributes_of.get(node.value.id, ())) | set(nearest(node.attr, known, 3))
    for other in nearest(node.attr, known, 5):
        yield place.swap("wrong attribute", node, f"{place.text(node.value)}.{other}", other)


def key(place: Place) -> Iterator[Mutation]:
    """Another string of the same file: a key, a column, a state."""
    node = place.node
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in place.project.keys:
        others = place.project.keys_by_file[place.source.path]
        for other in nearest(node.value, others, 5):
            yield place.swap("wrong key", node, repr(other).replace("'", '"'), other)


def strengthen(place: Place) -> Iterator[Mutation]:
    """A further condition, copied from a place of the same file where all its names mean something here too."""
    node = place.node
    test = getattr(node, "test", None)
    if not isinstance(test, ast.expr) or not isinstance(node, ast.If | ast.While | ast.IfExp) or place.function is None:
        return
    here = place.text(test)
    scope = bound_in(place.function, node.lineno)
    for condition in _conditions(place.source, scope):
        if condition not in here and here not in condition:
            for sign in ("and", "or"):
                yield place.swap("add condition", test, f"({here}) {sign} ({condition})", condition)


def _conditions(source: Source, scope: set[str]) -> Iterator[str]:
    seen = set[str]()
    for node, parent in visit(source.tree):
        used = isinstance(parent, ast.If | ast.While | ast.BoolOp) and isinstance(
            node, ast.Compare | ast.UnaryOp | ast.Call
        )
        if used and isinstance(node, ast.expr):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            text = source.segment(node)
            if (
                names & scope
                and names <= scope | {"len", "int", "str", "any", "all", "isinstance"}
                and text not in seen
            ):
                seen.add(text)
                yield text


LOGIC: tuple[Operator, ...] = (
    boundary, comparison, arithmetic, logic, number, truth, off_by_one, shift, empty, arguments, name, attribute, key,
    strengthen,
)  # fmt: skip
