"""AIDE: `journal.json`, a tree of scripts. Each node becomes a branch with one reply and one run, as in our own tree
search, and a note `node` like those that `scaffolds/tree/search.py` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.models.messages import Text, ToolCall, assistant
from trellis.trajectories.converters import document
from trellis.trajectories.converters.converter import ConversionError
from trellis.trajectories.converters.line import result_of
from trellis.trajectories.converters.native import Identity, Source, Target, Writer

FORMAT = "aide"
_NODE = ("code", "plan", "id", "step", "ctime", "parent", "children", "_term_out", "term_out", "exec_time", "exc_type",
         "exc_info", "exc_stack", "analysis", "metric", "is_buggy")  # fmt: skip


def fits(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("nodes"), list) and "node2parent" in value


def read(source: Source, target: Target) -> None:
    data: dict[str, Any] = source.document
    nodes = document.objects(data["nodes"], "nodes")
    parents = _parents(nodes, document.an_object(data["node2parent"], "node2parent"))
    lower = _lower_is_better(nodes)
    identity = Identity(FORMAT, task=source.stem, agent=FORMAT, version=document.word(data.get("__version")),
                        more={"journal": document.without(data, "nodes", "node2parent", "__version")})  # fmt: skip
    with target.episode(identity) as writer:
        best: tuple[int, float | None] | None = None
        for number, node in enumerate(nodes):
            metric = _metric(node)
            if not _buggy(node) and _better(metric, best[1] if best else None, lower):
                best = (number, metric)
            _node(writer, nodes, number, parents[number], metric, lower, best is not None and best[0] == number)
        if nodes:
            writer.losses.add("prompts of the calls of the model", len(nodes))
            writer.losses.add("calls of the reviewing model (what they said is in the nodes)",
                              sum(bool(node.get("analysis")) for node in nodes))  # fmt: skip


def _node(
    writer: Writer, nodes: list[dict[str, Any]], number: int, parent: int | None, metric: float | None, lower: bool,
    best: bool,
) -> None:  # fmt: skip
    node = nodes[number]
    line = writer.line(f"main/node-{number}")
    writer.at(document.when(node.get("ctime")))
    plan, code = document.text(node.get("plan")), document.text(node.get("code"))
    line.reply(assistant(Text(f"{plan}\n\n```python\n{code}\n```")))
    call = ToolCall(f"{line.name}-use-1", "python", {"code": code, "fresh": True})
    duration = document.number(node.get("exec_time"))
    printed = node.get("_term_out", node.get("term_out"))
    if printed is None and duration is None:
        line.act(call, None, own=True)
    else:
        output = "".join(map(document.text, printed)) if isinstance(printed, list) else document.text(printed)
        raised = document.word(node.get("exc_type"))
        more = document.without({name: node.get(name) for name in ("exc_type", "exc_info", "exc_stack")})
        result = result_of(call, output, exit_code=1 if raised else 0, timed_out=raised == "TimeoutError",
                           duration_s=duration, imported=more or None)  # fmt: skip
        line.act(call, result, took_s=duration, own=True)
    buggy = _buggy(node)
    writer.line().note(
        "node",
        id=number,
        parent=parent,
        branch=line.name,
        stage="draft" if parent is None else "debug" if _buggy(nodes[parent]) else "improve",
        plan=plan,
        is_buggy=buggy,
        metric=None if buggy else metric,
        lower_is_better=lower,
        analysis=document.text(node.get("analysis")),
        exec_time_s=duration or 0.0,
        best=best,
    )
    if more := {"id": document.word(node.get("id")), **document.without(node, *_NODE)}:
        line.note("imported.node", **more)


def _parents(nodes: list[dict[str, Any]], parent_of: Mapping[str, Any]) -> list[int | None]:
    """The number of each node's parent. Raises ConversionError: it has none in the journal before it."""
    numbers: dict[str, int] = {}
    found: list[int | None] = []
    for number, node in enumerate(nodes):
        id = document.word(node.get("id"))
        if id in numbers:
            raise ConversionError(f"nodes[{number}]: there is a node of id {id!r} already")
        parent = parent_of.get(id)
        if parent is not None and document.word(parent) not in numbers:
            raise ConversionError(f"nodes[{number}]: its parent {document.word(parent)!r} is no node before it")
        found.append(None if parent is None else numbers[document.word(parent)])
        numbers[id] = number
    return found


def _metric(node: Mapping[str, Any]) -> float | None:
    metric = node.get("metric")
    return document.number(metric.get("value") if isinstance(metric, dict) else metric)


def _better(metric: float | None, best: float | None, lower: bool) -> bool:
    if metric is None or best is None:
        return metric is not None
    return metric < best if lower else metric > best


def _buggy(node: Mapping[str, Any]) -> bool:
    """AIDE counts a node without a metric as buggy."""
    return node["is_buggy"] if isinstance(node.get("is_buggy"), bool) else _metric(node) is None


def _lower_is_better(nodes: list[dict[str, Any]]) -> bool:
    """As the first good node says it."""
    stated = (document.mapping(node.get("metric")).get("maximize") for node in nodes if not _buggy(node))
    return next((not maximize for maximize in stated if isinstance(maximize, bool)), False)
