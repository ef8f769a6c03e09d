"""The files that tool calls changed, as differences: what a file held before is told by the call itself, or by the last
call before it on the same line of worlds."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trellis.environments.capture.patch import Changed, File, patch
from trellis.trajectories.trajectory import Act, Trajectory


@dataclass(frozen=True, slots=True)
class FileDiff:
    """What became of a file. Content that is not recorded (not text, large, held back) is None."""

    path: str
    kind: str
    """`added`, `modified` or `deleted`."""
    mode: int
    size: int
    sha256: str
    before: bytes | None
    after: bytes | None

    @property
    def said(self) -> str:
        """Why there is no `diff`; empty where there is one."""
        if self.kind != "deleted" and self.after is None:
            return "its content is not recorded: it is not text, or large"
        if self.kind != "added" and self.before is None:
            return "what it held before is not recorded"
        if self.before == self.after:
            return f"mode {self.mode & 0o7777:o}"
        return ""

    @property
    def diff(self) -> str:
        """A unified diff, as git writes it."""
        if self.said:
            return ""
        before, after = (None if data is None else File(0o100644, data) for data in (self.before, self.after))
        changed = Changed(os.fsencode(self.path), before, after)
        return patch([changed]).decode("utf-8", "replace")

    @property
    def hunks(self) -> str:
        """The diff without its head, which names the file."""
        return _hunks(self.diff)


class Files:
    """The files of a trajectory. Asked act by act in order, nothing is read twice."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory
        self._performed: dict[str, list[int]] = {}
        self._known: dict[str, tuple[int, dict[str, str]]] = {}
        """Branch -> what the files held after so many of its acts: path -> hash."""

    def of(self, act: Act) -> Iterator[FileDiff]:
        """What this act changed, sorted by path."""
        if not act.changes:
            return
        known = self._before(act) if any(_needs_more(change) for change in act.changes) else {}
        for change in act.changes:
            path, kind = change["path"], change["kind"]
            before = None
            if kind != "added":
                before = self._load(change["before"]["blob"] if "before" in change else known.get(path, ""))
            after = self._load(change["sha256"]) if change["text"] else None
            yield FileDiff(path, kind, change["mode"], change["size"], change["sha256"], before, after)

    def _load(self, name: str) -> bytes | None:
        try:
            return self._trajectory.blobs.load(name) if name else None
        except (OSError, ValueError):
            return None

    def _before(self, act: Act) -> Mapping[str, str]:
        performed = self._performed.get(act.branch, [])
        if not performed or performed[-1] < act.seq:
            performed = self._performed[act.branch] = self._trajectory.performed(act.branch)
        position = bisect_left(performed, act.seq)
        done, known = self._known.get(act.branch, (position + 1, {}))
        if done > position:
            done, known = 0, self._at_the_beginning(act.branch)
        for seq in performed[done:position]:
            self._take_in(seq, known)
        self._known[act.branch] = (position, known)
        return known

    def _at_the_beginning(self, branch: str) -> dict[str, str]:
        """By the acts of the worlds that it was forked from."""
        branches = self._trajectory.branches
        line: list[tuple[str, int]] = []
        begun = {branch}
        while (parent := branches[branch].parent) in branches and parent not in begun:
            line.append((parent, branches[branch].position))
            begun.add(parent)
            branch = parent
        known: dict[str, str] = {}
        for name, position in reversed(line):
            for seq in self._trajectory.performed(name)[:position]:
                self._take_in(seq, known)
        return known

    def _take_in(self, seq: int, known: dict[str, str]) -> None:
        for change in self._trajectory.act(seq).changes:
            known[change["path"]] = change["sha256"] if change["text"] else ""


def text_diff(before: str, after: str) -> str:
    """The hunks of a unified diff of two texts; empty where they are the same."""
    old, new = (File(0o100644, text.encode("utf-8", "surrogatepass")) for text in (before, after))
    return _hunks(patch([Changed(b"text", old, new)]).decode("utf-8", "replace"))


def _hunks(diff: str) -> str:
    _, hunk, rest = diff.partition("\n@@")
    return "@@" + rest if hunk else diff


def _needs_more(change: Mapping[str, Any]) -> bool:
    return change["kind"] != "added" and "before" not in change
