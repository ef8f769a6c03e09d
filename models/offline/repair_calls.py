"""Typed mutations of calls and of texts: conversions and clean-ups that are missing or too much, functions that are
easily confused, operators inside SQL, precision inside format strings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from trellis.models.offline.repair_place import SIGNS, Operator, Place
from trellis.models.offline.repair_source import Mutation

_WRAPS: Mapping[str, tuple[str, str, str]] = {
    "strip": ("{}.strip()", "missing strip", "strip trim space"),
    "lower": ("{}.lower()", "missing lower", "lower case"),
    "int": ("int({})", "conversion", "int number"),
    "str": ("str({})", "conversion", "str text"),
    "round": ("round({}, 2)", "rounding", "round cent"),
    "abs": ("abs({})", "clamp", "negative"),
    "max": ("max(0, {})", "clamp", "negative"),
    "sorted": ("sorted({})", "order", "sort order"),
    "reversed": ("list(reversed({}))", "order", "sort order reverse"),
    "escape": ("{}({})", "missing escape", "escape html tag script"),
    "quote": ("{}({})", "missing escape", "quote url"),
}
_ESCAPES = ("html.escape", "escape", "quote", "quote_plus", "urllib.parse.quote")


def wrap(place: Place) -> Iterator[Mutation]:
    """A conversion or clean-up of a value that is missing: on what is assigned, returned, compared or passed on."""
    node, parent = place.node, place.parent
    if not isinstance(node, ast.expr) or not _is_used_value(node, parent):
        return
    text = place.text(node)
    for what, (form, kind, words) in _WRAPS.items():
        if what in ("escape", "quote") or f".{what}()" in text or text.startswith(f"{what}("):
            continue
        if kind == "order" and not isinstance(parent, ast.Assign | ast.Return | ast.For):
            continue
        if kind == "clamp" and not isinstance(parent, ast.Call | ast.Return):
            continue
        inner = f"({text})" if form.startswith("{}.") and isinstance(node, ast.BinOp | ast.BoolOp) else text
        yield place.swap(kind, node, form.format(inner), words)
    for function in _ESCAPES:
        if f"{function}(" in place.source.text and function not in text:
            yield place.swap("missing escape", node, f"{function}({text})", _WRAPS["escape"][2])


def _is_used_value(node: ast.expr, parent: ast.AST) -> bool:
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) or getattr(parent, "func", None) is node:
        return False
    if isinstance(node, ast.BinOp | ast.BoolOp):
        return isinstance(parent, ast.Assign | ast.Return)
    if not isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.ListComp):
        return False
    if isinstance(parent, ast.BinOp):
        return isinstance(parent.op, ast.Add)
    return isinstance(parent, ast.Assign | ast.Return | ast.Compare | ast.Call | ast.Subscript | ast.keyword | ast.For)


def fold_case(place: Place) -> Iterator[Mutation]:
    """Both sides of a comparison of texts in lower case, or without outer spaces."""
    node = place.node
    if (
        isinstance(node, ast.Compare)
        and len(node.ops) == 1
        and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn)
    ):
        left, right = place.text(node.left), place.text(node.comparators[0])
        sign = SIGNS[type(node.ops[0])]
        for method, kind, words in (
            ("lower", "missing lower", "lower case"),
            ("strip", "missing strip", "strip space"),
        ):
            a, b = (side if f".{method}()" in side else f"{side}.{method}()" for side in (left, right))
            if (a, b) != (left, right) and not isinstance(
                node.comparators[0], ast.Constant | ast.Tuple | ast.List | ast.Set
            ):
                yield place.swap(kind, node, f"{a} {sign} {b}", words)


def unwrap(place: Place) -> Iterator[Mutation]:
    """A conversion or clean-up that should not be there."""
    match place.node:
        case ast.Call(func=ast.Name(id=called), args=[inner], keywords=[]) if called not in ("len", "print"):
            yield place.swap("needless call", place.node, place.text(inner), called)
        case ast.Call(func=ast.Attribute(value=inner, attr=called), args=[] | [ast.Constant()], keywords=[]):
            yield place.swap("needless call", place.node, place.text(inner), called)


_TWINS = (
    ("min", "max"), ("any", "all"), ("ceil", "floor"), ("keys", "values"), ("values", "items"), ("upper", "lower"),
    ("startswith", "endswith"), ("lstrip", "rstrip"), ("lstrip", "strip"), ("rstrip", "strip"), ("split", "rsplit"),
    ("append", "extend"), ("add", "discard"), ("find", "rfind"), ("union", "intersection"), ("int", "round"),
    ("floor", "round"), ("ceil", "round"), ("days", "seconds"), ("seconds", "total_seconds()"), ("days", "hours"),
    ("hours", "minutes"), ("minutes", "seconds"), ("sum", "len"), ("setdefault", "get"), ("pop", "get"),
    ("isdigit", "isdecimal"), ("search", "match"), ("match", "fullmatch"), ("search", "fullmatch"),
    ("quote", "quote_plus"), ("unquote", "unquote_plus"), ("ROUND_DOWN", "ROUND_HALF_UP"),
    ("ROUND_HALF_EVEN", "ROUND_HALF_UP"), ("ROUND_UP", "ROUND_HALF_UP"), ("ROUND_FLOOR", "ROUND_HALF_UP"),
)  # fmt: skip


def twin(place: Place) -> Iterator[Mutation]:
    """A function, method or keyword for the one that is easily confused with it."""
    match place.node:
        case ast.Name(id=old) as node:
            head = ""
        case ast.Attribute(value=value, attr=old) as node:
            head = f"{place.text(value)}."
        case ast.Call(keywords=[*keywords]):
            for keyword in keywords:
                start = place.source.offset(keyword.lineno, keyword.col_offset)
                for new in _twins_of(keyword.arg or ""):
                    yield place.source.replace("twin", start, start + len(keyword.arg or ""), new, new)
            return
        case _:
            return
    for new in _twins_of(old):
        if head or "." not in new:
            yield place.swap("twin", node, head + new, new)


_ENCODINGS = (("utf-8", "utf-8-sig"), ("utf8", "utf-8-sig"), ("ascii", "utf-8"), ("latin-1", "utf-8"))


def encoding(place: Place) -> Iterator[Mutation]:
    """Another encoding of text."""
    node = place.node
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        for old, new in _ENCODINGS:
            if node.value.lower() == old:
                yield place.swap("encoding", node, f'"{new}"', "encoding utf bom sig")
    match node:
        case ast.Call(func=ast.Attribute(attr="decode" | "encode") as method, args=[], keywords=[]):
            yield place.swap("encoding", node, f'{place.text(method)}("utf-8-sig")', "encoding utf bom sig")


def _twins_of(name: str) -> Iterator[str]:
    for a, b in _TWINS:
        if name == a:
            yield b
        elif name == b:
            yield a


def order(place: Place) -> Iterator[Mutation]:
    """A sorting turned round; the first for the last."""
    match place.node:
        case ast.Call(func=ast.Name(id="sorted") | ast.Attribute(attr="sort"), keywords=keywords) as node:
            given = next((k for k in keywords if k.arg == "reverse"), None)
            if given is None:
                text = place.text(node)
                comma = ", " if node.args or keywords else ""
                body = text[: text.rindex(")")].rstrip().rstrip(",")
                yield place.swap("order", node, f"{body}{comma}reverse=True)", "sort order first new old")
        case ast.Subscript(slice=ast.Constant(value=0) as index):
            yield place.swap("order", index, "-1", "last first")
        case ast.Subscript(slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)) as index):
            yield place.swap("order", index, "0", "last first")


def lookup(place: Place) -> Iterator[Mutation]:
    """`d[k]` as `d.get(k)`; a default for what may be None; an await."""
    node = place.node
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Load)
        and isinstance(node.slice, ast.Constant | ast.Name)
    ):
        start = place.text(node.value)
        for default in ("", ", 0", ', ""', ", []"):
            yield place.swap(
                "missing default", node, f"{start}.get({place.text(node.slice)}{default})", "missing empty none"
            )
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and len(node.args) == 1
    ):
        for default in ("0", '""', "[]", "{}"):
            yield place.swap("missing default", node, f"({place.text(node)} or {default})", "missing empty none")
    if isinstance(node, ast.Call) and not isinstance(place.parent, ast.Await):
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called in place.project.coroutines:
            yield place.swap("missing await", node, f"(await {place.text(node)})", "await coroutine")


_SQL = re.compile(r"\b(?:SELECT|UPDATE|DELETE|INSERT|WHERE|ORDER BY|JOIN)\b")
_SQL_EDITS = (
    (r"<=", "<", "boundary"), (r"<(?![=>])", "<=", "boundary"), (r">=", ">", "boundary"),
    (r"(?<!<)>(?!=)", ">=", "boundary"), (r"(?<![<>!])=", "<>", "comparison"), (r"(?:<>|!=)", "=", "comparison"),
    (r"\bDESC\b", "ASC", "order"), (r"\bASC\b", "DESC", "order"), (r"\bAND\b", "OR", "logic"),
    (r"\bOR\b", "AND", "logic"), (r"(?<!LEFT )\bJOIN\b", "LEFT JOIN", "join"), (r"\bLEFT JOIN\b", "JOIN", "join"),
    (r"\bSELECT\b(?! DISTINCT)", "SELECT DISTINCT", "distinct"), (r"\bIS NULL\b", "IS NOT NULL", "negation"),
    (r"\bIS NOT NULL\b", "IS NULL", "negation"), (r"\bCOUNT\(", "SUM(", "twin"), (r"\bMIN\(", "MAX(", "twin"),
    (r"\bMAX\(", "MIN(", "twin"), (r"(?<=LIKE )\?", "'%' || ? || '%'", "comparison"),
    (r"(ORDER BY [\w., ]*?\w)(?= LIMIT|\s*$)", r"\1 DESC", "order"),
)  # fmt: skip
_FORMAT_EDITS = (
    (r"(?<=[:%])([,0]?)\.1f", r"\1.2f", "rounding"), (r"(?<=[:%])([,0]?)\.0f", r"\1.2f", "rounding"),
    (r"%m(?=[-/]%d)", "%d", "format"), (r"%I", "%H", "format"), (r"%M", "%m", "format"),
    (r"(?<=[:])(\d)d", r"0\1d", "format"), (r"(?<=[:])d", "02d", "format"),
)  # fmt: skip


def text_inside(place: Place) -> Iterator[Mutation]:
    """Operators inside SQL, precision and fields inside format strings."""
    node = place.node
    if not isinstance(node, ast.JoinedStr) and not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return
    text = place.text(node)
    for pattern, new, kind in (*(_SQL_EDITS if _SQL.search(text) else ()), *_FORMAT_EDITS):
        for found in re.finditer(pattern, text):
            changed = text[: found.start()] + found.expand(new) + text[found.end() :]
            yield place.swap(kind, node, changed, found.expand(new))


CALLS: tuple[Operator, ...] = (wrap, fold_case, unwrap, twin, encoding, order, lookup, text_inside)
