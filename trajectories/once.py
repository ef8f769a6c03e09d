"""Messages and sets of tools in a log: each is written once, and referred to by the hash of its text afterwards."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable

from trellis.models.messages import Message, message_to_json
from trellis.models.model import ToolSpec
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.log import encode
from trellis.trajectories.recorded import Recorded
from trellis.trajectories.redaction import Redaction
from trellis.trajectories.unwritten import HeldBlobs

INLINE_LIMIT = 32 * 1024
"""Longer payloads (characters of JSON) go to a blob."""


class Once:
    """What one log holds of them."""

    def __init__(
        self, event: Callable[..., int], redact: Redaction, blobs: Blobs | HeldBlobs, recorded: Recorded
    ) -> None:
        """`event(kind, branch, members, **data)` appends to the log; `recorded` is what that held in the beginning."""
        self._event = event
        self._redact = redact
        self._blobs = blobs
        self._messages = set(recorded.messages)
        """Names of those that are in the log."""
        self._tools = set(recorded.tools)
        self._known: dict[int, tuple[weakref.ref[Message], str]] = {}
        """By identity: the names of messages that were met."""
        self._offered: tuple[tuple[ToolSpec, ...], str] | None = None

    def message(self, message: Message) -> tuple[str, str]:
        """The name of a message, and what its event is to hold; that is empty where the log has it. Its blobs are
        stored."""
        known = self._known.get(id(message))
        if known is not None and known[0]() is message and known[1] in self._messages:
            return known[1], ""
        text = self._redact(encode(message_to_json(message, self._blobs.store)))
        name = short_hash(text)
        identity, all_known = id(message), self._known
        all_known[identity] = (weakref.ref(message, lambda _: all_known.pop(identity, None)), name)
        return name, "" if name in self._messages else self.packed(text)[1:-1]

    def write(self, branch: str, name: str, members: str) -> str:
        """Write a message that is not in the log by now, as `message` tells it; its name."""
        if members and name not in self._messages:
            self._messages.add(name)
            self._event("message", branch, members, hash=name)
        return name

    def write_tools(self, branch: str, tools: tuple[ToolSpec, ...]) -> str:
        """Write what is on offer, if it is not in the log; its name."""
        if self._offered is not None and self._offered[0] == tools:
            return self._offered[1]
        specs = [spec.to_json() for spec in tools]
        name = short_hash(encode(specs))
        if name not in self._tools:
            self._tools.add(name)
            self._event("tools", branch, hash=name, specs=specs)
        self._offered = tools, name
        return name

    def packed(self, text: str) -> str:
        """An object as JSON (without secrets), or, where it is long, the name of the blob that holds it."""
        return text if len(text) <= INLINE_LIMIT else encode({"blob": self._blobs.store(text.encode())})


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
