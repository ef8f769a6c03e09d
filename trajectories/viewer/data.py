"""What the viewer shows of an episode, as JSON documents: whole for a step, in windows for a trajectory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import Any

from trellis.models.messages import Message, message_to_json, part_to_json
from trellis.models.model import Usage
from trellis.trajectories.files import FileDiff, Files
from trellis.trajectories.recorded import ASKS, GRADER, unpack
from trellis.trajectories.trajectory import Act, Note, Step, Trajectory

CLIP = 20_000
"""Characters of a text that come with a step; the rest is sent when it is asked for."""
MOST_LINES = 2000
"""Of a difference between two nodes' codes."""
MOST_CHANGES = 200
"""Files of a call whose differences come with it."""


class EpisodeData:
    """The documents of one trajectory. Not for several threads at a time."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._files = Files(trajectory)

    def overview(self) -> dict[str, Any]:
        """What it was, and how much of it there is."""
        trajectory = self.trajectory
        header = trajectory.header
        return {
            "header": {name: value for name, value in header.items() if name not in ("seq", "at", "branch", "kind")},
            "steps": len(trajectory),
            "judged": trajectory.judged,
            "events": len(trajectory.file),
            "ended_at": trajectory.file.entries[-1].at,
            "branches": [
                {"name": b.name, "parent": b.parent, "steps": len(b.steps)}
                for b in trajectory.branches.values()
                if b.name != GRADER
            ],
            "nodes": [{"seq": note.seq, "at": note.at, **note.data} for note in trajectory.notes("node")],
        }

    def timeline(self) -> dict[str, list[Any]]:
        """A column for each number of a step; what has no reply has None there."""
        rows = [self._row(number) for number in range(1, len(self.trajectory) + 1)]
        names = ("branch", "began", "ended", "input", "output", "cost_usd", "acts", "errors")
        return {name: [row[index] for row in rows] for index, name in enumerate(names)}

    def steps(self, first: int, count: int) -> list[dict[str, Any]]:
        """The documents of `count` steps from number `first`; texts are clipped (see `clipped`)."""
        last = min(len(self.trajectory), first + count - 1)
        return [clipped(self.step(number)) for number in range(max(1, first), last + 1)]

    def judgements(self) -> list[dict[str, Any]]:
        return [clipped(self._document(step)) for step in self.trajectory.judgements()]

    def step(self, number: int) -> dict[str, Any]:
        """Raises IndexError: there is no such step."""
        return self._document(self.trajectory.step(number))

    def opening(self, branch: str) -> list[dict[str, Any]]:
        """What happened on a branch before its first step. Raises KeyError: there is no such branch."""
        trajectory = self.trajectory
        seqs = trajectory.branches[branch].opening
        acts = [seq for seq in seqs if trajectory.file.entries[seq].kind == "act.begun"]
        return [clipped(self._act(trajectory.act(seq))) for seq in acts]

    def conversation(self, number: int) -> list[dict[str, Any]]:
        """Everything that the call of a step sent. Raises IndexError."""
        step = self.trajectory.step(number)
        return [clipped(_message(message)) for message in self.trajectory.conversation(step)]

    def events(self, number: int) -> list[Mapping[str, Any]]:
        """The events of a step as they are in the log. Raises IndexError."""
        step = self.trajectory.step(number)
        return list(self.trajectory.file.events(range(step.seq, self.trajectory.last_event(step) + 1)))

    def node(self, id: int) -> dict[str, Any]:
        """A node of a tree search: its code and output, which are in its branch. Raises KeyError: there is none."""
        notes = {note.data.get("id"): note for note in self.trajectory.notes("node")}
        note = notes[id]
        parent = notes.get(note.data.get("parent"))
        code, output = self._script(note)
        before = self._script(parent)[0] if parent else ""
        diff = (
            list(unified_diff(before.splitlines(), code.splitlines(), "parent", "node", lineterm="")) if before else []
        )
        return {**note.data, "code": code, "output": output, "diff": "\n".join(diff[:MOST_LINES]),
                "steps": self._steps_of(note)}  # fmt: skip

    def search(self, text: str, most: int) -> list[int]:
        """Numbers of the first steps that hold the text, in whatever case: in what was sent first there, in the reply,
        or in what it set off."""
        wanted, found = text.casefold(), dict[int, None]()
        trajectory, pending, current, number = self.trajectory, set[str](), dict[str, int](), 0
        for event in trajectory.file.events():
            branch, kind = event["branch"], event["kind"]
            hit = bool(wanted) and any(wanted in each.casefold() for each in texts(self._whole(event)))
            if branch == GRADER:
                continue
            if kind == "message":  # it stands before the call that sends it, or the end of the one that it answers
                pending |= {branch} if hit else set()
                continue
            if kind.removesuffix(".begun") in ASKS:
                number += 1
                current[branch] = number
            if (hit or branch in pending) and branch in current and kind != "tools":
                found[current[branch]] = None
                pending.discard(branch)
            if len(found) == most:
                break
        return list(found)

    # --- inside ---

    def _whole(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of an event is searched, also where it lies in a blob."""
        load = self.trajectory.blobs.load
        said = {
            name: value for name, value in event.items() if name not in ("branch", "kind", "hash", "request", "chain")
        }
        if event["kind"] == "message" and "blob" in event:
            said = json.loads(load(event["blob"]))
        for member in ("what", "answer"):
            if isinstance(event.get(member), Mapping):
                said[member] = unpack(event[member], load)
        return said

    def _row(self, number: int) -> tuple[Any, ...]:
        trajectory = self.trajectory
        begun = trajectory.begun(number)
        entry = trajectory.file.entries[begun]
        done = trajectory.ended(begun)
        acts = [seq for seq in trajectory.inner(number) if trajectory.file.entries[seq].kind == "act.begun"]
        if done is None:
            return entry.branch, entry.at, None, None, None, None, len(acts), 0
        event = trajectory.file.event(done)
        usage = Usage(**event.get("usage", {}))
        errors = sum(result.is_error for seq in acts if (result := trajectory.act(seq).result))
        return (entry.branch, entry.at, event["at"], usage.total_input, usage.total_output, event.get("cost_usd"),
                len(acts), errors)  # fmt: skip

    def _document(self, step: Step) -> dict[str, Any]:
        reply = step.reply
        return {
            "number": step.number,
            "branch": step.branch,
            "turn": step.turn,
            "kind": step.kind,
            "role": step.role,
            "model": step.model,
            "config": dict(step.config),
            "kept": step.kept,
            "given": [_message(message) for message in step.given],
            "reply": reply
            and {
                **_message(reply.message),
                "stop_reason": reply.stop_reason,
                "usage": reply.usage.to_json(),
                "cost_usd": reply.cost_usd,
                "latency_s": reply.latency_s,
                "waited_s": reply.waited_s,
                "retries": reply.retries,
                "cached": reply.cached,
                "dropped": list(reply.dropped),
            },
            "overflow": step.overflow,
            "cut_off": step.done is None,
            "began": step.begun_at,
            "ended": step.ended_at,
            "acts": [self._act(act) for act in step.acts],
            "notes": [{"kind": note.kind, "at": note.at, "data": dict(note.data)} for note in step.notes],
        }

    def _act(self, act: Act) -> dict[str, Any]:
        return {
            "seq": act.seq,
            "branch": act.branch,
            "call": part_to_json(act.call, _name),
            "result": act.result and part_to_json(act.result, _name),
            "began": act.begun_at,
            "ended": act.ended_at,
            "handed_in": act.handed_in,
            "changes": [_change(diff) for diff in list(self._files.of(act))[:MOST_CHANGES]],
            "more_changes": act.more_changes + max(0, len(act.changes) - MOST_CHANGES),
        }

    def _script(self, note: Note) -> tuple[str, str]:
        """The code of a node and what came of it: the first call of `python` on its branch."""
        trajectory = self.trajectory
        branch = trajectory.branches.get(str(note.data.get("branch")))
        for seq in branch.acts if branch else ():
            act = trajectory.act(seq)
            if act.call.name == "python":
                return str(act.call.arguments.get("code", "")), act.result.text if act.result else ""
        return "", ""

    def _steps_of(self, note: Note) -> list[int]:
        branch = self.trajectory.branches.get(str(note.data.get("branch")))
        return list(branch.steps) if branch else []


def clipped(value: Any, place: Sequence[str | int] = ()) -> Any:
    """The document with every long text cut: `{"clipped": the beginning, "chars": of all, "at": where it is}`."""
    if isinstance(value, str) and len(value) > CLIP:
        return {"clipped": value[:CLIP], "chars": len(value), "at": "/".join(map(str, place))}
    if isinstance(value, Mapping):
        return {name: clipped(inner, (*place, name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clipped(inner, (*place, index)) for index, inner in enumerate(value)]
    return value


def text_at(document: Any, place: str) -> str:
    """The whole of a text that was clipped. Raises KeyError: there is none."""
    found = document
    for name in place.split("/"):
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(place) from None
    if not isinstance(found, str):
        raise KeyError(place)
    return found


def texts(value: Any) -> Iterator[str]:
    """All texts in a document, but for its names of members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def _message(message: Message) -> dict[str, Any]:
    """Without what belongs to the provider: it is in the raw events."""
    document = message_to_json(message, _name)
    for part in document["parts"]:
        part.pop("raw", None)
    return document


def _change(diff: FileDiff) -> dict[str, Any]:
    return {"path": diff.path, "kind": diff.kind, "said": diff.said, "diff": diff.diff, "size": diff.size}


def _name(data: bytes) -> str:
    """Media came from blobs, which are named by what they hold."""
    return hashlib.sha256(data).hexdigest()
