"""AIDE: `journal.json` of version 2, the tree of a search. Only what searched with scripts as nodes has one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trellis.models.messages import ToolResult
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import ConversionError, Losses
from trellis.trajectories.converters.lost import HEADER, JUDGED, OUTCOME
from trellis.trajectories.converters.pieces import document
from trellis.trajectories.converters.telling import Told
from trellis.trajectories.trajectory import Act, Note

FORMAT = "aide"
PLACE = "{benchmark}/{task}/{agent}/{epoch}/journal.json"
PROMPTS = "prompts of the calls of the model, and its whole replies (plan and code are told)"
ACTS = "tool calls other than the run of a node"
STACKS = "traces of failed runs as data (they are in the output)"
NO_CODE = "nodes that are no script (an edited repository): their code is empty"
NOTES = "events of the scaffold and of the world besides nodes"
USAGE = "models, settings, token counts and costs of calls, and how long they took"
LOSSES = (PROMPTS, USAGE, ACTS, STACKS, NO_CODE, JUDGED, NOTES, OUTCOME, HEADER)
_RAISED = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit|Warning))\b", re.MULTILINE)


def write(told: Told, path: Path, losses: Losses) -> None:
    """Raises ConversionError: the episode was no search."""
    trajectory = told.trajectory
    if next(trajectory.notes("node"), None) is None:
        raise ConversionError(f"{trajectory.path}: no search tree; a journal of AIDE is one of scripts")
    parents: dict[str, str] = {}
    with document(path) as pieces:
        with pieces.array("nodes"):
            for step, note in enumerate(trajectory.notes("node")):
                node = _node(told, note, step, losses)
                if note.data.get("parent") is not None:
                    parents[node["id"]] = _id(told, note.data["parent"])
                pieces.put(node)
        pieces.members(node2parent=parents, __version="2")
    _count(told, losses)


def _node(told: Told, note: Note, step: int, losses: Losses) -> dict[str, Any]:
    data = note.data
    run = next(_runs(told, str(data.get("branch", ""))), None)
    code = str(run.call.arguments["code"]) if run else ""
    raised = _raised(run.result) if run and run.result else None
    losses.add(NO_CODE, int(run is None))
    losses.add(STACKS, int(raised is not None))
    metric = data.get("metric")
    lower = data.get("lower_is_better")
    return {
        "code": code,
        "plan": data.get("plan", ""),
        "step": step,
        "id": _id(told, data.get("id")),
        "ctime": told.clock_zero.timestamp() + note.at,
        "parent": None,
        "children": [],
        "_term_out": [run.result.text] if run and run.result else [],
        "exec_time": data.get("exec_time_s"),
        "exc_type": raised,
        "exc_info": None,
        "exc_stack": None,
        "analysis": data.get("analysis", ""),
        "metric": {"value": metric, "maximize": None if metric is None or lower is None else not lower},
        "is_buggy": bool(data.get("is_buggy")),
    }


def _id(told: Told, number: Any) -> str:
    """As AIDE's ids look; the same in each export of this episode."""
    return telling.digest(f"{told.header.get('episode')}/{number}")[:32]


def _runs(told: Told, branch: str) -> Iterator[Act]:
    """The runs of scripts in a node's branch; the first is the node's."""
    trajectory = told.trajectory
    held = trajectory.branches.get(branch)
    acts = (trajectory.act(seq) for seq in (held.acts if held else ()))
    return (act for act in acts if act.call.name == "python" and isinstance(act.call.arguments.get("code"), str))


def _raised(result: ToolResult) -> str | None:
    """The type of the exception that ended a run, as far as its output shows it; None: it ended well."""
    if named := result.data.get("imported", {}).get("exc_type"):
        return str(named)
    if result.data.get("timed_out"):
        return "TimeoutError"
    if not result.data.get("exit_code"):
        return None
    found = _RAISED.findall(result.text)
    return found[-1] if found else "SystemExit"


def _count(told: Told, losses: Losses) -> None:
    trajectory = told.trajectory
    nodes = sum(1 for _ in trajectory.notes("node"))
    acts = sum(len(branch.acts) for branch in trajectory.branches.values())
    losses.add(PROMPTS, len(trajectory))
    losses.add(USAGE, len(trajectory))
    losses.add(ACTS, max(0, acts - nodes))
    losses.add(JUDGED, trajectory.judged)
    losses.add(NOTES, telling.notes_in(trajectory) - nodes)
    losses.add(OUTCOME, sum(1 for _ in trajectory.notes("submit")))
    losses.add(HEADER, lost.facts_of(told.header))
