"""A word put in from outside: a message that comes last in the next conversation of a fork, and stays in it, also in
forks of the fork."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from trellis.models.messages import Message
from trellis.trajectories.recorded import GRADER
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.source import Source


@dataclass(frozen=True, slots=True)
class _Said:
    message: Message
    before: Message | None
    """The message that it followed."""
    index: int
    """How many did."""

    def place(self, messages: Sequence[Message]) -> int | None:
        """After the message that it followed; where that was edited, at the same place. None: the history is another,
        such as a summary of the one that held it."""
        for index, message in enumerate(messages, 1):
            if message is self.before or message == self.before:
                return index
        if self.before is None or len(messages) < self.index:
            return None
        return self.index if messages[self.index - 1].role == self.before.role else None


class Interjections:
    """What a fork is told is said in the first call of the forked branch that is not answered by its source, or, where
    that makes none before, of a branch that begins afterwards. What a log tells of is said again where it was."""

    def __init__(self, recorder: Recorder, source: Source | None) -> None:
        self._recorder = recorder
        self._source = source
        self._said: defaultdict[str, list[_Said]] = defaultdict(list)
        """By branch."""
        self._heard = recorder.has_said()
        """The branches that were told what this fork is told."""

    def into(
        self, kind: str, branch: str, calls: int, messages: Sequence[Message]
    ) -> tuple[Sequence[Message], Message | None]:
        """The conversation with what was put in where it belongs, and what is put in with this call. `calls`: how many
        the branch has made before this one."""
        new = self._recorder.said(kind, branch) or self._told(branch, calls)
        if new is not None:
            self._said[branch].append(_Said(new, messages[-1] if messages else None, len(messages)))
        if not (said := self._said.get(branch)):
            return messages, None
        whole = list(messages)
        for each in reversed(said):
            if (at := each.place(messages)) is not None:
                whole.insert(at, each.message)
        return whole, new

    def _told(self, branch: str, calls: int) -> Message | None:
        """What this fork is told, if it is told it with this call."""
        source = self._source
        if source is None or source.message is None or branch == GRADER or branch in self._heard:
            return None
        if branch == source.branch:
            due = calls >= source.recorded.calls(branch)
        else:
            due = not self._heard and branch not in source.recorded.branches
        if due:
            self._heard.add(branch)
        return source.message if due else None
