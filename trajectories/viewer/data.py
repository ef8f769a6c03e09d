"""What the viewer shows of an episode, as JSON documents: whole for a step, in windows for a trajectory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from trellis.models.messages import Message, message_to_json, part_to_json
from trellis.models.model import Usage
from trellis.trajectories.files import FileDiff, Files, text_diff
from trellis.trajectories.log import LogError
from trellis.trajectories.recorded import ASKS, GRADER, unpack
from trellis.trajectories.trajectory import Act, Branch, Note, Step, Trajectory
from trellis.trajectories.viewer.documents import CLIP, clipped, encoded, is_number, loose, shortened, text_at, texts

MOST_CHANGES = 200
"""Files of a call whose differences come with it."""
MOST_EVENTS = 1000
"""Events of a step that are shown as they are in the log: other branches may write many meanwhile."""
MOST_SENT = 500
"""Messages of a conversation that are sent: the last ones."""
_DRAWN = ("id", "parent", "branch", "stage", "is_buggy", "metric", "lower_is_better", "exec_time_s", "best", "plan")
"""What is told of each node of a search; the rest comes when one is asked for."""


_PLACE = ("seq", "at", "branch", "kind")
_UNSAID = ("branch", "kind", "hash", "request")


class EpisodeData:
    """The documents of one trajectory. Not for several threads at a time."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._files = Files(trajectory)
        self._rows: dict[int, tuple[Any, ...]] = {}
        """Of steps to which nothing is added any more."""

    def overview(self) -> dict[str, Any]:
        """What it was, and how much of it there is."""
        trajectory = self.trajectory
        header = {name: value for name, value in trajectory.header.items() if name not in _PLACE}
        if not isinstance(header.get("episode"), Mapping):
            header["episode"] = {"benchmark": "", "task": trajectory.path.name, "agent": "", "epoch": ""}
        return {
            "header": shortened(header, CLIP),
            "steps": len(trajectory),
            "judged": trajectory.judged,
            "events": len(trajectory.file),
            "ended_at": trajectory.file.entries[-1].at,
            "branches": [
                {"name": b.name, "parent": b.parent, "steps": len(b.steps), "opening": len(self._opening(b))}
                for b in trajectory.branches.values()
                if b.name != GRADER
            ],
            "nodes": [
                {"seq": note.seq, "at": note.at, **shortened({n: note.data[n] for n in _DRAWN if n in note.data})}
                | {name: _id(note.data.get(name)) for name in ("id", "parent")}
                for note in trajectory.notes("node")
            ],
        }

    def timeline(self) -> dict[str, list[Any]]:
        """A column for each number of a step; what has no reply, or cannot be read, has None there."""
        rows = [self._row(number) for number in range(1, len(self.trajectory) + 1)]
        names = ("branch", "began", "ended", "input", "output", "cost_usd", "tools", "errors")
        return {name: [row[index] for row in rows] for index, name in enumerate(names)}

    def read_ahead(self, first: int, count: int) -> bool:
        """Prepare the rows of some steps for `timeline`; are there any?"""
        numbers = range(first, min(len(self.trajectory) + 1, first + count))
        for number in numbers:
            self._row(number)
        return len(numbers) > 0

    def steps(self, first: int, count: int) -> list[dict[str, Any]]:
        """The documents of `count` steps from number `first`; texts are clipped (see documents.py). In the place of one
        that cannot be read is `{"number", "damaged": why}`."""
        last = min(len(self.trajectory), first + count - 1)
        return [self._readable(number) for number in range(max(1, first), last + 1)]

    def judgements(self) -> list[dict[str, Any]]:
        return [
            clipped(self._document(step), ("judge", index)) for index, step in enumerate(self.trajectory.judgements())
        ]

    def step(self, number: int) -> dict[str, Any]:
        """With whole texts. Raises IndexError: there is no such step."""
        return self._document(self.trajectory.step(number))

    def opening(self, branch: str) -> list[dict[str, Any]]:
        """What happened on a branch before its first step. Raises KeyError: there is no such branch."""
        trajectory = self.trajectory
        acts = self._opening(trajectory.branches[branch])
        return [clipped(self._act(trajectory.act(seq)), ("act", seq)) for seq in acts]

    def conversation(self, number: int) -> dict[str, Any]:
        """What the call of a step sent: the last messages, and how many stand before them. Raises IndexError."""
        trajectory = self.trajectory
        names = trajectory.sent(trajectory.step(number))
        last = names[-MOST_SENT:]
        return {
            "before": len(names) - len(last),
            "messages": [clipped(_message(trajectory.message(name)), ("message", name)) for name in last],
        }

    def events(self, number: int) -> list[Any]:
        """The events of a step as they are in the log. Raises IndexError."""
        step = self.trajectory.step(number)
        seqs = range(step.seq, min(self.trajectory.last_event(step) + 1, step.seq + MOST_EVENTS))
        return [shortened(loose(event), CLIP) for event in self.trajectory.file.events(seqs)]

    def node(self, id: str) -> dict[str, Any]:
        """A node of a tree search: its code and output, which are in its branch; texts are clipped. Raises KeyError."""
        return dict(clipped(self._node(id), ("node", id)))

    def text(self, at: str) -> str:
        """The whole of a text that was clipped. Raises KeyError, IndexError."""
        kind, key, *place = at.split("/") if at.count("/") > 1 else ("", "")
        whole: Any = None
        if kind == "message":
            whole = _message(self.trajectory.message(key))
        elif kind == "node":
            whole = self._node(key.replace("~1", "/").replace("~0", "~"))
        elif key.isascii() and key.isdecimal() and len(key) < 10:
            match kind:
                case "step":
                    whole = self.step(int(key))
                case "judge":
                    whole = next(
                        (self._document(s) for s in islice(self.trajectory.judgements(), int(key), None)), None
                    )
                case "act" if int(key) in self.trajectory.branches[self.trajectory.file.entries[int(key)].branch].acts:
                    whole = self._act(self.trajectory.act(int(key)))
        return text_at(whole, place)

    def search(self, text: str, most: int) -> list[int]:
        """Numbers of the first steps that hold the text, in whatever case: in what was sent first there, in the reply,
        or in what it set off."""
        wanted, found = text.casefold(), dict[int, None]()
        trajectory, pending, current, number = self.trajectory, set[str](), dict[str, int](), 0
        for event in trajectory.file.events():
            branch, kind = event["branch"], event["kind"]
            hit = bool(wanted) and any(wanted in each.casefold() for each in self._said(event))
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

    def _said(self, event: Mapping[str, Any]) -> list[str]:
        """The texts of an event, also those that lie in a blob that can be read."""
        load = self.trajectory.blobs.load
        said: dict[str, Any] = {name: value for name, value in event.items() if name not in _UNSAID}
        try:
            if event["kind"] == "message" and "blob" in event:
                said = json.loads(load(event["blob"]))
            if said.get("role") == "tool":
                return []  # the act of the step before says the same
            for member in ("what", "answer"):
                if isinstance(event.get(member), Mapping):
                    said[member] = unpack(event[member], load)
        except (LogError, OSError, ValueError):
            pass  # what is left is searched
        return list(texts(said))

    def _row(self, number: int) -> tuple[Any, ...]:
        if number in self._rows:
            return self._rows[number]
        trajectory = self.trajectory
        begun = trajectory.begun(number)
        entry = trajectory.file.entries[begun]
        inner = trajectory.inner(number)
        acts = [seq for seq in inner if trajectory.file.entries[seq].kind == "act.begun"]
        done = trajectory.ended(begun)
        if done is None:
            return entry.branch, entry.at, None, None, None, None, self._tools(acts), 0
        try:
            event = trajectory.file.event(done)
            usage, cost = Usage(**event.get("usage", {})), event.get("cost_usd")
            errors = sum(map(self._failed, acts))
            row = (entry.branch, entry.at, trajectory.file.entries[done].at, _sum(usage.total_input),
                   _sum(usage.total_output), cost if is_number(cost) else None, self._tools(acts), errors)  # fmt: skip
        except (LogError, OSError, ValueError, TypeError, KeyError):
            row = entry.branch, entry.at, trajectory.file.entries[done].at, None, None, None, [], 0
        if trajectory.branches[entry.branch].steps[-1] != number:
            self._rows[number] = row
        return row

    def _opening(self, branch: Branch) -> list[int]:
        return [seq for seq in branch.opening if self.trajectory.file.entries[seq].kind == "act.begun"]

    def _tools(self, acts: Iterable[int]) -> list[str]:
        """Names of the tools that were called; those that cannot be read are left out."""
        names = dict[str, None]()
        for act in acts:
            try:
                what = unpack(self.trajectory.file.event(act)["what"], self.trajectory.blobs.load)
                names[str(what["name"])] = None
            except (LogError, OSError, ValueError, TypeError, KeyError):
                continue
        return list(names)

    def _failed(self, act: int) -> bool:
        done = self.trajectory.ended(act)
        if done is None:
            return False
        answer = unpack(self.trajectory.file.event(done)["answer"], self.trajectory.blobs.load)
        return bool(answer["result"]["is_error"])

    def _readable(self, number: int) -> dict[str, Any]:
        try:
            return dict(clipped(self.step(number), ("step", number)))
        except (LogError, OSError, RecursionError) as error:
            return {"number": number, "damaged": str(error)}

    def _node(self, id: str) -> dict[str, Any]:
        notes = {str(_id(note.data.get("id"))): note for note in self.trajectory.notes("node")}
        if id not in notes:
            raise KeyError(f"there is no node {id!r}")
        note = notes[id]
        parent = notes.get(str(_id(note.data.get("parent"))))
        code, output = self._script(note)
        before = self._script(parent)[0] if parent else ""
        diff = text_diff(before, code) if before else ""
        said = loose(note.data)
        for name in ("plan", "analysis"):
            if not isinstance(said.get(name) or "", str):
                said[name] = encoded(said[name])
        return {**said, "code": code, "output": output, "diff": diff, "steps": self._steps_of(note)}

    def _document(self, step: Step) -> dict[str, Any]:
        reply = step.reply
        return {
            "number": step.number,
            "branch": step.branch,
            "turn": step.turn,
            "kind": step.kind,
            "role": step.role,
            "model": shortened(step.model),
            "config": loose(step.config),
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
                "dropped": shortened(list(reply.dropped)),
            },
            "overflow": shortened(step.overflow),
            "cut_off": step.done is None,
            "began": step.begun_at,
            "ended": step.ended_at,
            "acts": [self._act(act) for act in step.acts],
            "notes": [{"kind": note.kind, "at": note.at, "data": loose(note.data)} for note in step.notes],
        }

    def _act(self, act: Act) -> dict[str, Any]:
        return {
            "seq": act.seq,
            "branch": act.branch,
            "call": _call(part_to_json(act.call, _name)),
            "result": act.result and _result(part_to_json(act.result, _name)),
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


def _message(message: Message) -> dict[str, Any]:
    document = message_to_json(message, _name)
    return {**document, "parts": [_part(part) for part in document["parts"]]}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """Without what belongs to the provider: it is in the events as they are in the log."""
    part.pop("raw", None)
    return _call(part) if part["kind"] == "tool_call" else _result(part) if part["kind"] == "tool_result" else part


def _call(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "id": shortened(part["id"]), "name": shortened(part["name"]), "arguments": loose(part["arguments"])}


def _result(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "name": shortened(part["name"]), "data": loose(part["data"]),
            "parts": [_part(inner) for inner in part["parts"]]}  # fmt: skip


def _change(diff: FileDiff) -> dict[str, Any]:
    try:
        said, text = diff.said, diff.diff
    except UnicodeEncodeError:
        said, text = "its name is not one that a file can have", ""
    return {"path": shortened(diff.path), "kind": diff.kind, "said": said, "diff": text, "size": diff.size}


def _id(value: Any) -> str | int | None:
    """What a node is called: by a scaffold of ours a number, by others anything."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53):
        return value
    text = str(shortened(value if isinstance(value, str) else encoded(value).strip('"')))
    return text.encode("utf-8", "replace").decode()  # as it comes back in an address


def _sum(tokens: Any) -> Any:
    return tokens if is_number(tokens) else None


def _name(data: bytes) -> str:
    """Media came from blobs, which are named by what they hold."""
    return hashlib.sha256(data).hexdigest()
