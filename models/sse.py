"""Server-sent events (WHATWG HTML, 9.2.6) from the raw bytes of an answer, and what makes one body of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from trellis.models.retry import TransientError

Event = Mapping[str, Any]
"""The data of one event, parsed."""
DONE: Event = {"done": True}
"""The event `data: [DONE]`, which says that nothing follows; recognised by identity."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
"""The three of the standard, and no other: JSON may contain U+2028 and its like."""


class Assembler(Protocol):
    """Makes the body that an answer would have had without streaming out of the events of a stream. Pure: it does not
    wait, and one object serves one attempt."""

    def feed(self, event: Event) -> None:
        """Take the next event; `DONE` is one of them. Error events never come here.

        Raises:
            TransientError: the stream is damaged.
        """
        ...

    def whole(self) -> Mapping[str, Any] | None:
        """The body, once the format's own end mark has come; None before. Cheap: asked after every event."""
        ...


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The events in a stream of bytes, each parsed as JSON once. An event that is cut off is none.

    Raises:
        TransientError: data that is not a JSON object.
    """
    data: list[bytes] = []
    async for line in _lines(chunks):
        if not line:
            if data:
                yield _parsed(b"\n".join(data))
                data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pieces: list[bytes] = []  # of the line that has not ended: joined once, however many chunks it takes
    after_return = False
    async for chunk in chunks:
        if after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if not chunk:
            continue
        after_return = chunk.endswith(b"\r")
        first, *rest = _LINE_END.split(chunk)
        pieces.append(first)
        for line in rest:
            yield b"".join(pieces)
            pieces = [line]


def _parsed(data: bytes) -> Event:
    if data.strip() == b"[DONE]":
        return DONE
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise TransientError("the stream is damaged: an event is not a JSON object")
    return event
