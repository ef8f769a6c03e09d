"""A word put in from outside: a message that comes last in the next conversation of a fork, and stays in it."""

from __future__ import annotations

from collections.abc import Sequence

from trellis.models.messages import Message
from trellis.trajectories.source import Source


class Interjection:
    """Said once, in the first call that is not answered by the fork's source, on the branch that was forked or on one
    that begins afterwards."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._branch = ""
        self._before: Message | None = None
        self._index = 0

    def into(self, branch: str, calls: int, messages: Sequence[Message]) -> Sequence[Message]:
        """The conversation with the message where it belongs. `calls`: how many the branch has made before this one."""
        said, source = self._source.message, self._source
        if said is None:
            return messages
        if not self._branch:
            known = source.recorded.calls(branch)
            if calls < known or (branch != source.branch and known):
                return messages
            self._branch, self._index = branch, len(messages)
            self._before = messages[-1] if messages else None
            return [*messages, said]
        if branch != self._branch:
            return messages
        at = self._place(messages)
        return messages if at is None else [*messages[:at], said, *messages[at:]]

    def _place(self, messages: Sequence[Message]) -> int | None:
        """After the message that it followed; where that was edited, at the same place. None: the history is another,
        such as a summary of the one that held it."""
        for index, message in enumerate(messages, 1):
            if message is self._before or message == self._before:
                return index
        if self._before is None or len(messages) < self._index:
            return None
        return self._index if messages[self._index - 1].role == self._before.role else None
